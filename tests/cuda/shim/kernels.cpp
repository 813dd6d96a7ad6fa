// The kernels' very bodies on a host: compiled once for each type of element, SHIM_ELEMENT.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "run_kernels.h"
// Before the kernels, after everything else.
#include "cuda_shim.h"
// clang-format off
#include "cuda/bfloat16.cuh"
#include "cuda/float16.cuh"
#include "cuda/select.cuh"
// clang-format on

void SHIM_RUN(const snn::Forward<SHIM_ARITHMETIC>& call, const snn::cuda::Grid& grid) {
  const auto kernel = snn::cuda::select_kernel<SHIM_ELEMENT>(call, grid.width);
  shim::run_grid(kernel, grid.blocks, grid.threads, call);
}

void SHIM_RUN(const snn::Backward<SHIM_ARITHMETIC>& call, const snn::cuda::Grid& grid) {
  const auto kernel = snn::cuda::select_kernel<SHIM_ELEMENT>(call, grid.width);
  shim::run_grid(kernel, grid.blocks, grid.threads, call);
}
