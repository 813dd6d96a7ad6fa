// Elementary functions. On a host compiler the float32 ones are branch-free polynomials, which a loop
// over lanes vectorises; on a GPU they are CUDA's own. float64 takes the C library's everywhere.
#pragma once

#include "config.h"

#if !defined(__CUDACC_RTC__)
#include <math.h>
#include <string.h>
#endif

namespace snn::math {

#if defined(__CUDA_ARCH__)

SNN_HD float exp(float x) { return ::expf(x); }
SNN_HD double exp(double x) { return ::exp(x); }

#else

// exp(x) = 2^n exp(r), |r| <= ln(2)/2, with the polynomial of Cephes' expf (S. Moshier): 2 ulp.
SNN_HD float exp(float x) {
  const float lower = -87.33654f, upper = 88.72283f;
  const float clipped = x < lower ? lower : (x > upper ? upper : x);
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = clipped * 1.44269504088896341f + magic;
  const float n = shifted - magic;
  float r = clipped - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // Two factors, because 2^128 is no float and 2^-127 no normal one.
  const int whole = static_cast<int>(n), half = whole / 2;
  const int bits_a = (half + 127) << 23, bits_b = (whole - half + 127) << 23;
  float a, b;
  memcpy(&a, &bits_a, sizeof a);
  memcpy(&b, &bits_b, sizeof b);
  const float y = p * a * b;
  const float below = x < lower ? 0.0f : y;
  const float finite = x > upper ? __builtin_inff() : below;
  return x != x ? x : finite;
}
SNN_HD double exp(double x) { return ::exp(x); }

#endif

SNN_HD float log(float x) { return ::logf(x); }
SNN_HD double log(double x) { return ::log(x); }
SNN_HD float pow(float x, float y) { return ::powf(x, y); }
SNN_HD double pow(double x, double y) { return ::pow(x, y); }
SNN_HD float atan(float x) { return ::atanf(x); }
SNN_HD double atan(double x) { return ::atan(x); }
SNN_HD float erf(float x) { return ::erff(x); }
SNN_HD double erf(double x) { return ::erf(x); }
SNN_HD float erfc(float x) { return ::erfcf(x); }
SNN_HD double erfc(double x) { return ::erfc(x); }
SNN_HD float sin(float x) { return ::sinf(x); }
SNN_HD double sin(double x) { return ::sin(x); }
SNN_HD float cos(float x) { return ::cosf(x); }
SNN_HD double cos(double x) { return ::cos(x); }

template <class T>
SNN_HD T abs(T x) {
  return x < T(0) ? -x : x;
}

template <class T>
SNN_HD T min(T x, T y) {
  return y < x ? y : x;
}

template <class T>
SNN_HD T max(T x, T y) {
  return x < y ? y : x;
}

template <class T>
SNN_HD T sigmoid(T x) {
  const T e = math::exp(-math::abs(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

// sigmoid(x) (1 - sigmoid(x)), without cancellation.
template <class T>
SNN_HD T sigmoid_slope(T x) {
  const T e = math::exp(-math::abs(x));
  return e / ((T(1) + e) * (T(1) + e));
}

}  // namespace snn::math
