// The scan on sequences of float32.
#include "enqueue.cuh"

namespace snn::cuda {

cudaError_t enqueue_float32(const Forward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<float>(call, grid, stream);
}

cudaError_t enqueue_float32(const Backward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<float>(call, grid, stream);
}

}  // namespace snn::cuda
