// The bodies of the kernels on spikes that need no neuron, on a host.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "run_kernels.h"
// Before the kernels, after everything else.
#include "cuda_shim.h"
// clang-format off
#include "cuda/select_spikes.cuh"
// clang-format on

namespace {

template <class Call>
void run(const Call& call) {
  shim::run_grid(snn::cuda::select_kernel(call), snn::cuda::spike_blocks(call), SNN_CUDA_THREADS,
                 call);
}

}  // namespace

void run_spikes(const snn::Encode& call) {
  run(call);
}
void run_spikes(const snn::PackSpikes& call) {
  run(call);
}
void run_spikes(const snn::UnpackSpikes& call) {
  run(call);
}
