// The launch of a call's kernel.
#pragma once

#include "kernels.h"
#include "select.cuh"

namespace snn::cuda {

template <class E, class Call>
cudaError_t enqueue(const Call& call, const Grid& grid, cudaStream_t stream) {
  const auto kernel = select_kernel<E>(call, grid.width);
  kernel<<<static_cast<unsigned>(grid.blocks), grid.threads, 0, stream>>>(call);
  return cudaGetLastError();
}

}  // namespace snn::cuda
