// CUDA's half as far as the kernels use it, for NVRTC, which comes without CUDA's headers.
#pragma once

struct __half {
  unsigned short bits;
};

__device__ __forceinline__ float __half2float(__half x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}

// To the nearest, halves to the even one.
__device__ __forceinline__ __half __float2half_rn(float x) {
  __half narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
  return narrow;
}

struct alignas(4) __half2 {
  __half x, y;
};

__device__ __forceinline__ __half2 __floats2half2_rn(float x, float y) {
  return {__float2half_rn(x), __float2half_rn(y)};
}
