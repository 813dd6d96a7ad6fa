// What the kernels' bodies need of CUDA C++, for a host compiler: a thread is a call of the kernel.
// Include it last but for the kernels: libstdc++ uses __noinline__ as an attribute's name.
#pragma once

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __grid_constant__
#define __launch_bounds__(...)

namespace shim {

struct Index {
  unsigned x;
};

}  // namespace shim

inline thread_local shim::Index threadIdx, blockIdx, blockDim;

namespace shim {

template <class Kernel, class Call>
void run_grid(Kernel kernel, unsigned blocks, unsigned threads, const Call& call) {
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) {
    for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(call);
  }
}

}  // namespace shim
