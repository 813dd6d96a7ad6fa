// The scan on sequences of float16.
#include "enqueue.cuh"
#include "float16.cuh"

namespace snn::cuda {

cudaError_t enqueue_float16(const Forward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<__half>(call, grid, stream);
}

cudaError_t enqueue_float16(const Backward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<__half>(call, grid, stream);
}

}  // namespace snn::cuda
