// A neuron that is compiled by itself, its CUDA kernels' bodies run on the host.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>

#include <cstdint>
// Before the kernels, after everything else.
#include "cuda_shim.h"
// clang-format off
#include "cuda/compiled_scan.cuh"
// clang-format on

namespace shim {

struct Launcher {
  template <class Kernel, class Call>
  static int launch(Kernel kernel, const Call& call, const snn::cuda::Grid& grid, void*) {
    run_grid(kernel, static_cast<unsigned>(grid.blocks), grid.threads, call);
    return 0;
  }
};

}  // namespace shim

#define SNN_COMPILED_NEURON(Neuron, Surrogate, tables, shared) \
  SNN_COMPILED_NEURON_LAUNCHED_BY(shim::Launcher, Neuron, Surrogate, tables, shared)
