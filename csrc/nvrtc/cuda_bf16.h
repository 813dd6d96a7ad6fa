// CUDA's bfloat16 as far as the kernels use it, for NVRTC, which comes without CUDA's headers.
#pragma once

struct __nv_bfloat16 {
  unsigned short bits;
};

__device__ __forceinline__ float __bfloat162float(__nv_bfloat16 x) {
  return __uint_as_float(static_cast<unsigned>(x.bits) << 16);
}

// To the nearest, halves to the even one; NaN becomes 0x7fff, as by the instruction.
__device__ __forceinline__ __nv_bfloat16 __float2bfloat16_rn(float x) {
#if __CUDA_ARCH__ >= 900
  __nv_bfloat16 narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
  return narrow;
#else
  const unsigned wide = __float_as_uint(x);
  if ((wide & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<unsigned short>((wide + 0x7fffu + (wide >> 16 & 1u)) >> 16)};
#endif
}

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

__device__ __forceinline__ __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
