// A linear layer on spikes, as plain data: y = x W^T + b and the gradient of W, where x [rows,
// inputs] holds nothing but 0 and 1 and is packed as by PackSpikes.
#pragma once

#include "spikes.h"

namespace snn {

struct PackedRows {
  const unsigned* words;
  int64 rows;
  int64 inputs;

  // Elements [first, first + 64) of all, as bits; those past the last element are 0.
  SNN_HD uint64 bits(int64 first) const {
    const int64 word = first / kWordBits, count = word_count(rows * inputs);
    const int shift = static_cast<int>(first % kWordBits);
    uint64 found = words[word];
    if (word + 1 < count) found |= static_cast<uint64>(words[word + 1]) << kWordBits;
    if (shift == 0) return found;
    found >>= shift;
    if (word + 2 < count) found |= static_cast<uint64>(words[word + 2]) << (64 - shift);
    return found;
  }
};

struct SpikeLinear {
  PackedRows x;
  int64 outputs;
  const float* weight;  // [outputs, inputs]
  const float* bias;    // [outputs], or null
  float* panels;        // room for the weight as the kernels want it
  float* y;             // [rows, outputs]
};

struct SpikeLinearWeight {
  PackedRows x;
  int64 outputs;
  const float* grad;   // of y, [rows, outputs]
  uint64* columns;     // room for x transposed: [inputs, column_words(rows)]
  float* panels;       // room for the result as the kernels want it
  float* grad_weight;  // [outputs, inputs]
};

SNN_HD int64 column_words(int64 rows) {
  return (rows + 63) / 64;
}

}  // namespace snn
