// What the units compiled once per instruction set offer to the rest.
#pragma once

#include "../include/snnkernels/spike_linear.h"

#define SNN_DECLARE_KERNELS(isa)                                                     \
  namespace snn::cpu::isa {                                                          \
  struct Kernels {                                                                   \
    /* The scan over lanes [begin, end). */                                          \
    static void scan(const Forward<float>& call, int64 begin, int64 end);            \
    static void scan(const Forward<double>& call, int64 begin, int64 end);           \
    static void scan(const Backward<float>& call, int64 begin, int64 end);           \
    static void scan(const Backward<double>& call, int64 begin, int64 end);          \
    /* Tasks [begin, end), one for each step of each SNN_CPU_ENCODE_LANES lanes. */  \
    static void encode(const Encode& call, int64 begin, int64 end);                  \
    /* Words [begin, end); whether all their elements are 0 or 1. */                 \
    static bool pack(const PackSpikes& call, int64 begin, int64 end);                \
    static void unpack(const UnpackSpikes& call, int64 begin, int64 end);            \
    /* The weights of inputs [begin, end) in panels, then rows [begin, end) of y. */ \
    static void arrange(const SpikeLinear& call, int64 begin, int64 end);            \
    static void multiply(const SpikeLinear& call, int64 begin, int64 end);           \
    /* 32 columns of x each, then the gradient for inputs [begin, end). */           \
    static void transpose(const SpikeLinearWeight& call, int64 begin, int64 end);    \
    static void multiply(const SpikeLinearWeight& call, int64 begin, int64 end);     \
  };                                                                                 \
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
