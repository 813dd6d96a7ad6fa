// Which kernel a call runs.
#pragma once

#include <type_traits>

#include "grid.h"
#include "scan.cuh"

namespace snn::cuda {

// Calls f with the neuron, the reset and whether there are tables, as values whose types tell.
template <class T, class F>
void with_axes(const Scan<T>& call, F f) {
  with_neuron(call.neuron, [&](auto neuron) {
    const auto with_reset = [&](auto reset) {
      if (call.tables) {
        f(neuron, reset, std::true_type{});
      } else {
        f(neuron, reset, std::false_type{});
      }
    };
    if (call.hard_reset) {
      with_reset(HardReset{});
    } else {
      with_reset(SoftReset{});
    }
  });
}

template <class E, class T>
auto select_kernel(const Forward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E));
  void (*kernel)(Forward<T>) = general_forward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_axes(call, [&](auto neuron, auto reset, auto tables) {
        constexpr bool kTables = decltype(tables)::value;
        kernel = forward_kernel<decltype(neuron), decltype(reset), E, V, kTables, T>;
      });
    }
  }
  return kernel;
}

template <class E, class T>
auto select_kernel(const Backward<T>& call, int width) {
  constexpr int V = full_width(sizeof(E));
  void (*kernel)(Backward<T>) = general_backward_kernel<E, T>;
  if constexpr (V > 1) {
    if (width == V) {
      with_axes(call, [&](auto neuron, auto reset, auto tables) {
        constexpr bool kTables = decltype(tables)::value;
        kernel = backward_kernel<decltype(neuron), decltype(reset), E, V, kTables, T>;
      });
    }
  }
  return kernel;
}

}  // namespace snn::cuda
