// Conversions between the 16-bit elements of sequences and vectors of float: round to nearest, ties
// to even. In integers, or by instructions that no flush-to-zero mode touches either: the same
// bits, but for what a NaN holds.
#pragma once

#include "vec.h"

namespace snn::cpu {

using Floats = Vec<float>;
typedef std::uint16_t Halves __attribute__((vector_size(SNN_VECTOR_BYTES / 2)));
typedef std::uint32_t Bits __attribute__((vector_size(SNN_VECTOR_BYTES)));

struct BFloat16 {
  static SNN_INLINE Floats widen(Halves b) {
    return Floats(bit_cast<Floats::Raw>(__builtin_convertvector(b, Bits) << 16));
  }

  static SNN_INLINE Halves narrow(Floats f) {
    const Bits bits = bit_cast<Bits>(f.raw);
    const Bits rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const Bits quiet_nan = Bits{} + 0x7fc0u;
    return __builtin_convertvector(f.raw != f.raw ? quiet_nan : rounded, Halves);
  }
};

#if defined(__AVX512F__) && !defined(__clang__)
struct Float16 {
  typedef short Raw __attribute__((vector_size(32)));
  static SNN_INLINE Floats widen(Halves h) {
    return Floats(__builtin_ia32_vcvtph2ps512_mask(bit_cast<Raw>(h), Floats::Raw{}, -1, 4));
  }
  static SNN_INLINE Halves narrow(Floats f) {
    return bit_cast<Halves>(__builtin_ia32_vcvtps2ph512_mask(f.raw, 0, Raw{}, -1));
  }
};
#elif defined(__AVX2__) && defined(__F16C__) && !defined(__clang__)
struct Float16 {
  typedef short Raw __attribute__((vector_size(16)));
  static SNN_INLINE Floats widen(Halves h) {
    return Floats(__builtin_ia32_vcvtph2ps256(bit_cast<Raw>(h)));
  }
  static SNN_INLINE Halves narrow(Floats f) {
    return bit_cast<Halves>(__builtin_ia32_vcvtps2ph256(f.raw, 0));
  }
};
#else
struct Float16 {
  static SNN_INLINE Floats widen(Halves h) {
    const Bits bits = __builtin_convertvector(h, Bits);
    const Bits magnitude = bits & 0x7fffu;
    const Bits normal = (magnitude << 13) + (112u << 23);
    const Bits infinite = (magnitude << 13) | 0x7f800000u;
    const Bits subnormal = bit_cast<Bits>(
        __builtin_convertvector(bit_cast<Floats::Mask>(magnitude), Floats::Raw) * 0x1p-24f);
    const Bits finite = magnitude < 0x400u ? subnormal : normal;
    const Bits sign = (bits & 0x8000u) << 16;
    return Floats(bit_cast<Floats::Raw>(sign | (magnitude >= 0x7c00u ? infinite : finite)));
  }

  static SNN_INLINE Halves narrow(Floats f) {
    const Bits bits = bit_cast<Bits>(f.raw);
    const Bits magnitude = bits & 0x7fffffffu;
    const Bits normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Adding 1/2 leaves the result in units of 2^-24 in the low bits.
    const Bits subnormal = bit_cast<Bits>(bit_cast<Floats::Raw>(magnitude) + 0.5f) - 0x3f000000u;
    const Bits finite = magnitude < 0x38800000u ? subnormal : normal;
    const Bits infinity = Bits{} + 0x7c00u, quiet_nan = Bits{} + 0x7e00u;
    const Bits overflowed = magnitude > 0x7f800000u ? quiet_nan : infinity;
    const Bits sign = (bits >> 16) & 0x8000u;
    return __builtin_convertvector(sign | (magnitude >= 0x47800000u ? overflowed : finite), Halves);
  }
};
#endif

}  // namespace snn::cpu
