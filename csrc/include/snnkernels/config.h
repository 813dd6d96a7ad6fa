// What lets one source compile with a host compiler, nvcc and NVRTC: no torch, no standard library.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SNN_HD __host__ __device__ __forceinline__
#define SNN_UNROLL _Pragma("unroll")
#else
#define SNN_HD inline __attribute__((always_inline))
#define SNN_UNROLL
#endif

namespace snn {

using int64 = long long;

}  // namespace snn
