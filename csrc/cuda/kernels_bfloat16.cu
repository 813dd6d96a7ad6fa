// The scan on sequences of bfloat16.
#include "bfloat16.cuh"
#include "enqueue.cuh"

namespace snn::cuda {

cudaError_t enqueue_bfloat16(const Forward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<__nv_bfloat16>(call, grid, stream);
}

cudaError_t enqueue_bfloat16(const Backward<float>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<__nv_bfloat16>(call, grid, stream);
}

}  // namespace snn::cuda
