// The surrogates: for each the gradient g'(x) and its primitive g(x), x = H - v_threshold.
//
// To add one: write its struct here, its line in registry.h, and its class in snnkernels/surrogate.py.
// Parameters come in p, in the order of the registry's line.
#pragma once

#include "math.h"

namespace snn {

constexpr double kPi = 3.14159265358979323846;
constexpr int kSurrogateParams = 2;

struct Sigmoid {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return p[0] * math::sigmoid_slope(p[0] * x);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return math::sigmoid(p[0] * x);
  }
};

struct ATan {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = T(kPi / 2) * p[0] * x;
    return p[0] / T(2) / (T(1) + y * y);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return math::atan(T(kPi / 2) * p[0] * x) / T(kPi) + T(0.5);
  }
};

struct Erf {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = p[0] * x;
    return p[0] * T(0.56418958354775628695) * math::exp(-(y * y));
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return math::erfc(-p[0] * x) / T(2);
  }
};

struct PiecewiseQuadratic {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T g = p[0] - p[0] * p[0] * math::abs(x);
    return g < T(0) ? T(0) : g;
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T inside = -(p[0] * p[0]) / T(2) * x * math::abs(x) + p[0] * x + T(0.5);
    return x < T(-1) / p[0] ? T(0) : (x > T(1) / p[0] ? T(1) : inside);
  }
};

struct PiecewiseExp {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return p[0] / T(2) * math::exp(-p[0] * math::abs(x));
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T tail = math::exp(-p[0] * math::abs(x)) / T(2);
    return x < T(0) ? tail : T(1) - tail;
  }
};

struct SoftSign {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = T(1) + math::abs(p[0] * x);
    return p[0] / (T(2) * y * y);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T y = p[0] * x;
    return (y / (T(1) + math::abs(y)) + T(1)) / T(2);
  }
};

struct SuperSpike {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = T(1) + math::abs(x);
    return p[0] / (y * y);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return p[0] * x / (T(1) + math::abs(x));
  }
};

struct FastSigmoid {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = T(1) + p[0] * math::abs(x);
    return T(1) / (y * y);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return x / (T(1) + p[0] * math::abs(x));
  }
};

struct Rect {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return math::abs(x) < T(0.5) / p[0] ? p[0] : T(0) * x;
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T y = p[0] * x + T(0.5);
    return y < T(0) ? T(0) : (y > T(1) ? T(1) : y);
  }
};

struct Gaussian {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T y = x / p[0];
    return math::exp(-(y * y) / T(2)) * T(0.39894228040143267794) / p[0];
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return (T(1) + math::erf(x / p[0] * T(0.70710678118654752440))) / T(2);
  }
};

struct NonzeroSignLogAbs {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return T(1) / (T(1) / p[0] + math::abs(x));
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return (x < T(0) ? T(-1) : T(1)) * math::log(math::abs(p[0] * x) + T(1));
  }
};

struct PiecewiseLeakyReLU {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return math::abs(x) > p[0] ? p[1] : T(1) / (T(2) * p[0]);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T below = p[1] * x + p[1] * p[0];
    const T above = p[1] * x - p[1] * p[0] + T(1);
    const T inside = x / (T(2) * p[0]) + T(0.5);
    return x < -p[0] ? below : (x > p[0] ? above : inside);
  }
};

struct LeakyKReLU {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return x >= T(0) ? p[1] : p[0];
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    return (x >= T(0) ? p[1] : p[0]) * x;
  }
};

struct LogTailedReLU {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T above = T(1) / math::max(x, T(1));
    return x > T(0) ? above : p[0];
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T tail = math::log(math::max(x, T(1))) + T(1);
    return x > T(1) ? tail : (x > T(0) ? x : p[0] * x);
  }
};

struct S2NN {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T below = p[0] * math::sigmoid_slope(p[0] * x);
    const T above = p[1] / (math::max(x, T(0)) + T(1));
    return x < T(0) ? below : above;
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T above = p[1] * math::log(math::max(x, T(0)) + T(1)) + T(0.5);
    return x < T(0) ? math::sigmoid(p[0] * x) : above;
  }
};

struct QPseudoSpike {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return math::pow(T(1) + T(2) * math::abs(x) / (p[0] - T(1)), -p[0]);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T base = T(1) + T(2) * math::abs(x) / (p[0] - T(1));
    const T tail = math::pow(base, T(1) - p[0]) / T(2);
    return x < T(0) ? tail : T(1) - tail;
  }
};

// It has no primitive; the Python side refuses to ask for one.
struct FakeNumericalGradient {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    return math::min(T(1) / math::abs(x), p[0]);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T*) {
    return x;
  }
};

struct SquarewaveFourierSeries {
  template <class T>
  static SNN_HD T gradient(T x, const T* p) {
    const T w = T(2 * kPi) / p[1];
    T total = T(0);
    for (int i = 1; i < static_cast<int>(p[0]); ++i) total += math::cos(T(2 * i - 1) * w * x);
    return total * (T(4) / p[1]);
  }
  template <class T>
  static SNN_HD T primitive(T x, const T* p) {
    const T w = T(2 * kPi) / p[1];
    T total = T(0);
    for (int i = 1; i < static_cast<int>(p[0]); ++i) {
      total += math::sin(T(2 * i - 1) * w * x) / T(2 * i - 1);
    }
    return T(0.5) + total * T(2 / kPi);
  }
};

}  // namespace snn
