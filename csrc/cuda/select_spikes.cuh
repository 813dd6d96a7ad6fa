// Which kernel runs a call on spikes that need no neuron.
#pragma once

#include "grid.h"
#include "spikes.cuh"

namespace snn::cuda {

// Calls f with a number of a spike's size.
template <class F>
void with_bits(int size, F f) {
  if (size == 1) return f(Bits<1>::Type{});
  if (size == 2) return f(Bits<2>::Type{});
  if (size == 4) return f(Bits<4>::Type{});
  f(Bits<8>::Type{});
}

inline auto select_kernel(const Encode& call) {
  void (*kernel)(Encode) = nullptr;
  with_bits(call.format.size, [&](auto bits) { kernel = encode_kernel<decltype(bits)>; });
  return kernel;
}

// A saved tensor may begin anywhere in its memory.
inline auto select_kernel(const PackSpikes& call) {
  void (*kernel)(PackSpikes) = nullptr;
  with_bits(call.format.size, [&](auto bits) {
    using U = decltype(bits);
    constexpr int V = 16 / sizeof(U);
    kernel = is_aligned(call.x, 16) ? pack_kernel<U, V> : pack_kernel<U, 1>;
  });
  return kernel;
}

inline auto select_kernel(const UnpackSpikes& call) {
  void (*kernel)(UnpackSpikes) = nullptr;
  with_bits(call.format.size, [&](auto bits) { kernel = unpack_kernel<decltype(bits)>; });
  return kernel;
}

}  // namespace snn::cuda
