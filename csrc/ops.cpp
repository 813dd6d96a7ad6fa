// The operators and their implementation on the CPU; cuda/driver.cpp has the one for GPUs. One
// unit, because torch's headers take longer to compile than all that is in it.
#include "cpu/driver.h"
#include "cpu/spike_linear.h"
#include "cpu/spikes_driver.h"
#include "schemas.h"

namespace {

int64_t limit_cpu_cache(int64_t bytes) {
  return snn::cpu::BlockCache::instance().set_limit(bytes);
}

int64_t cpu_cache_bytes() {
  return snn::cpu::BlockCache::instance().held();
}

int64_t empty_cpu_cache() {
  return snn::cpu::BlockCache::instance().clear();
}

void suspend_cpu_cache(bool on) {
  snn::cpu::BlockCache::instance().suspend(on);
}

// Uninitialised, of the dtype of another tensor.
torch::stable::Tensor empty_from_cpu_cache(torch::stable::Tensor like, std::vector<int64_t> size) {
  return snn::cpu::empty_from_cache(like, size, like.scalar_type());
}

}  // namespace

STABLE_TORCH_LIBRARY(snnkernels, m) {
  snn::define_operators(m);
}

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CompositeExplicitAutograd, m) {
  m.impl("limit_cpu_cache", TORCH_BOX(&limit_cpu_cache));
  m.impl("cpu_cache_bytes", TORCH_BOX(&cpu_cache_bytes));
  m.impl("empty_cpu_cache", TORCH_BOX(&empty_cpu_cache));
  m.impl("suspend_cpu_cache", TORCH_BOX(&suspend_cpu_cache));
}

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CPU, m) {
  snn::implement_scans<snn::cpu::Driver>(m);
  snn::implement_spikes<snn::cpu::SpikeDriver>(m);
  m.impl("empty_from_cpu_cache", TORCH_BOX(&empty_from_cpu_cache));
  m.impl("count_spikes", TORCH_BOX(&snn::cpu::count_spikes));
  m.impl("spike_linear", TORCH_BOX(&snn::cpu::spike_linear));
  m.impl("spike_linear_weight", TORCH_BOX(&snn::cpu::spike_linear_weight));
}

SNN_DEFINE_ADD_COMPILED_NEURON
