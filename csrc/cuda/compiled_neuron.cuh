// What a neuron that is compiled by itself for GPUs consists of.
#pragma once

#include <cuda_runtime_api.h>

#include "compiled_scan.cuh"

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

// Makes a shared object of the one neuron, for the loaded library to take in.
#define SNN_COMPILED_NEURON(Neuron, Surrogate, tables) \
  SNN_COMPILED_NEURON_LAUNCHED_BY(snn::cuda::StreamLauncher, Neuron, Surrogate, tables)
