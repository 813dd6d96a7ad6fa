// The operators on spikes that need no neuron: checks, outputs, and plain data for a driver.
#pragma once

#include "call.h"
#include "snnkernels/spikes.h"

namespace snn {

inline SpikeFormat spike_format(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Double:
      return {8, 0x3ff0000000000000u};
    case ScalarType::Float:
      return {4, 0x3f800000u};
    case ScalarType::Half:
      return {2, 0x3c00u};
    case ScalarType::BFloat16:
      return {2, 0x3f80u};
    case ScalarType::Bool:
      return {1, 1u};
    default:
      STD_TORCH_CHECK(false, "dtype: expected float64, float32, float16, bfloat16 or bool");
      return {};
  }
}

inline void check_vector(const char* name, const Tensor& tensor, int64_t size) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == size, name, ": expected [", size, "]");
  STD_TORCH_CHECK(tensor.is_contiguous(), name, ": expected a contiguous tensor");
}

// The operators' implementations for a device: Driver has run(call, like) for every call,
// and empty(like, sizes, dtype) for their outputs.
template <class Driver>
struct SpikeOperators {
  static Tensor poisson_encode(Tensor x, Tensor keys, ScalarType dtype) {
    check_sequence("x", x, x);
    check_vector("keys", keys, x.size(0));
    check_device("keys", keys, x);
    STD_TORCH_CHECK(keys.scalar_type() == ScalarType::Long, "keys: expected int64");
    Encode call{};
    call.element = element_of(x);
    call.format = spike_format(dtype);
    Tensor spikes = Driver::empty(x, shape_with(x.size(0), x), dtype);
    call.steps = x.size(0);
    call.lanes = lanes_of(x);
    call.x = x.const_data_ptr();
    call.x_stride = x.stride(0);
    call.keys = static_cast<const uint64*>(keys.const_data_ptr());
    call.spikes = spikes.mutable_data_ptr();
    if (call.steps > 0 && call.lanes > 0) Driver::run(call, x);
    return spikes;
  }

  static std::tuple<Tensor, Tensor> pack_spikes(Tensor x) {
    PackSpikes call{};
    call.format = spike_format(x.scalar_type());
    check_vector("x", x, x.numel());
    call.count = x.numel();
    Tensor words = Driver::empty(x, {word_count(call.count)}, ScalarType::Int);
    Tensor foreign = torch::stable::new_zeros(x, {1}, ScalarType::Bool);
    call.x = x.const_data_ptr();
    call.words = static_cast<unsigned*>(words.mutable_data_ptr());
    call.foreign = static_cast<bool*>(foreign.mutable_data_ptr());
    if (call.count > 0) Driver::run(call, x);
    return {words, foreign};
  }

  static Tensor unpack_spikes(Tensor words, int64_t count, ScalarType dtype) {
    UnpackSpikes call{};
    call.format = spike_format(dtype);
    check_vector("words", words, word_count(count));
    STD_TORCH_CHECK(words.scalar_type() == ScalarType::Int, "words: expected int32");
    Tensor x = Driver::empty(words, {count}, dtype);
    call.count = count;
    call.words = static_cast<const unsigned*>(words.const_data_ptr());
    call.x = x.mutable_data_ptr();
    if (count > 0) Driver::run(call, words);
    return x;
  }
};

template <class Driver>
void implement_spikes(torch::stable::detail::StableLibrary& m) {
  using Operators = SpikeOperators<Driver>;
  m.impl("poisson_encode", TORCH_BOX(&Operators::poisson_encode));
  m.impl("pack_spikes", TORCH_BOX(&Operators::pack_spikes));
  m.impl("unpack_spikes", TORCH_BOX(&Operators::unpack_spikes));
}

}  // namespace snn
