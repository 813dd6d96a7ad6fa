// What the units of kernels, one for each type of element, offer to the driver.
#pragma once

#include <cuda_runtime_api.h>

#include "grid.h"
#include "snnkernels/spikes.h"

namespace snn::cuda {

// Put a call's kernel on the stream; the launch's error, if any. E is the type of its elements.
template <class E, class Call>
cudaError_t enqueue(const Call& call, const Grid& grid, cudaStream_t stream);

cudaError_t enqueue_spikes(const Encode& call, int64 blocks, cudaStream_t stream);
cudaError_t enqueue_spikes(const PackSpikes& call, int64 blocks, cudaStream_t stream);
cudaError_t enqueue_spikes(const UnpackSpikes& call, int64 blocks, cudaStream_t stream);

}  // namespace snn::cuda
