// What a scan is compiled for: a neuron, how it fires, and which of its parameters may be tables.
#pragma once

#include "neurons.h"
#include "surrogates.h"

namespace snn {

// How a neuron fires. The surrogate is part of its step and of its adjoint, which computes H again:
template <class Surrogate>
struct Inline {};
// or the call says which surrogate of registry.h it is. Then that is no part of either: steps note
// H, of which each device makes gradients, many at once, before the adjoints run.
struct Switched {};

// What an inline surrogate gives forward: spikes, or its primitive.
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

// A printed surrogate whose gradient may be infinite or NaN where its argument isn't.
template <class Surrogate>
struct WithPoles : Surrogate {};
template <class Surrogate>
inline constexpr bool kHasPoles = false;
template <class Surrogate>
inline constexpr bool kHasPoles<Spiking<WithPoles<Surrogate>>> = true;
template <class Surrogate>
inline constexpr bool kHasPoles<Smooth<WithPoles<Surrogate>>> = true;

// What steps and adjoints are called with where the surrogate is inline.
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

// A printed neuron has kStates, kParams and kOutputs, and no options; its steps and adjoints may
// ask fire.spike(u), fire.gradient(u) and fire.scaled(grad, gradient) any number of times.
template <class Printed>
struct WithoutOptions : Printed {
  static constexpr bool kDivides = false;

  static SNN_HD Options options(const Options& given) { return given; }

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

// A neuron of the library whose options are fixed when its kernel is compiled.
template <class Neuron, bool detach_reset, bool decay_input, bool inverse_is_exact>
struct WithOptions : Neuron {
  static SNN_HD Options options(const Options&) {
    return {detach_reset, decay_input, inverse_is_exact};
  }
};

constexpr unsigned kAllTables = ~0u;

template <class Neuron, class Fire_, unsigned kTables_, unsigned kShared_ = 0>
struct ScanTraits : Neuron {
  static_assert(Neuron::kParams <= kMaxParams && kMaxParams <= 16, "a call has 16 bits for tables");
  using Fire = Fire_;
  static constexpr int kArrayOfParams = Neuron::kParams > 0 ? Neuron::kParams : 1;
  // A bit for each parameter: with Inline whether it is a table, with Switched whether it may be
  // one.
  static constexpr unsigned kTables = kTables_ & ((1u << Neuron::kParams) - 1u);
  // Those that are a table of one value, which all lanes share.
  static constexpr unsigned kShared = kShared_ & ((1u << Neuron::kParams) - 1u);
  static_assert((kTables & kShared) == 0, "a table is either shared or has values by lane");

  static SNN_HD constexpr bool is_table(int i) { return (kTables >> i & 1u) != 0; }
  static SNN_HD constexpr bool is_shared(int i) { return (kShared >> i & 1u) != 0; }
};

}  // namespace snn
