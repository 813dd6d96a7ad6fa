// What the units compiled once per instruction set offer to the rest.
#pragma once

#include "../include/snnkernels/scan.h"

#define SNN_DECLARE_KERNELS(isa)                                                       \
  namespace snn::cpu::isa {                                                            \
  /* The scan over lanes [begin, end), in blocks of at most width <= SNN_CPU_LANES. */ \
  void scan(const Forward<float>& call, int64 begin, int64 end, int width);            \
  void scan(const Forward<double>& call, int64 begin, int64 end, int width);           \
  void scan(const Backward<float>& call, int64 begin, int64 end, int width);           \
  void scan(const Backward<double>& call, int64 begin, int64 end, int width);          \
  }

#if defined(SNN_CPU_DISPATCH)
#if defined(SNN_CPU_HAS_AVX512)
SNN_DECLARE_KERNELS(avx512)
#endif
#if defined(SNN_CPU_HAS_AVX2)
SNN_DECLARE_KERNELS(avx2)
#endif
SNN_DECLARE_KERNELS(baseline)
#else
#if !defined(SNN_CPU_ISA)
#define SNN_CPU_ISA native
#endif
SNN_DECLARE_KERNELS(SNN_CPU_ISA)
#endif
