// The kernels' very bodies on a host: compiled once for each type of element, SHIM_ELEMENT, whose
// arithmetic is in SHIM_ARITHMETIC.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "run_kernels.h"
// Before the kernels, after everything else.
#include "cuda_shim.h"
// clang-format off
#include "cuda/select.cuh"
// clang-format on

template <class E, class Call>
void run(const Call& call, const snn::cuda::Grid& grid) {
  const auto kernel = snn::cuda::select_kernel<E>(call, grid.width);
  shim::run_grid(kernel, grid.blocks, grid.threads, call);
}

using snn::cuda::Grid;
template void run<SHIM_ELEMENT>(const snn::Forward<SHIM_ARITHMETIC>& call, const Grid& grid);
template void run<SHIM_ELEMENT>(const snn::Backward<SHIM_ARITHMETIC>& call, const Grid& grid);
