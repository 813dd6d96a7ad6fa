// A neuron that is compiled by itself, as the CUDA driver calls it. Host code without CUDA.
#pragma once

#include "grid.h"

namespace snn::cuda {

// Where a call runs: a device's number and a cudaStream_t.
struct Stream {
  int device;
  void* handle;
};

struct CompiledNeuron : NeuronSizes {
  explicit CompiledNeuron(NeuronSizes sizes) : NeuronSizes(sizes) {}

  // Puts a call's kernel on the stream; the launch's error, a cudaError_t.
  virtual int enqueue(const Forward<float>& call, const Grid& grid, Stream stream) const = 0;
  virtual int enqueue(const Forward<double>& call, const Grid& grid, Stream stream) const = 0;
  virtual int enqueue(const Backward<float>& call, const Grid& grid, Stream stream) const = 0;
  virtual int enqueue(const Backward<double>& call, const Grid& grid, Stream stream) const = 0;

 protected:
  ~CompiledNeuron() = default;
};

}  // namespace snn::cuda
