// Which kernel a call runs.
#pragma once

#include "grid.h"
#include "scan.cuh"

namespace snn::cuda {

// Calls f with the neuron and the reset, as values whose types tell.
template <class T, class F>
void with_axes(const Scan<T>& call, F f) {
  with_neuron(call.neuron, [&](auto neuron) {
    if (call.hard_reset) {
      f(neuron, HardReset{});
    } else {
      f(neuron, SoftReset{});
    }
  });
}

// A forward kernel has registers to spare, so it gives every lane its own parameters.
template <class E, class T>
auto select_kernel(const Forward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E), false);
  void (*kernel)(Forward<T>) = general_forward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_axes(call, [&](auto neuron, auto reset) {
        kernel = forward_kernel<decltype(neuron), decltype(reset), E, V, T>;
      });
    }
  }
  return kernel;
}

template <class E, bool kTables, class T>
auto select_backward(const Backward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E), kTables);
  void (*kernel)(Backward<T>) = general_backward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_axes(call, [&](auto neuron, auto reset) {
        kernel = backward_kernel<decltype(neuron), decltype(reset), E, V, kTables, T>;
      });
    }
  }
  return kernel;
}

template <class E, class T>
auto select_kernel(const Backward<T>& call, int width) {
  return call.tables ? select_backward<E, true>(call, width)
                     : select_backward<E, false>(call, width);
}

}  // namespace snn::cuda
