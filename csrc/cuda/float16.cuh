// float16 as an element of sequences.
#pragma once

#include <cuda_fp16.h>

#include "elements.cuh"

namespace snn::cuda {

template <>
struct Convert<__half> {
  static SNN_HD float widen(__half x) { return __half2float(x); }
  static SNN_HD __half narrow(float x) { return __float2half_rn(x); }
};

}  // namespace snn::cuda
