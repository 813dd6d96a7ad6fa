// Conversions between the elements of sequences and float, branch-free so that loops vectorise.
#pragma once

#include <cstdint>
#include <cstring>

namespace snn::cpu::SNN_CPU_ISA {

template <class To, class From>
inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

inline float bfloat16_to_float(std::uint16_t b) {
  return bit_cast<float>(static_cast<std::uint32_t>(b) << 16);
}

// Round to nearest, ties to even.
inline std::uint16_t float_to_bfloat16(float f) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(f);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<std::uint16_t>(f != f ? 0x7fc0u : rounded);
}

inline float float16_to_float(std::uint16_t h) {
  const std::uint32_t magnitude = h & 0x7fffu;
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t normal = (magnitude << 13) + (112u << 23);
  const std::uint32_t infinite = (magnitude << 13) | 0x7f800000u;
  const std::uint32_t subnormal = bit_cast<std::uint32_t>(
      static_cast<float>(static_cast<std::int32_t>(magnitude)) * 5.9604644775390625e-8f);
  const std::uint32_t finite = magnitude < 0x400u ? subnormal : normal;
  return bit_cast<float>(sign | (magnitude >= 0x7c00u ? infinite : finite));
}

// Round to nearest, ties to even.
inline std::uint16_t float_to_float16(float f) {
  const std::uint32_t bits = bit_cast<std::uint32_t>(f);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  const std::uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Adding 1/2 leaves the result in units of 2^-24 in the low bits.
  const std::uint32_t subnormal =
      bit_cast<std::uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
  const std::uint32_t overflowed = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return static_cast<std::uint16_t>(sign | (magnitude >= 0x47800000u ? overflowed : finite));
}

}  // namespace snn::cpu::SNN_CPU_ISA
