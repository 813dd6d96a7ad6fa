// Work on one row of a block: surrogates, and conversions between elements and arithmetic values.
#include "elements.h"
#include "kernels.h"

namespace snn::cpu::SNN_CPU_ISA {

namespace {

template <class T>
void gradient(SurrogateId id, const T* params, T* u, int count) {
  const T p[kSurrogateParams] = {params[0], params[1]};
  with_surrogate(id, [&](auto surrogate) {
#pragma omp simd
    for (int l = 0; l < count; ++l) u[l] = decltype(surrogate)::gradient(u[l], p);
  });
}

template <class T>
void primitive(SurrogateId id, const T* params, T* u, int count) {
  const T p[kSurrogateParams] = {params[0], params[1]};
  with_surrogate(id, [&](auto surrogate) {
    for (int l = 0; l < count; ++l) u[l] = decltype(surrogate)::primitive(u[l], p);
  });
}

template <class Convert>
const float* widen(const void* base, int64 offset, float* row, int count, Convert convert) {
  const auto* in = static_cast<const std::uint16_t*>(base) + offset;
#pragma omp simd
  for (int l = 0; l < count; ++l) row[l] = convert(in[l]);
  return row;
}

template <class Convert>
void narrow(void* base, int64 offset, const float* row, int count, Convert convert) {
  auto* out = static_cast<std::uint16_t*>(base) + offset;
#pragma omp simd
  for (int l = 0; l < count; ++l) out[l] = convert(row[l]);
}

}  // namespace

void surrogate_gradient(SurrogateId id, const float* params, float* u, int count) {
  gradient(id, params, u, count);
}
void surrogate_gradient(SurrogateId id, const double* params, double* u, int count) {
  gradient(id, params, u, count);
}
void surrogate_primitive(SurrogateId id, const float* params, float* u, int count) {
  primitive(id, params, u, count);
}
void surrogate_primitive(SurrogateId id, const double* params, double* u, int count) {
  primitive(id, params, u, count);
}

const float* load_row(Element e, const void* base, int64 offset, float* row, int count) {
  if (e == Element::kFloat32) return static_cast<const float*>(base) + offset;
  if (e == Element::kFloat16) return widen(base, offset, row, count, float16_to_float);
  return widen(base, offset, row, count, bfloat16_to_float);
}
const double* load_row(Element, const void* base, int64 offset, double*, int) {
  return static_cast<const double*>(base) + offset;
}

float* output_row(Element e, void* base, int64 offset, float* row) {
  return e == Element::kFloat32 ? static_cast<float*>(base) + offset : row;
}
double* output_row(Element, void* base, int64 offset, double*) {
  return static_cast<double*>(base) + offset;
}

void store_row(Element e, void* base, int64 offset, const float* row, int count) {
  if (e == Element::kFloat16) narrow(base, offset, row, count, float_to_float16);
  if (e == Element::kBFloat16) narrow(base, offset, row, count, float_to_bfloat16);
}
void store_row(Element, void*, int64, const double*, int) {}

}  // namespace snn::cpu::SNN_CPU_ISA
