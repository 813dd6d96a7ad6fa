// The surrogates: for each the gradient g'(x) and its primitive g(x), x = H - v_threshold.
//
// CONTRIBUTING.md says what else to touch to add one. x is a scalar or a driver's vector of
// scalars; p holds the parameters, numbers in the order of the registry's line.
#pragma once

#include "math.h"

namespace snn {

constexpr double kPi = 3.14159265358979323846;
constexpr int kSurrogateParams = 2;     // of those below
constexpr int kMaxSurrogateParams = 8;  // of any

struct Sigmoid {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    return sigmoid_slope(a, x);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    return sigmoid(a * x);
  }
};

struct ATan {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    const T y = T(kPi / 2) * a * x;
    return a / T(2) * inverse(multiply_add(y, y, T(1)));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    return atan(T(kPi / 2) * a * x) / T(kPi) + T(0.5);
  }
};

struct Erf {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    const T y = a * x;
    return a * T(0.56418958354775628695) * decay(T(-1), y * y);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    return erfc(-a * x) / T(2);
  }
};

struct PiecewiseQuadratic {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    const T slope = a - a * a * abs(x);
    return select(slope < T(0), T(0), slope);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    const T inside = -(a * a) / T(2) * x * abs(x) + a * x + T(0.5);
    return select(x < T(-1) / a, T(0), select(x > T(1) / a, T(1), inside));
  }
};

struct PiecewiseExp {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    return a / T(2) * decay(-a, abs(x));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    const T tail = exp_nonpositive(-a * abs(x)) / T(2);
    return select(x < T(0), tail, T(1) - tail);
  }
};

struct SoftSign {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    const T y = T(1) + abs(a * x);
    return a / T(2) * inverse(y * y);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    const T y = a * x;
    return (y / (T(1) + abs(y)) + T(1)) / T(2);
  }
};

struct SuperSpike {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T y = T(1) + abs(x);
    return T(p[0]) * inverse(y * y);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    return T(p[0]) * x / (T(1) + abs(x));
  }
};

struct FastSigmoid {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T y = T(1) + T(p[0]) * abs(x);
    return inverse(y * y);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    return x / (T(1) + T(p[0]) * abs(x));
  }
};

struct Rect {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    return select(abs(a * x) < T(0.5), a, T(0));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    const T y = a * x + T(0.5);
    return select(y < T(0), T(0), select(y > T(1), T(1), y));
  }
};

struct Gaussian {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T y = x / T(p[0]);
    return decay(T(-0.5), y * y) * T(0.39894228040143267794) / T(p[0]);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    return (T(1) + erf(x / T(p[0]) * T(0.70710678118654752440))) / T(2);
  }
};

struct NonzeroSignLogAbs {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    return T(1) / (T(1) / T(p[0]) + abs(x));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    return select(x < T(0), T(-1), T(1)) * log(abs(T(p[0]) * x) + T(1));
  }
};

struct PiecewiseLeakyReLU {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T w = T(p[0]), c = T(p[1]);
    return select(abs(x) > w, c, T(1) / (T(2) * w));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T w = T(p[0]), c = T(p[1]);
    const T below = c * x + c * w;
    const T above = c * x - c * w + T(1);
    const T inside = x / (T(2) * w) + T(0.5);
    return select(x < -w, below, select(x > w, above, inside));
  }
};

struct LeakyKReLU {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    return select(x >= T(0), T(p[1]), T(p[0]));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    return select(x >= T(0), T(p[1]), T(p[0])) * x;
  }
};

struct LogTailedReLU {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T above = T(1) / max(x, T(1));
    return select(x > T(0), above, T(p[0]));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T tail = log(max(x, T(1))) + T(1);
    return select(x > T(1), tail, select(x > T(0), x, T(p[0]) * x));
  }
};

struct S2NN {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]), b = T(p[1]);
    const T below = sigmoid_slope(a, x);
    const T above = b / (max(x, T(0)) + T(1));
    return select(x < T(0), below, above);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]), b = T(p[1]);
    const T above = b * log(max(x, T(0)) + T(1)) + T(0.5);
    return select(x < T(0), sigmoid(a * x), above);
  }
};

struct QPseudoSpike {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    return pow(T(1) + T(2) * abs(x) / (a - T(1)), -a);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    const T tail = pow(T(1) + T(2) * abs(x) / (a - T(1)), T(1) - a) / T(2);
    return select(x < T(0), tail, T(1) - tail);
  }
};

// It has no primitive; the Python side refuses to ask for one.
struct FakeNumericalGradient {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    return min(T(1) / abs(x), T(p[0]));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P*) {
    return x;
  }
};

// The harmonics are of odd order, so that whole half periods do but change the sign. They are taken
// from x first, exactly where 2 x / T_period is below 2^24: of a large angle a float keeps nothing.
struct SquarewaveFourierSeries {
  template <class T>
  struct Phase {
    T angle;  // within a quarter turn of 0
    T sign;
  };

  template <class T, class P>
  static SNN_HD Phase<T> phase(T x, P period) {
    const T half = T(period / P(2));
    const T count = round(x / half);
    const T odd = abs(count - T(2) * round(count / T(2)));
    return {fma(-count, half, x) * T(P(2 * kPi) / period), T(1) - T(2) * odd};
  }

  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const Phase<T> at = phase(x, p[1]);
    T total = T(0);
    for (int i = 1; i < static_cast<int>(p[0]); ++i) total = total + cos(T(2 * i - 1) * at.angle);
    return at.sign * total * T(P(4) / p[1]);
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const Phase<T> at = phase(x, p[1]);
    T total = T(0);
    for (int i = 1; i < static_cast<int>(p[0]); ++i) {
      total = total + sin(T(2 * i - 1) * at.angle) / T(2 * i - 1);
    }
    return T(0.5) + at.sign * total * T(2 / kPi);
  }
};

}  // namespace snn
