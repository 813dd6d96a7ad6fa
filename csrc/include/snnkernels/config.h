// What lets one source compile with a host compiler, nvcc and NVRTC: no torch, no standard library.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define SNN_HD __host__ __device__ __forceinline__
// For a template that passes on to what the caller gives, be it for the host or for the device.
#define SNN_PASSES_ON _Pragma("nv_exec_check_disable")
#else
#define SNN_HD inline __attribute__((always_inline))
#define SNN_PASSES_ON
#endif

// For loops over arrays that must live in a GPU's registers.
#if defined(__CUDA_ARCH__) || defined(__CUDACC_RTC__)
#define SNN_UNROLL _Pragma("unroll")
#else
#define SNN_UNROLL
#endif

namespace snn {

using int64 = long long;

}  // namespace snn
