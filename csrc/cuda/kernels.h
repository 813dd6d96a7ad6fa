// What the units of kernels, one for each type of element, offer to the driver.
#pragma once

#include <cuda_runtime_api.h>

#include "grid.h"
#include "snnkernels/spikes.h"

#define SNN_DECLARE_ENQUEUE(name, T)                                               \
  cudaError_t name(const Forward<T>& call, const Grid& grid, cudaStream_t stream); \
  cudaError_t name(const Backward<T>& call, const Grid& grid, cudaStream_t stream);

namespace snn::cuda {

// Put a call's kernel on the stream; the launch's error, if any.
SNN_DECLARE_ENQUEUE(enqueue_float64, double)
SNN_DECLARE_ENQUEUE(enqueue_float32, float)
SNN_DECLARE_ENQUEUE(enqueue_float16, float)
SNN_DECLARE_ENQUEUE(enqueue_bfloat16, float)

cudaError_t enqueue_spikes(const Encode& call, int64 blocks, cudaStream_t stream);
cudaError_t enqueue_spikes(const PackSpikes& call, int64 blocks, cudaStream_t stream);
cudaError_t enqueue_spikes(const UnpackSpikes& call, int64 blocks, cudaStream_t stream);

}  // namespace snn::cuda

#undef SNN_DECLARE_ENQUEUE
