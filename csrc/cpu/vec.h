// A vector of lanes with the operators that the equations use: the compiler's vector extension, as
// wide as the instruction set of this library. Explicit, because whether a compiler vectorises the
// equations by itself depends on its version and mood.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "../include/snnkernels/math.h"

#if defined(__AVX512F__)
#define SNN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define SNN_VECTOR_BYTES 32
#else
#define SNN_VECTOR_BYTES 16
#endif

#define SNN_INLINE inline __attribute__((always_inline))

namespace snn::cpu {

template <class T>
struct Lane;
template <>
struct Lane<float> {
  using Int = std::int32_t;
  typedef float Raw __attribute__((vector_size(SNN_VECTOR_BYTES)));
  typedef Int Mask __attribute__((vector_size(SNN_VECTOR_BYTES)));
};
template <>
struct Lane<double> {
  using Int = std::int64_t;
  typedef double Raw __attribute__((vector_size(SNN_VECTOR_BYTES)));
  typedef Int Mask __attribute__((vector_size(SNN_VECTOR_BYTES)));
};

template <class T>
struct Vec {
  using Raw = typename Lane<T>::Raw;
  using Mask = typename Lane<T>::Mask;
  static constexpr int kSize = SNN_VECTOR_BYTES / sizeof(T);

  Raw raw;

  SNN_INLINE Vec() = default;
  SNN_INLINE explicit Vec(T value) : raw(value - Raw{}) {}
  SNN_INLINE explicit Vec(Raw value) : raw(value) {}

  static SNN_INLINE Vec load(const T* from) {
    Vec v;
    std::memcpy(&v.raw, from, sizeof v.raw);
    return v;
  }
  SNN_INLINE void store(T* to) const { std::memcpy(to, &raw, sizeof raw); }

  friend SNN_INLINE Vec operator-(Vec a) { return Vec(-a.raw); }
  friend SNN_INLINE Vec operator+(Vec a, Vec b) { return Vec(a.raw + b.raw); }
  friend SNN_INLINE Vec operator-(Vec a, Vec b) { return Vec(a.raw - b.raw); }
  friend SNN_INLINE Vec operator*(Vec a, Vec b) { return Vec(a.raw * b.raw); }
  friend SNN_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.raw / b.raw); }
  SNN_INLINE Vec& operator+=(Vec b) { return *this = *this + b; }
  SNN_INLINE Vec& operator-=(Vec b) { return *this = *this - b; }
  friend SNN_INLINE Mask operator<(Vec a, Vec b) { return a.raw < b.raw; }
  friend SNN_INLINE Mask operator>(Vec a, Vec b) { return a.raw > b.raw; }
  friend SNN_INLINE Mask operator>=(Vec a, Vec b) { return a.raw >= b.raw; }
  friend SNN_INLINE Mask operator<=(Vec a, Vec b) { return a.raw <= b.raw; }
  friend SNN_INLINE Mask operator==(Vec a, Vec b) { return a.raw == b.raw; }
  friend SNN_INLINE Mask operator!=(Vec a, Vec b) { return a.raw != b.raw; }
  friend SNN_INLINE Vec select(Mask mask, Vec yes, Vec no) { return Vec(mask ? yes.raw : no.raw); }
};

template <class To, class From>
SNN_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same bits");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T>
constexpr typename Lane<T>::Int kAllButSign = std::numeric_limits<typename Lane<T>::Int>::max();

template <class T>
SNN_INLINE Vec<T> abs(Vec<T> x) {
  using V = Vec<T>;
  return V(bit_cast<typename V::Raw>(bit_cast<typename V::Mask>(x.raw) & kAllButSign<T>));
}

// size >= 0 with the sign of x, be it that of a zero.
template <class T>
SNN_INLINE Vec<T> with_sign(Vec<T> size, Vec<T> x) {
  using V = Vec<T>;
  using Bits = typename V::Mask;
  return V(bit_cast<typename V::Raw>(bit_cast<Bits>(size.raw) |
                                     (bit_cast<Bits>(x.raw) & ~kAllButSign<T>)));
}

// Copies whole vectors to aligned memory past the caches. What is stored so is seen by other
// threads only after stream_fence().
SNN_INLINE void stream_bytes(const void* from, void* to, std::size_t bytes) {
  using Raw = Lane<float>::Raw;
  for (std::size_t b = 0; b < bytes; b += sizeof(Raw)) {
    Raw raw;
    std::memcpy(&raw, static_cast<const char*>(from) + b, sizeof raw);
    auto* place = reinterpret_cast<float*>(static_cast<char*>(to) + b);
#if defined(__clang__)
    __builtin_nontemporal_store(raw, reinterpret_cast<Raw*>(place));
#elif defined(__AVX512F__)
    __builtin_ia32_movntps512(place, raw);
#elif defined(__AVX2__)
    __builtin_ia32_movntps256(place, raw);
#elif defined(__SSE__)
    __builtin_ia32_movntps(place, raw);
#else
    std::memcpy(place, &raw, sizeof raw);
#endif
  }
}

SNN_INLINE void stream_fence() {
#if defined(__SSE__)
  __builtin_ia32_sfence();
#endif
}

SNN_INLINE bool is_vector_aligned(const void* place, std::size_t bytes) {
  return (reinterpret_cast<std::uintptr_t>(place) | bytes) % SNN_VECTOR_BYTES == 0;
}

// a * b + c, rounded once where the instruction set can.
SNN_INLINE Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return Vec<float>(__builtin_ia32_vfmaddps512_mask(a.raw, b.raw, c.raw, -1, 4));
#elif defined(__AVX2__) && defined(__FMA__)
  return Vec<float>(__builtin_ia32_vfmaddps256(a.raw, b.raw, c.raw));
#else
  return a * b + c;
#endif
}

// The instruction set's estimate and one step of Newton's, in which x is finite, so that infinity,
// whose estimate is 0, does not make NaN of it. Reciprocals that are denormal may be 0. Of two
// operands min gives the second where one is NaN.
SNN_INLINE Vec<float> inverse(Vec<float> x) {
  using V = Vec<float>;
#if defined(__SSE__)
  const V most(std::numeric_limits<float>::max());
  V finite, estimate;
#if defined(__AVX512F__)
  estimate.raw = __builtin_ia32_rcp14ps512_mask(x.raw, x.raw, -1);
#if defined(__clang__)
  finite.raw = __builtin_ia32_minps512(most.raw, x.raw, 4);
#else
  finite.raw = __builtin_ia32_minps512_mask(most.raw, x.raw, x.raw, -1, 4);
#endif
#elif defined(__AVX2__)
  estimate.raw = __builtin_ia32_rcpps256(x.raw);
  finite.raw = __builtin_ia32_minps256(most.raw, x.raw);
#else
  estimate.raw = __builtin_ia32_rcpps(x.raw);
  finite.raw = __builtin_ia32_minps(most.raw, x.raw);
#endif
  return estimate * multiply_add(-finite, estimate, V(2.0f));
#else
  return V(1.0f) / x;
#endif
}

// exp(x) = 2^n exp(r), |r| <= ln(2)/2, with the polynomial of Cephes' expf (S. Moshier): 2 ulp. x
// is within the range of float's exponents; NaN stays NaN.
struct ExpParts {
  Vec<float> factor;  // exp(r)
  Vec<float>::Mask n;
};

SNN_INLINE ExpParts exp_parts(Vec<float> x) {
  using V = Vec<float>;
  const V magic(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V n = multiply_add(x, V(1.44269504088896341f), magic) - magic;
  const V r = multiply_add(n, V(2.12194440e-4f), multiply_add(n, V(-0.693359375f), x));
  const V squared = r * r;
  const V p5 = multiply_add(V(1.9875691500e-4f), r, V(1.3981999507e-3f));
  const V p3 = multiply_add(V(8.3334519073e-3f), r, V(4.1665795894e-2f));
  const V p1 = multiply_add(V(1.6666665459e-1f), r, V(5.0000001201e-1f));
  V p = multiply_add(multiply_add(p5, squared, p3), squared, p1);
  p = multiply_add(p, squared, r) + V(1.0f);
  return {p, __builtin_convertvector(n.raw, V::Mask)};
}

SNN_INLINE Vec<float> power_of_two(Vec<float>::Mask n) {
  return Vec<float>(bit_cast<Vec<float>::Raw>((n + 127) << 23));
}

// What lies beyond has the exponential of the bound: 0 and infinity.
constexpr float kExpLower = -104.0f, kExpUpper = 89.0f;

SNN_INLINE Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  const V lower(kExpLower), upper(kExpUpper);
  const ExpParts parts = exp_parts(select(x < lower, lower, select(x > upper, upper, x)));
  const V::Mask half = parts.n >> 1;  // two factors: neither 2^128 nor 2^-150 is a normal float
  return parts.factor * power_of_two(half) * power_of_two(parts.n - half);
}

SNN_INLINE Vec<float> exp_nonpositive(Vec<float> x) {
  using V = Vec<float>;
  const V lower(kExpLower);
  const ExpParts parts = exp_parts(select(x < lower, lower, x));
  return parts.factor * power_of_two(parts.n + 24) * V(0x1p-24f);
}

template <class T, class F>
SNN_INLINE Vec<T> each(Vec<T> x, F f) {
  Vec<T> y;
  for (int i = 0; i < Vec<T>::kSize; ++i) y.raw[i] = f(x.raw[i]);
  return y;
}

SNN_INLINE Vec<double> exp(Vec<double> x) {
  return each(x, [](double e) { return std::exp(e); });
}

// log(x) = n ln(2) + log(m), m in [sqrt(1/2), sqrt(2)), with the polynomial of Cephes' logf: 2 ulp.
SNN_INLINE Vec<float> log(Vec<float> x) {
  using V = Vec<float>;
  using Bits = V::Mask;
  const Bits subnormal = x < V(0x1p-126f);
  const V scaled = select(subnormal, x * V(0x1p23f), x);
  const Bits shifted = bit_cast<Bits>(scaled.raw) - 0x3f3504f3;  // sqrt(1/2)
  const Bits n = (shifted >> 23) - (subnormal & 23);
  const V m(bit_cast<V::Raw>((shifted & 0x007fffff) + 0x3f3504f3));
  const V r = m - V(1.0f);
  V p(7.0376836292e-2f);
  p = p * r + V(-1.1514610310e-1f);
  p = p * r + V(1.1676998740e-1f);
  p = p * r + V(-1.2420140846e-1f);
  p = p * r + V(1.4249322787e-1f);
  p = p * r + V(-1.6668057665e-1f);
  p = p * r + V(2.0000714765e-1f);
  p = p * r + V(-2.4999993993e-1f);
  p = p * r + V(3.3333331174e-1f);
  const V e(__builtin_convertvector(n, V::Raw));
  const V squared = r * r;
  const V tail = p * r * squared + e * V(-2.12194440e-4f) - V(0.5f) * squared;
  const V y = r + tail + e * V(0.693359375f);
  const V infinity(__builtin_inff()), nan(__builtin_nanf(""));
  const V positive = select(x < infinity, y, x);
  return select(x > V(0.0f), positive, select(x == V(0.0f), -infinity, nan));
}

// log(1 + x), corrected for what the sum rounds off.
SNN_INLINE Vec<float> log1p(Vec<float> x) {
  using V = Vec<float>;
  const V sum = V(1.0f) + x;
  const V lost = ((sum - V(1.0f)) - x) / sum;
  const V y = log(sum);
  const V::Mask finite = (sum > V(0.0f)) & (sum < V(__builtin_inff()));
  return select(sum == V(1.0f), x, select(finite, y - lost, y));
}

// Near 0 the polynomial of Cephes' tanhf, elsewhere by exp: 2 ulp.
SNN_INLINE Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  const V size = abs(x), z = x * x;
  V p(-5.70498872745e-3f);
  p = p * z + V(2.06390887954e-2f);
  p = p * z + V(-5.37397155531e-2f);
  p = p * z + V(1.33314422036e-1f);
  p = p * z + V(-3.33332819422e-1f);
  const V near = p * z * size + size;
  const V far = V(1.0f) - V(2.0f) / (exp(size + size) + V(1.0f));
  return with_sign(select(size < V(0.625f), near, far), x);
}

#define SNN_EACH(name)                                \
  template <class T>                                  \
  SNN_INLINE Vec<T> name(Vec<T> x) {                  \
    return each(x, [](T e) { return snn::name(e); }); \
  }
SNN_EACH(atan)
SNN_EACH(erf)
SNN_EACH(erfc)
SNN_EACH(sin)
SNN_EACH(cos)
SNN_EACH(expm1)
#undef SNN_EACH

#define SNN_EACH_DOUBLE(name)                              \
  SNN_INLINE Vec<double> name(Vec<double> x) {             \
    return each(x, [](double e) { return snn::name(e); }); \
  }
SNN_EACH_DOUBLE(log)
SNN_EACH_DOUBLE(log1p)
SNN_EACH_DOUBLE(tanh)
#undef SNN_EACH_DOUBLE

// What the instruction set has for vectors: as a loop over memory, which compilers vectorise.
#define SNN_EACH_IN_MEMORY(name)                                              \
  template <class T>                                                          \
  SNN_INLINE Vec<T> name(Vec<T> x) {                                          \
    alignas(sizeof(Vec<T>)) T values[Vec<T>::kSize];                          \
    x.store(values);                                                          \
    for (int i = 0; i < Vec<T>::kSize; ++i) values[i] = snn::name(values[i]); \
    return Vec<T>::load(values);                                              \
  }
SNN_EACH_IN_MEMORY(sqrt)
SNN_EACH_IN_MEMORY(floor)
SNN_EACH_IN_MEMORY(ceil)
SNN_EACH_IN_MEMORY(trunc)
SNN_EACH_IN_MEMORY(round)
#undef SNN_EACH_IN_MEMORY

template <class T>
SNN_INLINE Vec<T> fma(Vec<T> x, Vec<T> y, Vec<T> z) {
  Vec<T> sum;
  for (int i = 0; i < Vec<T>::kSize; ++i) sum.raw[i] = snn::fma(x.raw[i], y.raw[i], z.raw[i]);
  return sum;
}

template <class T>
SNN_INLINE Vec<T> pow(Vec<T> x, Vec<T> y) {
  Vec<T> z;
  for (int i = 0; i < Vec<T>::kSize; ++i) z.raw[i] = snn::pow(x.raw[i], y.raw[i]);
  return z;
}

}  // namespace snn::cpu
