// Spikes that need no neuron.
#include "kernels.h"
#include "select_spikes.cuh"

namespace snn::cuda {

namespace {

template <class Call>
cudaError_t launch(const Call& call, int64 blocks, cudaStream_t stream) {
  const auto kernel = select_kernel(call);
  kernel<<<static_cast<unsigned>(blocks), SNN_CUDA_THREADS, 0, stream>>>(call);
  return cudaGetLastError();
}

}  // namespace

cudaError_t enqueue_spikes(const Encode& call, int64 blocks, cudaStream_t stream) {
  return launch(call, blocks, stream);
}
cudaError_t enqueue_spikes(const PackSpikes& call, int64 blocks, cudaStream_t stream) {
  return launch(call, blocks, stream);
}
cudaError_t enqueue_spikes(const UnpackSpikes& call, int64 blocks, cudaStream_t stream) {
  return launch(call, blocks, stream);
}

}  // namespace snn::cuda
