// Elements of sequences: their types, conversion to and from the arithmetic's type, and vectors of
// adjacent lanes as a thread sees them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "snnkernels/scan.h"

namespace snn::cuda {

// Between elements and the arithmetic's type. Two values become 16-bit elements as fast as one.
template <class E>
struct Convert {
  struct Pair {
    E x, y;
  };

  static SNN_HD E widen(E x) { return x; }
  static SNN_HD E narrow(E x) { return x; }
  static SNN_HD Pair narrow(E x, E y) { return {x, y}; }
};
template <>
struct Convert<__half> {
  static SNN_HD float widen(__half x) { return __half2float(x); }
  static SNN_HD __half narrow(float x) { return __float2half_rn(x); }
  static SNN_HD __half2 narrow(float x, float y) { return __floats2half2_rn(x, y); }
};
template <>
struct Convert<__nv_bfloat16> {
  static SNN_HD float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  static SNN_HD __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
  static SNN_HD __nv_bfloat162 narrow(float x, float y) { return __floats2bfloat162_rn(x, y); }
};

// Calls f with a value of the type of a call's elements.
template <class F>
auto with_element(const Scan<double>&, F f) {
  return f(double{});
}
template <class F>
auto with_element(const Scan<float>& call, F f) {
  if (call.element == Element::kFloat16) return f(__half{});
  if (call.element == Element::kBFloat16) return f(__nv_bfloat16{});
  return f(float{});
}

// V adjacent elements, read and written by one access.
template <class E, int V>
struct alignas(sizeof(E) * V) Pack {
  E lanes[V];
};

template <int V, class E>
SNN_HD Pack<E, V> load(const E* from) {
  return *reinterpret_cast<const Pack<E, V>*>(from);
}

template <class E, int V>
SNN_HD void store(E* to, const Pack<E, V>& pack) {
  *reinterpret_cast<Pack<E, V>*>(to) = pack;
}

template <class E, class T, int V>
SNN_HD Pack<E, V> narrow(const T (&values)[V]) {
  Pack<E, V> pack;
  if constexpr (V == 1) {
    pack.lanes[0] = Convert<E>::narrow(values[0]);
  } else {
    SNN_UNROLL
    for (int l = 0; l < V; l += 2) {
      const auto pair = Convert<E>::narrow(values[l], values[l + 1]);
      pack.lanes[l] = pair.x;
      pack.lanes[l + 1] = pair.y;
    }
  }
  return pack;
}

}  // namespace snn::cuda
