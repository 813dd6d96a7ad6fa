// What a neuron is compiled with where it is compiled by itself, together with its surrogate.
//
// A printed neuron has kStates, kParams, kOutputs and
//
//   step(state, x, p, fire, out)                                  advances state, writes out
//   adjoint(before, x, p, fire, grad_out, grad_state, grad_p) -> grad_x
//
// where grad_state is that after the step in and that before it out, and grad_p is added to.
// fire.spike(u) and fire.gradient(u) may be called any number of times.
#pragma once

#include "neurons.h"
#include "surrogates.h"

namespace snn {

// What a surrogate gives forward: spikes, or its primitive.
template <class Surrogate>
struct Spiking : Surrogate {
  template <class T, class P>
  static SNN_HD T spike(T u, const P*) {
    return heaviside(u);
  }
};
template <class Surrogate>
struct Smooth : Surrogate {
  template <class T, class P>
  static SNN_HD T spike(T u, const P* p) {
    return Surrogate::primitive(u, p);
  }
};

// grad * factor and grad / divisor in an adjoint: where no gradient comes in, none goes on,
// whatever the factor is. A neuron's output that nobody uses has gradients of 0.
template <class T>
SNN_HD T scaled(T grad, T factor) {
  return select(grad == T(0), T(0), grad * factor);
}
template <class T>
SNN_HD T divided(T grad, T divisor) {
  return select(grad == T(0), T(0), grad / divisor);
}

// A printed surrogate whose gradient may be infinite or NaN where its argument isn't.
template <class Surrogate>
struct WithPoles : Surrogate {};
template <class Surrogate>
inline constexpr bool kHasPoles = false;
template <class Surrogate>
inline constexpr bool kHasPoles<Spiking<WithPoles<Surrogate>>> = true;
template <class Surrogate>
inline constexpr bool kHasPoles<Smooth<WithPoles<Surrogate>>> = true;

// What steps and adjoints are called with; no H is noted, so an adjoint computes it again.
template <class Surrogate, class P>
struct InlineFire {
  P params[kMaxSurrogateParams];  // a copy, which no store can alias

  SNN_HD explicit InlineFire(const P* values) {
    SNN_UNROLL
    for (int i = 0; i < kMaxSurrogateParams; ++i) params[i] = values[i];
  }

  template <class T>
  SNN_HD T spike(T u) const {
    return Surrogate::spike(u, params);
  }
  template <class T>
  SNN_HD T gradient(T u) const {
    return Surrogate::gradient(u, params);
  }
  template <class T>
  SNN_HD void note(T) const {}
  template <class T>
  SNN_HD T scaled(T grad, T gradient) const {
    if constexpr (kHasPoles<Surrogate>) return snn::scaled(grad, gradient);
    return grad * gradient;
  }
  template <class Compute>
  SNN_HD auto h(const Compute& compute) const {
    return compute();
  }
};

// Whether parameter i is a table, by a mask with a bit for each.
SNN_HD constexpr bool is_table(unsigned tables, int i) {
  return (tables >> i & 1u) != 0;
}

// A printed neuron, which has no options.
template <class Printed>
struct WithoutOptions : Printed {
  template <class T, class Fire>
  static SNN_HD void step(T* state, T x, const T* p, const Options&, const Fire& fire, T* out) {
    Printed::step(state, x, p, fire, out);
  }
  template <class T, class Fire>
  static SNN_HD T adjoint(const T* before, T x, const T* p, const Options&, const Fire& fire,
                          const T* grad_out, T* grad_state, T* grad_p) {
    return Printed::adjoint(before, x, p, fire, grad_out, grad_state, grad_p);
  }
};

// A neuron of neurons.h with its reset.
template <class Neuron, class Reset>
struct WithReset : Neuron {
  static constexpr int kOutputs = 1;

  template <class T, class Fire>
  static SNN_HD void step(T* state, T x, const T* p, const Options& options, const Fire& fire,
                          T* out) {
    out[0] = Neuron::template step<Reset>(state, x, p, options, fire);
  }
  template <class T, class Fire>
  static SNN_HD T adjoint(const T* before, T x, const T* p, const Options& options,
                          const Fire& fire, const T* grad_out, T* grad_state, T* grad_p) {
    return Neuron::template adjoint<Reset>(before, x, p, options, fire, grad_out[0], grad_state,
                                           grad_p);
  }
};

// A neuron, its surrogate, and which of its parameters are tables: all that a unit fixes.
template <class Neuron_, class Surrogate_, unsigned kTables_>
struct UnitTraits {
  using Neuron = Neuron_;
  using Surrogate = Surrogate_;
  static constexpr int kStates = Neuron::kStates;
  static constexpr int kParams = Neuron::kParams;
  static constexpr int kOutputs = Neuron::kOutputs;
  static constexpr unsigned kTables = kTables_;
};

}  // namespace snn
