// The operators on CPU tensors, run by the CUDA kernels' bodies: takes the place of the CPU
// library.
#include "call.h"
#include "cuda/compiled_neuron.h"
#include "cuda/elements.cuh"
#include "cuda/loaded_neuron.h"
#include "run_kernels.h"
#include "schemas.h"
#include "spikes_call.h"

namespace {

// None: every call has lanes enough for all of them.
int multiprocessors = 0;

snn::cuda::Grid last_grid;

template <class Call>
void dispatch(const Call& call, const snn::cuda::Grid& grid) {
  if (call.compiled) {
    static_cast<const snn::cuda::CompiledNeuron*>(call.compiled)->enqueue(call, grid, {0, nullptr});
    return;
  }
  snn::cuda::with_element(call, [&](auto element) { run<decltype(element)>(call, grid); });
}

struct Driver {
  static constexpr int kChunk = SNN_CUDA_CHUNK;
  static constexpr auto empty = snn::empty_from_torch;

  template <class Call>
  static void launch(const Call& call, const snn::Tensor&) {
    last_grid = snn::cuda::grid_of(call, multiprocessors);
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

SHIM_EXPORT void shim_set_multiprocessors(int count) {
  multiprocessors = count;
}
SHIM_EXPORT int shim_multiprocessors() {
  return multiprocessors;
}
SHIM_EXPORT long long shim_width() {
  return last_grid.width;
}
SHIM_EXPORT bool shim_plain() {
  return last_grid.plain;
}
SHIM_EXPORT long long shim_threads() {
  return last_grid.threads;
}
SHIM_EXPORT long long shim_blocks() {
  return last_grid.blocks;
}

namespace {

// Runs a call that another host filled in, if its grid is the one that this host would plan.
template <class Call>
bool run_foreign(const void* memory, const snn::cuda::Grid& grid) {
  const Call& call = *static_cast<const Call*>(memory);
  last_grid = snn::cuda::grid_of(call, multiprocessors);
  const bool planned = last_grid.width == grid.width && last_grid.plain == grid.plain &&
                       last_grid.threads == grid.threads && last_grid.blocks == grid.blocks;
  if (planned) dispatch(call, grid);
  return planned;
}

template <class Call>
bool run_foreign_spikes(const void* memory, long long blocks) {
  const Call& call = *static_cast<const Call*>(memory);
  if (blocks != snn::cuda::spike_blocks(call)) return false;
  run_spikes(call);
  return true;
}

}  // namespace

SHIM_EXPORT bool shim_scan(bool backward, bool wide, const void* call, int width, bool plain,
                           int threads, long long blocks) {
  const snn::cuda::Grid grid{width, plain, threads, blocks};
  if (wide) {
    return backward ? run_foreign<snn::Backward<double>>(call, grid)
                    : run_foreign<snn::Forward<double>>(call, grid);
  }
  return backward ? run_foreign<snn::Backward<float>>(call, grid)
                  : run_foreign<snn::Forward<float>>(call, grid);
}
SHIM_EXPORT bool shim_encode(const void* call, long long blocks) {
  return run_foreign_spikes<snn::Encode>(call, blocks);
}
SHIM_EXPORT bool shim_pack(const void* call, long long blocks) {
  return run_foreign_spikes<snn::PackSpikes>(call, blocks);
}
SHIM_EXPORT bool shim_unpack(const void* call, long long blocks) {
  return run_foreign_spikes<snn::UnpackSpikes>(call, blocks);
}

STABLE_TORCH_LIBRARY(snnkernels, m) {
  snn::define_operators(m);
}

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CPU, m) {
  snn::implement_scans<Driver>(m);
  snn::implement_spikes<SpikeDriver>(m);
}

SNN_DEFINE_ADD_COMPILED_NEURON
SNN_DEFINE_ADD_LOADED_NEURON
