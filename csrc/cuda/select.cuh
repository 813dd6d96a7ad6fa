// Which kernel a call runs.
#pragma once

#include "grid.h"
#include "scan.cuh"

namespace snn::cuda {

// A forward kernel has registers to spare, so it gives every lane its own parameters.
template <class E, class T>
auto select_kernel(const Forward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E), false);
  void (*kernel)(Forward<T>) = general_forward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_neuron(call, [&](auto neuron) {
        kernel = forward_kernel<ScanTraits<decltype(neuron), Switched, kAllTables>, E, V, T>;
      });
    }
  }
  return kernel;
}

template <class E, unsigned kTables, class T>
auto select_backward(const Backward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E), kTables != 0);
  void (*kernel)(Backward<T>) = general_backward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_neuron(call, [&](auto neuron) {
        kernel = backward_kernel<ScanTraits<decltype(neuron), Switched, kTables>, E, V, T>;
      });
    }
  }
  return kernel;
}

template <class E, class T>
auto select_kernel(const Backward<T>& call, int width) {
  return call.tables ? select_backward<E, kAllTables>(call, width)
                     : select_backward<E, 0u>(call, width);
}

}  // namespace snn::cuda
