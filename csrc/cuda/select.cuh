// Which kernel a call runs.
#pragma once

#include "grid.h"
#include "scan.cuh"

namespace snn::cuda {

// A forward kernel has registers to spare, so it gives every lane its own parameters.
template <class E, class T>
auto select_kernel(const Forward<T>& call, int width) {
  constexpr int V = forward_width(sizeof(E));
  void (*kernel)(Forward<T>) = general_forward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_neuron(call, [&](auto neuron) {
        using Traits = ScanTraits<decltype(neuron), Switched, kAllTables>;
        kernel = forward_kernel<Traits, E, V, false, T>;
      });
    }
  }
  return kernel;
}

template <class E, unsigned kTables, class T>
auto select_backward(const Backward<T>& call, int width) {
  constexpr int V = backward_width(sizeof(E), kTables != 0);
  void (*kernel)(Backward<T>) = general_backward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_neuron(call, [&](auto neuron) {
        using Traits = ScanTraits<decltype(neuron), Switched, kTables>;
        kernel = backward_kernel<Traits, E, V, false, T>;
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
