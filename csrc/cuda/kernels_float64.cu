// The scan on sequences of float64.
#include "enqueue.cuh"

namespace snn::cuda {

cudaError_t enqueue_float64(const Forward<double>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<double>(call, grid, stream);
}

cudaError_t enqueue_float64(const Backward<double>& call, const Grid& grid, cudaStream_t stream) {
  return enqueue<double>(call, grid, stream);
}

}  // namespace snn::cuda
