// The operators of linear layers on spikes, which only the CPU has: a GPU's own products are fast.
#pragma once

#include <atomic>

#include "../spikes_call.h"
#include "driver.h"

namespace snn::cpu {

inline PackedRows packed_rows(const Tensor& words, int64_t rows, int64_t inputs) {
  STD_TORCH_CHECK(rows > 0 && inputs > 0, "rows, inputs: expected at least 1, got ", rows, " and ",
                  inputs);
  check_vector("words", words, word_count(rows * inputs));
  STD_TORCH_CHECK(words.scalar_type() == ScalarType::Int, "words: expected int32");
  return {static_cast<const unsigned*>(words.const_data_ptr()), rows, inputs};
}

inline void check_floats(const char* name, const Tensor& tensor, int64_t dim) {
  STD_TORCH_CHECK(
      tensor.scalar_type() == ScalarType::Float && tensor.dim() == dim && tensor.is_contiguous(),
      name, ": expected contiguous float32 of ", dim, " dimensions");
}

// Room for the panels: outputs rounded up to the widest vector there is.
inline Tensor empty_panels(const Tensor& like, int64_t inputs, int64_t outputs) {
  const int64_t padded = (outputs + Driver::kStrip - 1) / Driver::kStrip * Driver::kStrip;
  return empty_from_cache(like, {inputs * padded}, ScalarType::Float);
}

// Worth a thread.
constexpr int64 kGrainOfInputs = 16;
constexpr int64 kGrainOfRows = 32;
constexpr int64 kGrainOfWords = 32768;

inline int64_t count_spikes(Tensor words) {
  if (words.numel() == 0) return 0;
  const PackedRows x = packed_rows(words, words.numel(), kWordBits);
  std::atomic<int64_t> spikes{0};
  torch::stable::parallel_for(0, x.rows, kGrainOfWords, [&](int64_t begin, int64_t end) {
    int64_t found = 0;
    for (int64_t w = begin; w < end; ++w) found += __builtin_popcount(x.words[w]);
    spikes += found;
  });
  return spikes;
}

inline Tensor spike_linear(Tensor words, Tensor weight, std::optional<Tensor> bias, int64_t rows) {
  check_floats("weight", weight, 2);
  SpikeLinear call{};
  call.outputs = weight.size(0);
  call.x = packed_rows(words, rows, weight.size(1));
  call.weight = static_cast<const float*>(weight.const_data_ptr());
  if (bias) {
    check_floats("bias", *bias, 1);
    check_vector("bias", *bias, call.outputs);
    call.bias = static_cast<const float*>(bias->const_data_ptr());
  }
  Tensor panels = empty_panels(weight, call.x.inputs, call.outputs);
  Tensor y = empty_from_cache(weight, {rows, call.outputs}, ScalarType::Float);
  call.panels = static_cast<float*>(panels.mutable_data_ptr());
  call.y = static_cast<float*>(y.mutable_data_ptr());
  torch::stable::parallel_for(0, call.x.inputs, kGrainOfInputs,
                              [&](int64 begin, int64 end) { arrange(call, begin, end); });
  torch::stable::parallel_for(0, rows, kGrainOfRows,
                              [&](int64 begin, int64 end) { multiply(call, begin, end); });
  return y;
}

inline Tensor spike_linear_weight(Tensor words, Tensor grad, int64_t inputs) {
  check_floats("grad", grad, 2);
  SpikeLinearWeight call{};
  call.outputs = grad.size(1);
  call.x = packed_rows(words, grad.size(0), inputs);
  call.grad = static_cast<const float*>(grad.const_data_ptr());
  Tensor columns = empty_from_cache(grad, {inputs, column_words(call.x.rows)}, ScalarType::Long);
  Tensor panels = empty_panels(grad, inputs, call.outputs);
  Tensor grad_weight = empty_from_cache(grad, {call.outputs, inputs}, ScalarType::Float);
  call.columns = static_cast<uint64*>(columns.mutable_data_ptr());
  call.panels = static_cast<float*>(panels.mutable_data_ptr());
  call.grad_weight = static_cast<float*>(grad_weight.mutable_data_ptr());
  torch::stable::parallel_for(0, (inputs + kWordBits - 1) / kWordBits, 1,
                              [&](int64 begin, int64 end) { transpose(call, begin, end); });
  torch::stable::parallel_for(0, inputs, kGrainOfInputs,
                              [&](int64 begin, int64 end) { multiply(call, begin, end); });
  return grad_weight;
}

}  // namespace snn::cpu
