// Work on one row of a block, shared by all neurons: surrogates, and elements to and from values.
//
// A row has SNN_CPU_LANES values, aligned, so that whole vectors may be computed beyond its count.
#pragma once

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

// Copies a row past the caches, where the instruction set can.
template <class T>
SNN_INLINE void stream_row(const T* row, T* to, int count) {
#if defined(__SSE2__)
  if (reinterpret_cast<std::uintptr_t>(to) % sizeof(__m128i) == 0) {
    auto* out = reinterpret_cast<__m128i*>(to);
    const auto* in = reinterpret_cast<const __m128i*>(row);
    const int pieces = count * static_cast<int>(sizeof(T)) / static_cast<int>(sizeof(__m128i));
    for (int i = 0; i < pieces; ++i) _mm_stream_si128(out + i, _mm_load_si128(in + i));
    return;
  }
#endif
  std::memcpy(to, row, count * sizeof(T));
}

// Makes streamed rows visible to other threads.
SNN_INLINE void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// Brings a row that will soon be read, or written, into the cache: rows lie too far apart for the
// hardware to see the pattern.
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

// An output array: rows are computed in place where that is possible, else in a buffer that
// `finish` converts from. An array too large to stay in the caches is written around them, which
// spares reading each line before it is overwritten.
template <class T>
class Output {
 public:
  Output(Element e, void* array, int64 elements, int count)
      : element_(e),
        array_(static_cast<char*>(array)),
        direct_(in_place<T>(e, count)),
        streams_(direct_ && elements * element_size(e) >= SNN_CPU_STREAM_BYTES) {}

  SNN_INLINE T* row(int64 offset, T* buffer) const {
    return direct_ && !streams_ ? reinterpret_cast<T*>(array_) + offset : buffer;
  }

  SNN_INLINE void finish(int64 offset, const T* values, int count) const {
    char* elements = array_ + offset * element_size(element_);
    if (streams_) return stream_row(values, reinterpret_cast<T*>(elements), count);
    if (!direct_) convert_row(element_, values, elements, count);
  }

  SNN_INLINE void prefetch(int64 offset, int count) const {
    if (!streams_) prefetch_row<true>(element_, array_, offset, count);
  }

 private:
  Element element_;
  char* array_;
  bool direct_, streams_;
};

}  // namespace snn::cpu::SNN_CPU_ISA
