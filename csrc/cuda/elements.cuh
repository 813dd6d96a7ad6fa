// Elements of sequences: their types, conversion to and from the arithmetic's type, and vectors of
// adjacent lanes as a thread sees them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "snnkernels/scan.h"

namespace snn::cuda {

// Between elements and the arithmetic's type.
template <class E>
struct Convert {
  static SNN_HD E widen(E x) { return x; }
  static SNN_HD E narrow(E x) { return x; }
};
template <>
struct Convert<__half> {
  static SNN_HD float widen(__half x) { return __half2float(x); }
  static SNN_HD __half narrow(float x) { return __float2half_rn(x); }
};
template <>
struct Convert<__nv_bfloat16> {
  static SNN_HD float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  static SNN_HD __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
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

template <int V, class E>
SNN_HD void store(E* to, const Pack<E, V>& pack) {
  *reinterpret_cast<Pack<E, V>*>(to) = pack;
}

}  // namespace snn::cuda
