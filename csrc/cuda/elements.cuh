// Elements of sequences as a thread sees them: vectors of adjacent lanes, and conversion to and
// from the arithmetic's type.
#pragma once

#include "snnkernels/config.h"

namespace snn::cuda {

// Between elements and the arithmetic's type.
template <class E>
struct Convert {
  static SNN_HD E widen(E x) { return x; }
  static SNN_HD E narrow(E x) { return x; }
};

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
