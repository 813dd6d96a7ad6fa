// A call of the scan as plain data: what the operators hand to a backend's driver.
//
// Sequences are [T, L] with stride 1 over the lanes L. Spikes, v_seq and grad_x are contiguous; x
// and the incoming gradients have any stride over T. A neuron with several outputs has them, and
// their gradients, one behind the other: [O, T, L], the gradients contiguous too. States are [S, L]
// in the arithmetic's type T, and checkpoints [C, S, L]: the states at the start of every chunk but
// the first.
#pragma once

#include "launch.h"
#include "registry.h"

namespace snn {

enum class NeuronId : int {
#define SNN_LINE(Name, states, params) Name,
  SNN_FOR_EACH_NEURON(SNN_LINE)
#undef SNN_LINE
};

// Calls f with a value of the neuron's struct.
SNN_PASSES_ON
template <class Reset, class F>
SNN_HD void with_neuron(NeuronId id, F&& f) {
  switch (id) {
#define SNN_LINE(Name, states, params) \
  case NeuronId::Name:                 \
    return f(Name<Reset>{});
    SNN_FOR_EACH_NEURON(SNN_LINE)
#undef SNN_LINE
  }
}

// The element types of sequences; the arithmetic is in double for kFloat64 and in float for the
// rest.
enum class Element : int { kFloat64, kFloat32, kFloat16, kBFloat16 };

SNN_HD int64 element_size(Element e) {
  return e == Element::kFloat64 ? 8 : e == Element::kFloat32 ? 4 : 2;
}

// A parameter: a number, or for lane l the element l / inner % size of a table.
template <class T>
struct Parameter {
  T value;
  const T* table;
  int64 size;
  int64 inner;
};

// What a kernel holds of a neuron. A compiled neuron, which joins a loaded library, begins with
// this; each device's compiled_neuron.h says with which functions it goes on.
struct NeuronSizes {
  int states;
  int params;
  int outputs;
  unsigned tables;  // a bit for each parameter: whether it is a table
  unsigned shared;  // and whether it is one of a single value
};

template <class T>
struct Scan {
  NeuronId neuron;
  const NeuronSizes* compiled;  // null: the neuron is one of the library's own
  Element element;
  bool hard_reset;
  Options options;
  unsigned short tables;  // a bit for each parameter: whether it is one
  bool spiking;
  SurrogateId surrogate;
  T surrogate_params[kMaxSurrogateParams];
  int64 steps;
  int64 lanes;
  const void* x;
  int64 x_stride;
  const T* states;  // null: the numbers in initial
  T initial[kMaxStates];
  Parameter<T> params[kMaxParams];
};

template <class T>
struct Forward : Scan<T> {
  void* spikes;
  void* v_seq;  // null: not wanted
  T* final_states;
  T* checkpoints;  // null: not wanted
};

template <class T>
struct Backward : Scan<T> {
  const T* checkpoints;
  const void* grad_spikes;  // null: zero
  int64 grad_spikes_stride;
  const void* grad_v_seq;  // null: zero
  int64 grad_v_seq_stride;
  const T* grad_states;  // null: zero
  void* grad_x;
  T* grad_initial;             // null: not wanted
  T* grad_params[kMaxParams];  // null: not wanted, or no table; else one sum over T per lane
};

// Calls f with a value of the struct of a call's neuron, with the reset as asked.
SNN_PASSES_ON
template <class T, class F>
SNN_HD void with_neuron(const Scan<T>& call, F&& f) {
  if (call.hard_reset) return with_neuron<HardReset>(call.neuron, f);
  with_neuron<SoftReset>(call.neuron, f);
}

// Whether any gradient meets the surrogate's, from the spikes or through the reset.
template <class T>
SNN_HD bool meets_surrogate(const Backward<T>& call) {
  return call.grad_spikes || !call.options.detach_reset;
}

// Whether a gradient comes from the states after the last step. Where none does the reset has no
// part in that step's adjoint, which is called with detach_reset: the zero in the gradient's place
// would make NaN of an infinite potential.
template <class T>
SNN_HD bool has_gradient_after(const Backward<T>& call) {
  return call.grad_states || call.grad_v_seq;
}

}  // namespace snn
