// The neurons: for each a forward step and its adjoint, pure functions on a handful of scalars.
//
//   step(state, x, p, options, fire, out)            advances state[kStates], writes out[kOutputs]
//   adjoint(before, x, p, options, fire, grad_out, grad_state, grad_p) -> grad_x
//                                                    grad_state: after the step in, before it out;
//                                                    grad_p: added to
//
// fire.spike(u) is the output for u = H - v_threshold, fire.gradient(u) its (surrogate) derivative;
// snnkernels/fire.h has the ways to fire. A step hands H to fire.note(h), and its adjoint asks
// fire.h(compute) for it, which computes it again where nobody took note: u + v_threshold would
// lose digits, or be NaN where the threshold is infinite. Parameters come in p: the neuron's own,
// then v_threshold, then v_reset.
//
// In float32 and float64 the forward steps give the bits of the equations in snnkernels/neuron/,
// so the order of operations matters and no compiler flag may change it.
#pragma once

#include "math.h"

namespace snn {

constexpr int kMaxStates = 8;
constexpr int kMaxParams = 16;

struct Options {
  bool detach_reset;
  bool decay_input;
  // Whether the product by the reciprocal of LIF's tau has the quotient's bits: tau = 2, 4, 0.5 ...
  bool inverse_is_exact;
};

struct HardReset {
  static constexpr bool kHard = true;
  template <class T>
  static SNN_HD T rest(T v_reset) {
    return v_reset;
  }
  template <class T>
  static SNN_HD T apply(T h, T spike, T, T v_reset) {
    return (T(1) - spike) * h + spike * v_reset;
  }
  // Derivatives of apply by the spike and by h.
  template <class T>
  static SNN_HD T by_spike(T h, T, T v_reset) {
    return v_reset - h;
  }
  template <class T>
  static SNN_HD T by_h(T spike) {
    return T(1) - spike;
  }
};

// A hard reset to v_reset = +0 where what is called spike is 0 or 1: HardReset's bits, in fewer
// operations. The product is exact, h or a zero, and adding +0 gives a zero the sign it has there.
struct ZeroReset : HardReset {
  template <class T>
  static SNN_HD T rest(T) {
    return T(0);
  }
  template <class T>
  static SNN_HD T apply(T h, T spike, T, T) {
    return multiply_add(T(1) - spike, h, T(0));
  }
  template <class T>
  static SNN_HD T by_spike(T h, T, T) {
    return -h;
  }
};

struct SoftReset {
  static constexpr bool kHard = false;
  template <class T>
  static SNN_HD T rest(T) {
    return T(0);
  }
  template <class T>
  static SNN_HD T apply(T h, T spike, T v_threshold, T) {
    return h - spike * v_threshold;
  }
  template <class T>
  static SNN_HD T by_spike(T, T v_threshold, T) {
    return -v_threshold;
  }
  template <class T>
  static SNN_HD T by_h(T) {
    return T(1);
  }
};

// Charge, fire, reset: what every neuron here does around its own charge.
//
// Charge has kStates, kParams (its own), kLearnt (a bit for each of them that is learnt as a rule
// and so comes as a table), kLinear (whether grad_x and grad_state are the same for all states and
// x), kDivides (whether by the first parameter), and on states whose first is the membrane
// potential V
//   charge(state, x, p, rest, options) -> H          updates the states behind the first
//   charge_adjoint(before, x, p, rest, options, grad_h, grad_state, grad_p, grad_rest) -> grad_x
//                                                    writes grad_state[0], turns the others from
//                                                    after the step to before it
template <class Charge, class Reset>
struct ChargeFireReset {
  template <class Other>
  using WithReset = ChargeFireReset<Charge, Other>;

  static constexpr int kStates = Charge::kStates;
  static constexpr int kParams = Charge::kParams + 2;
  static constexpr int kOutputs = 1;
  static constexpr unsigned kLearnt = Charge::kLearnt;
  static constexpr bool kLinear = Charge::kLinear;
  static constexpr bool kDivides = Charge::kDivides;
  static constexpr int kThreshold = Charge::kParams;
  static constexpr int kReset = Charge::kParams + 1;

  // What steps and adjoints are called with: those of the call, where nobody has fixed them.
  static SNN_HD Options options(const Options& given) { return given; }

  template <class T, class Fire>
  static SNN_HD void step(T* state, T x, const T* p, const Options& options, const Fire& fire,
                          T* out) {
    const T h = Charge::charge(state, x, p, Reset::rest(p[kReset]), options);
    fire.note(h);
    const T spike = fire.spike(h - p[kThreshold]);
    state[0] = Reset::apply(h, spike, p[kThreshold], p[kReset]);
    out[0] = spike;
  }

  template <class T, class Fire>
  static SNN_HD T adjoint(const T* before, T x, const T* p, const Options& options,
                          const Fire& fire, const T* grad_out, T* grad_state, T* grad_p) {
    const T rest = Reset::rest(p[kReset]);
    const T h = fire.h([&] {
      T state[kStates];
      SNN_UNROLL
      for (int i = 0; i < kStates; ++i) state[i] = before[i];
      return Charge::charge(state, x, p, rest, options);
    });
    const T u = h - p[kThreshold];
    const T spike = fire.spike(u);

    const T grad_v = grad_state[0];
    const T by_spike = Reset::by_spike(h, p[kThreshold], p[kReset]);
    const T grad_spike =
        options.detach_reset ? grad_out[0] : multiply_add(grad_v, by_spike, grad_out[0]);
    const T grad_u = grad_spike * fire.gradient(u);
    const T grad_h = multiply_add(grad_v, Reset::by_h(spike), grad_u);

    T grad_rest = T(0);
    const T grad_x =
        Charge::charge_adjoint(before, x, p, rest, options, grad_h, grad_state, grad_p, grad_rest);
    if (Reset::kHard) {
      grad_p[kThreshold] -= grad_u;
      grad_p[kReset] += grad_v * spike + grad_rest;
    } else {
      grad_p[kThreshold] -= grad_u + grad_v * spike;
    }
    return grad_x;
  }
};

struct IFCharge {
  static constexpr int kStates = 1;
  static constexpr int kParams = 0;
  static constexpr unsigned kLearnt = 0;
  static constexpr bool kLinear = true;
  static constexpr bool kDivides = false;

  template <class T>
  static SNN_HD T charge(T* state, T x, const T*, T, const Options&) {
    return state[0] + x;
  }

  template <class T>
  static SNN_HD T charge_adjoint(const T*, T, const T*, T, const Options&, T grad_h, T* grad_state,
                                 T*, T&) {
    grad_state[0] = grad_h;
    return grad_h;
  }
};

// LIF, p = {tau}: the leak is divided by tau.
struct LIFCharge {
  static constexpr int kStates = 1;
  static constexpr int kParams = 1;
  static constexpr unsigned kLearnt = 0;
  static constexpr bool kLinear = true;
  static constexpr bool kDivides = true;

  template <class T>
  static SNN_HD T charge(T* state, T x, const T* p, T rest, const Options& options) {
    const T v = state[0];
    const T leak = v - rest;
    const T decaying = options.decay_input ? x - leak : leak;
    const T change = options.inverse_is_exact ? decaying * (T(1) / p[0]) : decaying / p[0];
    return options.decay_input ? v + change : v - change + x;
  }

  template <class T>
  static SNN_HD T charge_adjoint(const T* before, T x, const T* p, T rest, const Options& options,
                                 T grad_h, T* grad_state, T* grad_p, T& grad_rest) {
    const T r = T(1) / p[0];
    const T scaled = grad_h * r;
    const T leak = before[0] - rest;
    const T decaying = options.decay_input ? x - leak : -leak;
    grad_state[0] = grad_h - scaled;
    grad_p[0] -= scaled * decaying * r;
    grad_rest += scaled;
    return options.decay_input ? scaled : grad_h;
  }
};

// LIF, p = {r}: the leak is multiplied by r = 1 / tau.
struct ParametricLIFCharge {
  static constexpr int kStates = 1;
  static constexpr int kParams = 1;
  static constexpr unsigned kLearnt = 1;
  static constexpr bool kLinear = true;
  static constexpr bool kDivides = false;

  template <class T>
  static SNN_HD T charge(T* state, T x, const T* p, T rest, const Options& options) {
    const T v = state[0];
    const T leak = v - rest;
    return options.decay_input ? v + (x - leak) * p[0] : v - leak * p[0] + x;
  }

  template <class T>
  static SNN_HD T charge_adjoint(const T* before, T x, const T* p, T rest, const Options& options,
                                 T grad_h, T* grad_state, T* grad_p, T& grad_rest) {
    const T scaled = grad_h * p[0];
    const T leak = before[0] - rest;
    grad_state[0] = grad_h - scaled;
    grad_p[0] += grad_h * (options.decay_input ? x - leak : -leak);
    grad_rest += scaled;
    return options.decay_input ? scaled : grad_h;
  }
};

// p = {alpha, beta}, states V and I: I' = alpha I + X, H = beta V + I'.
struct CubaLIFCharge {
  static constexpr int kStates = 2;
  static constexpr int kParams = 2;
  static constexpr unsigned kLearnt = 0;
  static constexpr bool kLinear = true;
  static constexpr bool kDivides = false;

  template <class T>
  static SNN_HD T charge(T* state, T x, const T* p, T, const Options&) {
    state[1] = p[0] * state[1] + x;
    return p[1] * state[0] + state[1];
  }

  template <class T>
  static SNN_HD T charge_adjoint(const T* before, T, const T* p, T, const Options&, T grad_h,
                                 T* grad_state, T* grad_p, T&) {
    const T grad_i = grad_state[1] + grad_h;
    grad_p[0] += grad_i * before[1];
    grad_p[1] += grad_h * before[0];
    grad_state[0] = grad_h * p[1];
    grad_state[1] = grad_i * p[0];
    return grad_i;
  }
};

template <class Reset>
using IF = ChargeFireReset<IFCharge, Reset>;
template <class Reset>
using LIF = ChargeFireReset<LIFCharge, Reset>;
template <class Reset>
using ParametricLIF = ChargeFireReset<ParametricLIFCharge, Reset>;
template <class Reset>
using CubaLIF = ChargeFireReset<CubaLIFCharge, Reset>;

}  // namespace snn
