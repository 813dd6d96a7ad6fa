// Work on one row of a block, shared by all neurons: surrogates, and elements to and from values.
//
// A row has SNN_CPU_LANES values, aligned, so that whole vectors may be computed beyond its count.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace snn::cpu::SNN_CPU_ISA {

constexpr int kLanes = SNN_CPU_LANES;

template <class T>
using Row = T[kLanes];

// Of a row u: the surrogate's gradient, or its primitive.
void surrogate_gradient(SurrogateId id, const float* params, const float* u, float* out, int count);
void surrogate_gradient(SurrogateId id, const double* params, const double* u, double* out,
                        int count);
void surrogate_primitive(SurrogateId id, const float* params, const float* u, float* out,
                         int count);
void surrogate_primitive(SurrogateId id, const double* params, const double* u, double* out,
                         int count);

// Whether values can be computed in place: the elements are values, and fill whole vectors.
template <class T>
SNN_INLINE bool in_place(Element e, int count) {
  return (e == Element::kFloat32 || e == Element::kFloat64) && count % Vec<T>::kSize == 0;
}

void convert_row(Element e, const void* elements, float* row, int count);
void convert_row(Element e, const void* elements, double* row, int count);
void convert_row(Element e, const float* row, void* elements, int count);
void convert_row(Element e, const double* row, void* elements, int count);

// Brings a row that will be needed soon into the cache, to be read or written: rows lie too far
// apart for the hardware to see the pattern.
template <bool kWrite = false>
SNN_INLINE void prefetch_row(Element e, const void* array, int64 offset, int count) {
  const int64 size = element_size(e);
  const char* elements = static_cast<const char*>(array) + offset * size;
  for (int64 byte = 0; byte < count * size; byte += 64) {
    __builtin_prefetch(elements + byte, kWrite);
  }
}

// The values of elements [offset, offset + count) of an array: in place, or in the buffer.
template <class T>
SNN_INLINE const T* load_row(Element e, const void* array, int64 offset, T* buffer, int count) {
  const void* elements = static_cast<const char*>(array) + offset * element_size(e);
  if (in_place<T>(e, count)) return static_cast<const T*>(elements);
  convert_row(e, elements, buffer, count);
  return buffer;
}

// Where to compute values that go to an array: in place, or in the buffer; store_row finishes it.
template <class T>
SNN_INLINE T* output_row(Element e, void* array, int64 offset, T* buffer, int count) {
  return in_place<T>(e, count) ? static_cast<T*>(array) + offset : buffer;
}

template <class T>
SNN_INLINE void store_row(Element e, void* array, int64 offset, const T* values, int count) {
  if (in_place<T>(e, count)) return;
  convert_row(e, values, static_cast<char*>(array) + offset * element_size(e), count);
}

}  // namespace snn::cpu::SNN_CPU_ISA
