// The operators' schemas. Implementations: cpu/driver.cpp and cuda/driver.cpp; shapes for tracing
// and autograd: snnkernels/ops.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(snnkernels, m) {
  m.def(
      "scan_forward(str neuron, Tensor x, Tensor? states, float[] initial, float[] values, "
      "Tensor? tables, SymInt[] table_size, SymInt[] table_inner, str surrogate, "
      "float[] surrogate_values, "
      "bool hard_reset, bool detach_reset, bool decay_input, bool spiking, int chunk, "
      "bool store_v, bool keep) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "scan_backward(str neuron, Tensor x, Tensor? states, Tensor checkpoints, "
      "Tensor? grad_spikes, Tensor? grad_v_seq, Tensor? grad_states, float[] initial, "
      "float[] values, Tensor? tables, SymInt[] table_size, SymInt[] table_inner, str surrogate, "
      "float[] surrogate_values, bool hard_reset, bool detach_reset, bool decay_input, "
      "bool spiking, int chunk, bool table_grads) -> (Tensor, Tensor, Tensor)");
}
