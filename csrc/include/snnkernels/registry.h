// Everything that has a name: ids, names, parameter counts and dispatch follow from these lines.
#pragma once

#include "neurons.h"
#include "surrogates.h"

// X(struct, (states), (parameters before v_threshold and v_reset))
#define SNN_FOR_EACH_NEURON(X) \
  X(IF, (v), ())               \
  X(LIF, (v), (tau))           \
  X(ParametricLIF, (v), (r))   \
  X(CubaLIF, (v, i), (alpha, beta))

// X(struct, (parameters))
#define SNN_FOR_EACH_SURROGATE(X)   \
  X(Sigmoid, (alpha))               \
  X(ATan, (alpha))                  \
  X(Erf, (alpha))                   \
  X(PiecewiseQuadratic, (alpha))    \
  X(PiecewiseExp, (alpha))          \
  X(SoftSign, (alpha))              \
  X(SuperSpike, (alpha))            \
  X(FastSigmoid, (slope))           \
  X(Rect, (alpha))                  \
  X(Gaussian, (sigma))              \
  X(NonzeroSignLogAbs, (alpha))     \
  X(PiecewiseLeakyReLU, (w, c))     \
  X(LeakyKReLU, (leak, k))          \
  X(LogTailedReLU, (alpha))         \
  X(S2NN, (alpha, beta))            \
  X(QPseudoSpike, (alpha))          \
  X(FakeNumericalGradient, (alpha)) \
  X(SquarewaveFourierSeries, (n, T_period))

namespace snn {

// The names in a line's "(a, b)".
constexpr int count_of_names(const char* listed) {
  int count = listed[1] != ')';
  for (; *listed; ++listed) count += *listed == ',';
  return count;
}

#define SNN_LINE(Name, states, params)                                       \
  static_assert(Name<HardReset>::kStates == count_of_names(#states) &&       \
                    Name<HardReset>::kParams == count_of_names(#params) + 2, \
                #Name ": its line in registry.h has other states or parameters");
SNN_FOR_EACH_NEURON(SNN_LINE)
#undef SNN_LINE
#define SNN_LINE(Name, params)                               \
  static_assert(count_of_names(#params) <= kSurrogateParams, \
                #Name ": more parameters than kSurrogateParams");
SNN_FOR_EACH_SURROGATE(SNN_LINE)
#undef SNN_LINE

enum class SurrogateId : int {
#define SNN_LINE(Name, params) Name,
  SNN_FOR_EACH_SURROGATE(SNN_LINE)
#undef SNN_LINE
};

// Calls f with a value of the surrogate's struct.
template <class F>
SNN_HD auto with_surrogate(SurrogateId id, F&& f) {
  switch (id) {
#define SNN_LINE(Name, params) \
  case SurrogateId::Name:      \
    return f(Name{});
    SNN_FOR_EACH_SURROGATE(SNN_LINE)
#undef SNN_LINE
  }
  return f(Sigmoid{});
}

}  // namespace snn
