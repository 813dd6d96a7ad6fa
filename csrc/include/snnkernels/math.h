// Elementary functions on scalars, by the C library or CUDA. They are overloads in namespace snn,
// so that the equations, which call them unqualified, work on a driver's own vector type as well.
#pragma once

#include "config.h"

#if !defined(__CUDACC_RTC__)
#include <math.h>
#endif

namespace snn {

SNN_HD float exp(float x) {
  return ::expf(x);
}
SNN_HD double exp(double x) {
  return ::exp(x);
}
SNN_HD float log(float x) {
  return ::logf(x);
}
SNN_HD double log(double x) {
  return ::log(x);
}
SNN_HD float atan(float x) {
  return ::atanf(x);
}
SNN_HD double atan(double x) {
  return ::atan(x);
}
SNN_HD float erf(float x) {
  return ::erff(x);
}
SNN_HD double erf(double x) {
  return ::erf(x);
}
SNN_HD float erfc(float x) {
  return ::erfcf(x);
}
SNN_HD double erfc(double x) {
  return ::erfc(x);
}
SNN_HD float sin(float x) {
  return ::sinf(x);
}
SNN_HD double sin(double x) {
  return ::sin(x);
}
SNN_HD float cos(float x) {
  return ::cosf(x);
}
SNN_HD double cos(double x) {
  return ::cos(x);
}
SNN_HD float tanh(float x) {
  return ::tanhf(x);
}
SNN_HD double tanh(double x) {
  return ::tanh(x);
}
SNN_HD float log1p(float x) {
  return ::log1pf(x);
}
SNN_HD double log1p(double x) {
  return ::log1p(x);
}
SNN_HD float expm1(float x) {
  return ::expm1f(x);
}
SNN_HD double expm1(double x) {
  return ::expm1(x);
}
SNN_HD float sqrt(float x) {
  return ::sqrtf(x);
}
SNN_HD double sqrt(double x) {
  return ::sqrt(x);
}
SNN_HD float abs(float x) {
  return ::fabsf(x);
}
SNN_HD double abs(double x) {
  return ::fabs(x);
}
SNN_HD float floor(float x) {
  return ::floorf(x);
}
SNN_HD double floor(double x) {
  return ::floor(x);
}
SNN_HD float ceil(float x) {
  return ::ceilf(x);
}
SNN_HD double ceil(double x) {
  return ::ceil(x);
}
SNN_HD float trunc(float x) {
  return ::truncf(x);
}
SNN_HD double trunc(double x) {
  return ::trunc(x);
}
// To the nearest integer, halves to the even one.
SNN_HD float round(float x) {
  return ::rintf(x);
}
SNN_HD double round(double x) {
  return ::rint(x);
}
// x * y + z, rounded once.
SNN_HD float fma(float x, float y, float z) {
  return ::fmaf(x, y, z);
}
SNN_HD double fma(double x, double y, double z) {
  return ::fma(x, y, z);
}
SNN_HD float pow(float x, float y) {
  return ::powf(x, y);
}
SNN_HD double pow(double x, double y) {
  return ::pow(x, y);
}

SNN_HD float select(bool condition, float yes, float no) {
  return condition ? yes : no;
}
SNN_HD double select(bool condition, double yes, double no) {
  return condition ? yes : no;
}

template <class T>
SNN_HD T min(T x, T y) {
  return select(y < x, y, x);
}

template <class T>
SNN_HD T max(T x, T y) {
  return select(x < y, y, x);
}

// The smaller and the greater of two; NaN if either is.
template <class T>
SNN_HD T minimum(T x, T y) {
  return select(x < y, x, select(x >= y, y, x + y));
}
template <class T>
SNN_HD T maximum(T x, T y) {
  return select(x > y, x, select(y >= x, y, x + y));
}

// -1, 0 or 1; NaN gives 0.
template <class T>
SNN_HD T sign(T x) {
  return select(x > T(0), T(1), select(x < T(0), T(-1), T(0)));
}

// Of the outcome of a comparison of values of type T: its contrary.
template <class T, class Mask>
SNN_HD Mask logical_not(Mask mask) {
  return mask ^ (T(0) >= T(0));
}

// 1 where u >= 0, else 0; NaN gives 0.
template <class T>
SNN_HD T heaviside(T u) {
  return select(u >= T(0), T(1), T(0));
}

// a * b + c, which a vector type may round but once: for gradients, which promise no bits, or where
// a * b is exact.
template <class T>
SNN_HD T multiply_add(T a, T b, T c) {
  return a * b + c;
}

// 1 / x of a normal x > 0, to a few units in the last place: for gradients too.
template <class T>
SNN_HD T inverse(T x) {
  return T(1) / x;
}

// exp of x <= 0, which a vector type can do in fewer operations.
template <class T>
SNN_HD T exp_nonpositive(T x) {
  return exp(x);
}

// exp of rate * x <= 0: for gradients.
template <class T>
SNN_HD T decay(T rate, T x) {
  return exp_nonpositive(rate * x);
}

// In gradients on a GPU by its own instructions, which take a subnormal for zero.
#if defined(__CUDA_ARCH__)
SNN_HD float multiply_add(float a, float b, float c) {
  return __fmaf_rn(a, b, c);
}
SNN_HD double multiply_add(double a, double b, double c) {
  return __fma_rn(a, b, c);
}
SNN_HD float inverse(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
SNN_HD float power_of_two(float exponent) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(exponent));
  return y;
}
constexpr float kLog2E = 1.44269504f;
SNN_HD float decay(float rate, float x) {
  return power_of_two(rate * kLog2E * x);
}
#endif

template <class T>
SNN_HD T sigmoid(T x) {
  const T e = exp_nonpositive(-abs(x));
  return select(x < T(0), e, T(1)) / (T(1) + e);
}

// The derivative of sigmoid(rate x) by x, without cancellation.
template <class T>
SNN_HD T sigmoid_slope(T rate, T x) {
  const T e = decay(-rate, abs(x));
  return rate * e * inverse((T(1) + e) * (T(1) + e));
}
#if defined(__CUDA_ARCH__)
// The factor is a term of the exponent: a step less.
SNN_HD float sigmoid_slope(float rate, float x) {
  const float e = power_of_two(multiply_add(-rate * kLog2E, abs(x), __log2f(rate)));
  const float y = multiply_add(e, inverse(rate), 1.0f);
  return e * inverse(y * y);
}
#endif

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

}  // namespace snn
