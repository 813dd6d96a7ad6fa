// Spikes that need no neuron, as plain data: drawn with given probabilities, or packed 32 to a
// word.
#pragma once

#include "philox.h"
#include "scan.h"

namespace snn {

// What a spike is in memory: the bytes of an element, and the bits of a one; a zero has none.
struct SpikeFormat {
  int size;
  uint64 one;
};

// Independent spikes for T steps of L lanes. x is [T, L] with stride 1 over the lanes and any
// stride over T, 0 included; spikes [T, L] are contiguous. Lane l of step t fires where u < x, with
// u = (w >> 1) / 2^31 and w the word l % 4 of Philox's block l / 4 under the key of step t.
struct Encode {
  Element element;  // of x
  SpikeFormat format;
  int64 steps;
  int64 lanes;
  const void* x;
  int64 x_stride;
  const uint64* keys;  // [T]
  void* spikes;
};

// The largest w >> 1 that fires with probability x; -1: none does. NaN never fires.
template <class T>
SNN_HD int last_firing(T x) {
  constexpr T kScale = 2147483648;
  if (!(x > T(0))) return -1;
  if (x >= T(1)) return 2147483647;
  const T scaled = x * kScale;  // exact, and so is the conversion back
  const int whole = static_cast<int>(scaled);
  return static_cast<T>(whole) < scaled ? whole : whole - 1;
}

constexpr int kWordBits = 32;

SNN_HD int64 word_count(int64 elements) {
  return (elements + kWordBits - 1) / kWordBits;
}

// Element e of x becomes bit e % 32 of word e / 32; bits past the last element are 0.
struct PackSpikes {
  SpikeFormat format;
  int64 count;
  const void* x;
  unsigned* words;
  bool* foreign;  // set where any element is neither 0 nor 1; the words then mean nothing
};

struct UnpackSpikes {
  SpikeFormat format;
  int64 count;
  const unsigned* words;
  void* x;
};

}  // namespace snn
