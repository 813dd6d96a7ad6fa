// The operators' schemas. Sequences are [T, ...], each step dense; states [S, ...], or [...] where
// there is one. Shapes for tracing and autograd are in snnkernels/_backends/operators.py.
#pragma once

#include <torch/csrc/stable/library.h>

namespace snn {

inline void define_operators(torch::stable::detail::StableLibrary& m) {
  // neuron, surrogate: the numbers of their names (call.h);
  // numbers: those that the states begin with, the parameters' values, the surrogate's parameters;
  // layout: of each parameter's table the size, then of each the lanes that share a value; empty
  // without tables. Few lists, because a list takes longer to hand over than all numbers and bools.
  m.def(
      "scan_forward(Tensor x, Tensor? states, Tensor? tables, int neuron, int surrogate, "
      "float[] numbers, SymInt[] layout, int state_count, int param_count, bool hard_reset, "
      "bool detach_reset, bool decay_input, bool spiking, int chunk, int outputs, bool store_v, "
      "bool keep) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "scan_backward(Tensor x, Tensor? states, Tensor? tables, Tensor checkpoints, "
      "Tensor? grad_spikes, Tensor? grad_v_seq, Tensor? grad_states, int neuron, int surrogate, "
      "float[] numbers, SymInt[] layout, int state_count, int param_count, bool hard_reset, "
      "bool detach_reset, bool decay_input, bool spiking, int chunk, int outputs, "
      "bool table_grads) -> (Tensor, Tensor, Tensor)");
  // The same for calls that nothing traces: all that is no tensor in one that Attributes.packed in
  // operators.py fills, and None for what nobody wants.
  m.def(
      "eager_forward(Tensor x, Tensor? states, Tensor? tables, Tensor packed, bool store_v, "
      "bool keep) -> (Tensor, Tensor?, Tensor, Tensor?)");
  m.def(
      "eager_backward(Tensor x, Tensor? states, Tensor? tables, Tensor? checkpoints, "
      "Tensor? grad_spikes, Tensor? grad_v_seq, Tensor? grad_states, Tensor packed, "
      "bool table_grads) -> (Tensor, Tensor?, Tensor?)");
  m.def("limit_cpu_cache(int bytes) -> int");
  m.def("cpu_cache_bytes() -> int");
  m.def("empty_cpu_cache() -> int");
  m.def("suspend_cpu_cache(bool on) -> ()");
  m.def("poisson_encode(Tensor x, Tensor keys, ScalarType dtype) -> Tensor");
  m.def("pack_spikes(Tensor x) -> (Tensor, Tensor)");
  m.def("unpack_spikes(Tensor words, SymInt count, ScalarType dtype) -> Tensor");
  m.def("empty_from_cpu_cache(Tensor like, SymInt[] size) -> Tensor");
  m.def("count_spikes(Tensor words) -> int");
  m.def("spike_linear(Tensor words, Tensor weight, Tensor? bias, SymInt rows) -> Tensor");
  m.def("spike_linear_weight(Tensor words, Tensor grad, SymInt inputs) -> Tensor");
}

}  // namespace snn
