// A neuron that is compiled by itself, its scan behind the interface that the driver calls.
#pragma once

#include "compiled_neuron.h"
#include "scan.h"

namespace snn::cpu {

template <class S>
class CompiledScan final : public CompiledNeuron {
 public:
  CompiledScan() : CompiledNeuron({S::kStates, S::kParams, S::kOutputs, S::kTables, 0}) {}

  void scan(const Forward<float>& call, int64 begin, int64 end) const override {
    scan_lanes<S>(call, begin, end);
  }
  void scan(const Forward<double>& call, int64 begin, int64 end) const override {
    scan_lanes<S>(call, begin, end);
  }
  void scan(const Backward<float>& call, int64 begin, int64 end) const override {
    scan_lanes<S>(call, begin, end);
  }
  void scan(const Backward<double>& call, int64 begin, int64 end) const override {
    scan_lanes<S>(call, begin, end);
  }
};

}  // namespace snn::cpu

// Makes a shared object of the one neuron, for the loaded library to take in.
// A table of one value is one like any other here.
#define SNN_COMPILED_NEURON(Neuron, Surrogate, tables, shared)                         \
  extern "C" __attribute__((visibility("default"))) const snn::NeuronSizes*            \
  snn_compiled_neuron() {                                                              \
    using Traits = snn::ScanTraits<Neuron, snn::Inline<Surrogate>, (tables | shared)>; \
    static const snn::cpu::CompiledScan<Traits> scan;                                  \
    return &scan;                                                                      \
  }
