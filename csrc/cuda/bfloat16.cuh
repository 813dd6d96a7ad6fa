// bfloat16 as an element of sequences.
#pragma once

#include <cuda_bf16.h>

#include "elements.cuh"

namespace snn::cuda {

template <>
struct Convert<__nv_bfloat16> {
  static SNN_HD float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
  static SNN_HD __nv_bfloat16 narrow(float x) { return __float2bfloat16_rn(x); }
};

}  // namespace snn::cuda
