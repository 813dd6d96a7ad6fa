// A neuron that is compiled by itself, as the CPU's driver calls it.
#pragma once

#include "../include/snnkernels/scan.h"

namespace snn::cpu {

struct CompiledNeuron : NeuronSizes {
  explicit CompiledNeuron(NeuronSizes sizes) : NeuronSizes(sizes) {}

  // The scan over lanes [begin, end).
  virtual void scan(const Forward<float>& call, int64 begin, int64 end) const = 0;
  virtual void scan(const Forward<double>& call, int64 begin, int64 end) const = 0;
  virtual void scan(const Backward<float>& call, int64 begin, int64 end) const = 0;
  virtual void scan(const Backward<double>& call, int64 begin, int64 end) const = 0;

 protected:
  ~CompiledNeuron() = default;
};

}  // namespace snn::cpu
