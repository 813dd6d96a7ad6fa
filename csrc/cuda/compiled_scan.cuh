// A neuron that is compiled by itself, its kernels behind the interface that the driver calls.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime_api.h>
#endif

#include "compiled_neuron.h"
#include "scan.cuh"

namespace snn::cuda {

template <class S, class E, int V, class T>
auto kernel_of_width(const Forward<T>&, bool plain) {
  return plain ? forward_kernel<S, E, V, true, T> : forward_kernel<S, E, V, false, T>;
}
template <class S, class E, int V, class T>
auto kernel_of_width(const Backward<T>&, bool plain) {
  return plain ? backward_kernel<S, E, V, true, T> : backward_kernel<S, E, V, false, T>;
}

template <class S, class E, class T>
auto compiled_kernel(const Forward<T>& call, const Grid& grid) {
  constexpr int V = forward_width(sizeof(E));
  return grid.width == V ? kernel_of_width<S, E, V>(call, grid.plain)
                         : kernel_of_width<S, E, 1>(call, grid.plain);
}
template <class S, class E, class T>
auto compiled_kernel(const Backward<T>& call, const Grid& grid) {
  constexpr int V = backward_width(sizeof(E), S::kTables != 0);
  return grid.width == V ? kernel_of_width<S, E, V>(call, grid.plain)
                         : kernel_of_width<S, E, 1>(call, grid.plain);
}

// Launcher::launch(kernel, call, grid, stream) runs a kernel.
template <class S, class Launcher>
class CompiledScan final : public CompiledNeuron {
 public:
  CompiledScan() : CompiledNeuron({S::kStates, S::kParams, S::kOutputs, S::kTables, S::kShared}) {}

  int enqueue(const Forward<float>& call, const Grid& grid, Stream stream) const override {
    return launch(call, grid, stream);
  }
  int enqueue(const Forward<double>& call, const Grid& grid, Stream stream) const override {
    return launch(call, grid, stream);
  }
  int enqueue(const Backward<float>& call, const Grid& grid, Stream stream) const override {
    return launch(call, grid, stream);
  }
  int enqueue(const Backward<double>& call, const Grid& grid, Stream stream) const override {
    return launch(call, grid, stream);
  }

 private:
  template <class Call>
  static int launch(const Call& call, const Grid& grid, Stream stream) {
    return with_element(call, [&](auto element) {
      const auto kernel = compiled_kernel<S, decltype(element)>(call, grid);
      return Launcher::launch(kernel, call, grid, stream.handle);
    });
  }
};

}  // namespace snn::cuda

// Defines what the loaded library asks a shared object for.
#define SNN_COMPILED_NEURON_LAUNCHED_BY(Launcher, Neuron, Surrogate, tables, shared) \
  extern "C" __attribute__((visibility("default"))) const snn::NeuronSizes*          \
  snn_compiled_neuron() {                                                            \
    using Traits = snn::ScanTraits<Neuron, snn::Inline<Surrogate>, tables, shared>;  \
    static const snn::cuda::CompiledScan<Traits, Launcher> scan;                     \
    return &scan;                                                                    \
  }

#if defined(__CUDACC__)
namespace snn::cuda {

struct StreamLauncher {
  template <class Kernel, class Call>
  static int launch(Kernel kernel, const Call& call, const Grid& grid, void* stream) {
    const auto blocks = static_cast<unsigned>(grid.blocks);
    kernel<<<blocks, grid.threads, 0, static_cast<cudaStream_t>(stream)>>>(call);
    return cudaGetLastError();
  }
};

}  // namespace snn::cuda

#define SNN_COMPILED_NEURON(Neuron, Surrogate, tables, shared) \
  SNN_COMPILED_NEURON_LAUNCHED_BY(snn::cuda::StreamLauncher, Neuron, Surrogate, tables, shared)
#endif
