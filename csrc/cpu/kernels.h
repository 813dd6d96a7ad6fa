// What the units compiled once per instruction set offer to the rest.
#pragma once

#include "snnkernels/scan.h"

#define SNN_DECLARE_KERNELS(isa) \
  namespace snn::cpu::isa { \
  void scan(const Forward<float>& call, int64 begin, int64 end, int width); \
  void scan(const Forward<double>& call, int64 begin, int64 end, int width); \
  void scan(const Backward<float>& call, int64 begin, int64 end, int width); \
  void scan(const Backward<double>& call, int64 begin, int64 end, int width); \
  /* In place, on a block: u to the surrogate's gradient, or to its primitive. */ \
  void surrogate_gradient(SurrogateId id, const float* params, float* u, int count); \
  void surrogate_gradient(SurrogateId id, const double* params, double* u, int count); \
  void surrogate_primitive(SurrogateId id, const float* params, float* u, int count); \
  void surrogate_primitive(SurrogateId id, const double* params, double* u, int count); \
  /* A row of elements at base + offset as arithmetic values: the row itself or a copy. */ \
  const float* load_row(Element e, const void* base, int64 offset, float* row, int count); \
  const double* load_row(Element e, const void* base, int64 offset, double* row, int count); \
  /* Where to compute a row: in place, or in the buffer that store_row converts from. */ \
  float* output_row(Element e, void* base, int64 offset, float* row); \
  double* output_row(Element e, void* base, int64 offset, double* row); \
  void store_row(Element e, void* base, int64 offset, const float* row, int count); \
  void store_row(Element e, void* base, int64 offset, const double* row, int count); \
  }

// Lanes [begin, end) in blocks of at most `width` <= SNN_CPU_LANES.
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
