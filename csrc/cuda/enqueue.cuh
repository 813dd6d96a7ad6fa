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

// Compiles the kernels of one type of element, whose arithmetic is in T.
#define SNN_ENQUEUE_ELEMENTS(E, T)                                                            \
  template cudaError_t snn::cuda::enqueue<E>(const snn::Forward<T>&, const snn::cuda::Grid&,  \
                                             cudaStream_t);                                   \
  template cudaError_t snn::cuda::enqueue<E>(const snn::Backward<T>&, const snn::cuda::Grid&, \
                                             cudaStream_t);
