// The CUDA driver: the operators on the current stream of the tensors' device.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <limits>

#include "../spikes_call.h"
#include "compiled_neuron.h"
#include "elements.cuh"
#include "kernels.h"
#include "loaded_neuron.h"

namespace snn::cuda {

namespace {

template <class Call>
cudaError_t enqueue_any(const Call& call, const Grid& grid, Stream stream) {
  if (call.compiled) {
    const auto& neuron = *static_cast<const CompiledNeuron*>(call.compiled);
    return static_cast<cudaError_t>(neuron.enqueue(call, grid, stream));
  }
  return with_element(call, [&](auto element) {
    return enqueue<decltype(element)>(call, grid, static_cast<cudaStream_t>(stream.handle));
  });
}

template <class T>
const char* operator_name(const Forward<T>&) {
  return "snnkernels::scan_forward";
}
template <class T>
const char* operator_name(const Backward<T>&) {
  return "snnkernels::scan_backward";
}

template <class Call>
void check(cudaError_t error, const char* action, const Call& call) {
  STD_TORCH_CHECK(error == cudaSuccess, operator_name(call), ": could not ", action, ": ",
                  cudaGetErrorString(error), " (", cudaGetErrorName(error), "); T = ", call.steps,
                  ", lanes = ", call.lanes);
}

cudaStream_t current_stream(int device) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

struct Driver {
  static constexpr int kChunk = SNN_CUDA_CHUNK;
  static constexpr auto empty = empty_from_torch;

  template <class Call>
  static void launch(const Call& call, const Tensor& like) {
    const int device = like.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    // A thread may have no context yet, which the guard does not give it.
    check(cudaSetDevice(device), "make the device current", call);
    int multiprocessors = 0;
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
          "read the device's properties", call);
    const Grid grid = grid_of(call, multiprocessors);
    STD_TORCH_CHECK(grid.blocks <= std::numeric_limits<int>::max(), operator_name(call),
                    ": expected fewer lanes, got ", call.lanes);
    check(enqueue_any(call, grid, {device, current_stream(device)}), "launch its kernel", call);
  }
};

struct SpikeDriver {
  static constexpr auto empty = empty_from_torch;

  template <class Call>
  static void run(const Call& call, const Tensor& like) {
    const int device = like.get_device_index();
    const torch::stable::accelerator::DeviceGuard guard(device);
    const int64 blocks = spike_blocks(call);
    STD_TORCH_CHECK(blocks <= std::numeric_limits<int>::max(),
                    "snnkernels: expected fewer elements than ", blocks, " blocks hold");
    const cudaError_t error = enqueue_spikes(call, blocks, current_stream(device));
    STD_TORCH_CHECK(error == cudaSuccess,
                    "snnkernels: could not launch a kernel on spikes: ", cudaGetErrorString(error),
                    " (", cudaGetErrorName(error), ")");
  }
};

}  // namespace

}  // namespace snn::cuda

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CUDA, m) {
  snn::implement_scans<snn::cuda::Driver>(m);
  snn::implement_spikes<snn::cuda::SpikeDriver>(m);
}

SNN_DEFINE_ADD_COMPILED_NEURON
SNN_DEFINE_ADD_LOADED_NEURON
