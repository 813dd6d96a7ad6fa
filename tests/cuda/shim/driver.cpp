// The operators on CPU tensors, run by the CUDA kernels' bodies: takes the place of the CPU
// library.
#include <type_traits>

#include "call.h"
#include "cuda/unit.h"
#include "run_kernels.h"
#include "schemas.h"
#include "spikes_call.h"

namespace {

constexpr int kMultiprocessors = 4;

snn::cuda::Grid last_grid;

template <class Call>
void dispatch(const Call& call, const snn::cuda::Grid& grid) {
  if (call.unit) {
    static_cast<const snn::cuda::Unit*>(call.unit)->enqueue(call, grid, nullptr);
    return;
  }
  if constexpr (std::is_same_v<Call, snn::Forward<double>> ||
                std::is_same_v<Call, snn::Backward<double>>) {
    run_float64(call, grid);
  } else if (call.element == snn::Element::kFloat32) {
    run_float32(call, grid);
  } else if (call.element == snn::Element::kFloat16) {
    run_float16(call, grid);
  } else {
    run_bfloat16(call, grid);
  }
}

struct Driver {
  static constexpr int kChunk = SNN_CUDA_CHUNK;
  static constexpr auto empty = snn::empty_from_torch;

  template <class Call>
  static void launch(const Call& call, const snn::Tensor&) {
    last_grid = snn::cuda::plan_grid(call, kMultiprocessors);
    dispatch(call, last_grid);
  }
};

struct SpikeDriver {
  static constexpr auto empty = snn::empty_from_torch;

  template <class Call>
  static void run(const Call& call, const snn::Tensor&) {
    run_spikes(call);
  }
};

}  // namespace

#define SHIM_EXPORT extern "C" __attribute__((visibility("default")))

SHIM_EXPORT long long shim_width() {
  return last_grid.width;
}
SHIM_EXPORT long long shim_threads() {
  return last_grid.threads;
}
SHIM_EXPORT long long shim_blocks() {
  return last_grid.blocks;
}

STABLE_TORCH_LIBRARY(snnkernels, m) {
  snn::define_operators(m);
}

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CPU, m) {
  using Operators = snn::Operators<Driver>;
  m.impl("scan_forward", TORCH_BOX(&Operators::scan_forward));
  m.impl("scan_backward", TORCH_BOX(&Operators::scan_backward));
  snn::implement_spikes<SpikeDriver>(m);
}

SNN_DEFINE_ADD_UNIT
