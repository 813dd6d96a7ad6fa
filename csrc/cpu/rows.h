// Work on one row of a block, shared by all neurons: surrogates, and elements to and from values.
//
// A row has SNN_CPU_LANES values, aligned, so that whole vectors may be computed beyond its count.
#pragma once

#include <cstdlib>
#include <new>
#include <type_traits>

#include "kernels.h"
#include "vec.h"

namespace snn::cpu {

constexpr int kLanes = SNN_CPU_LANES;

template <class T>
using Row = T[kLanes];

// Memory of this thread for one block's work, beyond what the smaller stacks of threads hold. There
// is one, whose content is that of its last use, whatever that was.
inline void* scratch(std::size_t bytes) {
  struct Buffer {
    void* memory = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { std::free(memory); }
  };
  static thread_local Buffer buffer;
  if (buffer.bytes < bytes) {
    std::free(buffer.memory);
    buffer.bytes = (bytes + 4095) / 4096 * 4096;
    buffer.memory = std::aligned_alloc(4096, buffer.bytes);
    if (!buffer.memory) buffer.bytes = 0;
  }
  if (!buffer.memory) throw std::bad_alloc();
  return buffer.memory;
}
template <class Memory>
Memory& scratch() {
  static_assert(std::is_trivially_default_constructible_v<Memory>);
  return *static_cast<Memory*>(scratch(sizeof(Memory)));
}

enum class SurrogatePart { kGradient, kPrimitive };

// Writes the surrogate's gradient, or its primitive, at u = h - threshold of a row.
template <SurrogatePart kPart, class T>
void surrogate_row(SurrogateId id, const T* params, const T* h, const T* threshold, T* out,
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

// Where the values of a row are computed. Vector by vector they can go past the caches: a whole row
// at once, however small, fills the few buffers that gather such stores, and they wait.
template <class T>
struct RowPlace {
  T* values;
  bool past_caches;

  SNN_INLINE void store(int l, Vec<T> vector) const {
    if (past_caches) return stream_bytes(&vector, values + l, sizeof vector);
    vector.store(values + l);
  }
};

// Writes the rows of an array, each once. Values are computed in place, or in a buffer where the
// elements are none; where the array is large they are stored past the caches.
template <class T>
class RowWriter {
 public:
  RowWriter() = default;
  RowWriter(Element e, void* array, int64 elements) { open(e, array, elements); }
  ~RowWriter() {
    if (streams_) stream_fence();
  }
  RowWriter(const RowWriter&) = delete;
  RowWriter& operator=(const RowWriter&) = delete;

  void open(Element e, void* array, int64 elements) {
    element_ = e;
    array_ = static_cast<char*>(array);
    streams_ = elements * element_size(e) > SNN_CPU_STREAM_BYTES;
  }

  // Where to compute the elements [offset, offset + count); finish() takes them from there.
  SNN_INLINE RowPlace<T> begin(int64 offset, int count) {
    to_ = array_ + offset * element_size(element_);
    count_ = count;
    const bool past_caches = streams_ && is_vector_aligned(to_, count * sizeof(T));
    in_place_ = in_place<T>(element_, count) && past_caches == streams_;
    return {in_place_ ? reinterpret_cast<T*>(to_) : buffer_, in_place_ && past_caches};
  }
  SNN_INLINE void finish() {
    if (!in_place_) put(buffer_, to_, count_);
  }

  // Writes values that are there already.
  SNN_INLINE void write(const T* values, int64 offset, int count) {
    put(values, array_ + offset * element_size(element_), count);
  }

  SNN_INLINE void prefetch(int64 offset, int count) const {
    if (!streams_) prefetch_row<true>(element_, array_, offset, count);
  }

 private:
  SNN_INLINE void put(const T* values, char* to, int count) const {
    const std::size_t bytes = count * element_size(element_);
    if (!streams_ || !is_vector_aligned(to, bytes)) {
      return convert_row(element_, values, to, count);
    }
    if (element_size(element_) == sizeof(T)) return stream_bytes(values, to, bytes);
    alignas(64) Row<T> narrow;
    convert_row(element_, values, static_cast<void*>(narrow), count);
    stream_bytes(narrow, to, bytes);
  }

  Element element_{};
  char* array_ = nullptr;
  bool streams_ = false, in_place_ = false;
  char* to_ = nullptr;
  int count_ = 0;
  alignas(64) Row<T> buffer_;
};

}  // namespace snn::cpu
