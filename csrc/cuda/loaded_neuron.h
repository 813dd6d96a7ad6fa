// A compiled neuron whose kernels are found one by one, when a call first needs them: what NVRTC
// makes of them comes from snnkernels/_backends/nvrtc/loading.py. Host code without CUDA.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>

#include "compiled_neuron.h"

namespace snn::cuda {

// Finds the kernel of a loaded neuron for calls of one kind on a device. Where it cannot it leaves
// null and writes why, ended by a zero.
using FindKernel = void (*)(int neuron, bool backward, int element, int width, bool plain,
                            int device, void** kernel, char* why, int why_size);

// As cuLaunchKernel.
using LaunchKernel = int (*)(void* kernel, unsigned blocks, unsigned, unsigned, unsigned threads,
                             unsigned, unsigned, unsigned shared_bytes, void* stream,
                             void** arguments, void** extra);

class LoadedNeuron final : public CompiledNeuron {
 public:
  LoadedNeuron(NeuronSizes sizes, int number, FindKernel find, LaunchKernel launch)
      : CompiledNeuron(sizes), number_(number), find_(find), launch_(launch) {}

  int enqueue(const Forward<float>& call, const Grid& grid, Stream stream) const override {
    return enqueue_any(false, call, grid, stream);
  }
  int enqueue(const Forward<double>& call, const Grid& grid, Stream stream) const override {
    return enqueue_any(false, call, grid, stream);
  }
  int enqueue(const Backward<float>& call, const Grid& grid, Stream stream) const override {
    return enqueue_any(true, call, grid, stream);
  }
  int enqueue(const Backward<double>& call, const Grid& grid, Stream stream) const override {
    return enqueue_any(true, call, grid, stream);
  }

 private:
  static constexpr int kDevices = 16;  // those of higher numbers ask each time
  static constexpr int kElements = 4;

  template <class Call>
  int enqueue_any(bool backward, const Call& call, const Grid& grid, Stream stream) const {
    void* const kernel = kernel_for(backward, static_cast<int>(call.element), grid, stream.device);
    void* arguments[] = {const_cast<Call*>(&call)};
    return launch_(kernel, static_cast<unsigned>(grid.blocks), 1, 1,
                   static_cast<unsigned>(grid.threads), 1, 1, 0, stream.handle, arguments, nullptr);
  }

  void* kernel_for(bool backward, int element, const Grid& grid, int device) const {
    if (device >= kDevices) return find(backward, element, grid, device);
    std::atomic<void*>& slot = kernels_[device][backward][element][grid.width > 1][grid.plain];
    void* kernel = slot.load(std::memory_order_acquire);
    if (!kernel) {
      kernel = find(backward, element, grid, device);
      slot.store(kernel, std::memory_order_release);
    }
    return kernel;
  }

  void* find(bool backward, int element, const Grid& grid, int device) const {
    void* kernel = nullptr;
    char why[4096] = "interrupted while a kernel was being found";
    find_(number_, backward, element, grid.width, grid.plain, device, &kernel, why, sizeof why);
    if (!kernel) throw std::runtime_error(why);
    return kernel;
  }

  const int number_;
  const FindKernel find_;
  const LaunchKernel launch_;
  mutable std::atomic<void*> kernels_[kDevices][2][kElements][2][2] = {};
};

}  // namespace snn::cuda

// Lets a library take in neurons whose kernels `find` gets by their number.
#define SNN_DEFINE_ADD_LOADED_NEURON                                                            \
  extern "C" __attribute__((visibility("default"))) void snn_add_loaded_neuron(                 \
      const char* name, const snn::NeuronSizes* sizes, int number, snn::cuda::FindKernel find,  \
      snn::cuda::LaunchKernel launch) {                                                         \
    snn::CompiledNeurons::add(name, new snn::cuda::LoadedNeuron(*sizes, number, find, launch)); \
  }
