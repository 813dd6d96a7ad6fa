// Products with spikes: what fired is added up, the rest is skipped.
//
// A sum begins anew with each chunk of inputs or of rows, and then joins those before: one long sum
// of thousands would lose digits. Outputs are taken by panels of as many vectors as stay in
// registers while a row's spikes are added to them. A panel lies in memory as [inputs, outputs of
// the panel], the last one narrower.
#include <cstddef>
#include <type_traits>

#include "elements.h"
#include "kernels.h"

namespace snn::cpu {

namespace {

constexpr int kVector = Floats::kSize;
constexpr int kPanel = SNN_CPU_PANEL * kVector;
constexpr int kBits = 64;
static_assert(SNN_CPU_LINEAR_INPUTS % kBits == 0 && SNN_CPU_LINEAR_ROWS % kBits == 0,
              "spikes are taken 64 at a time");

template <int n>
using Vectors = Floats[n];

// Calls f with the number of vectors as a constant.
template <int n = SNN_CPU_PANEL, class F>
SNN_INLINE void with_vectors(int vectors, F f) {
  if constexpr (n > 1) {
    if (vectors < n) return with_vectors<n - 1>(vectors, f);
  }
  f(std::integral_constant<int, n>{});
}

// Calls f(first output, outputs, where the panel lies, its vectors) for each panel of [inputs].
template <class Call, class F>
SNN_INLINE void for_panels(const Call& call, F f) {
  for (int64 first = 0; first < call.outputs; first += kPanel) {
    const int64 left = call.outputs - first;
    const int count = static_cast<int>(left < kPanel ? left : kPanel);
    float* panel = call.panels + first * call.x.inputs;
    with_vectors((count + kVector - 1) / kVector,
                 [&](auto vectors) { f(first, count, panel, vectors); });
  }
}

template <int n>
SNN_INLINE void load(const float* from, int count, Vectors<n>& sums) {
  alignas(64) float padded[kVector] = {};
  const int whole = count / kVector;
  for (int i = 0; i < n; ++i) {
    if (i == whole) std::memcpy(padded, from + i * kVector, count % kVector * sizeof(float));
    sums[i] = Floats::load(i == whole ? padded : from + i * kVector);
  }
}

template <int n>
SNN_INLINE void add(const float* from, int count, Vectors<n>& sums) {
  Vectors<n> others;
  load<n>(from, count, others);
  for (int i = 0; i < n; ++i) sums[i] += others[i];
}

template <int n>
SNN_INLINE void store(const Vectors<n>& sums, int count, float* to) {
  const int whole = count / kVector;
  for (int i = 0; i < n; ++i) {
    if (i == whole) {
      std::memcpy(to + i * kVector, &sums[i], count % kVector * sizeof(float));
    } else {
      sums[i].store(to + i * kVector);
    }
  }
}

// Adds those of 64 rows, each so far behind the one before, whose bit is set.
template <int n>
SNN_INLINE void add_rows(uint64 bits, const float* rows, int64 stride, Vectors<n>& sums) {
  for (; bits != 0; bits &= bits - 1) {
    const float* row = rows + __builtin_ctzll(bits) * stride;
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) sums[i] += Floats::load(row + i * kVector);
  }
}

SNN_INLINE uint64 first_bits(uint64 bits, int64 count) {
  return count < kBits ? bits & ((uint64{1} << count) - 1) : bits;
}

// Transposes 32 x 32 bits: bit c of word r and bit r of word c change places.
SNN_INLINE void transpose(unsigned (&words)[kWordBits]) {
  unsigned mask = 0x0000ffffu;
  for (int distance = 16; distance > 0; distance /= 2, mask ^= mask << distance) {
    for (int r = 0; r < kWordBits; r = (r + distance + 1) & ~distance) {
      const unsigned moved = ((words[r] >> distance) ^ words[r + distance]) & mask;
      words[r] ^= moved << distance;
      words[r + distance] ^= moved;
    }
  }
}

constexpr int kTile = 16;  // inputs whose elements in all outputs of a panel are moved together

}  // namespace

void arrange(const SpikeLinear& call, int64 begin, int64 end) {
  const int64 inputs = call.x.inputs;
  for_panels(call, [&](int64 first, int count, float* panel, auto vectors) {
    constexpr int kWidth = vectors * kVector;
    for (int64 tile = begin; tile < end; tile += kTile) {
      const int64 last = tile + kTile < end ? tile + kTile : end;
      for (int o = 0; o < count; ++o) {
        const float* weights = call.weight + (first + o) * inputs;
        for (int64 k = tile; k < last; ++k) panel[k * kWidth + o] = weights[k];
      }
      for (int64 k = tile; k < last; ++k) {
        for (int o = count; o < kWidth; ++o) panel[k * kWidth + o] = 0.0f;
      }
    }
  });
}

void multiply(const SpikeLinear& call, int64 begin, int64 end) {
  const int64 inputs = call.x.inputs;
  const int64 bytes = call.x.rows * call.outputs * static_cast<int64>(sizeof(float));
  const bool streams = bytes > SNN_CPU_STREAM_BYTES && inputs <= SNN_CPU_LINEAR_INPUTS &&
                       is_vector_aligned(call.y, call.outputs * sizeof(float));
  for_panels(call, [&](int64 first, int count, const float* panel, auto vectors) {
    constexpr int n = vectors;
    for (int64 chunk = 0; chunk < inputs; chunk += SNN_CPU_LINEAR_INPUTS) {
      const int64 rest = inputs - chunk;
      const int64 width = rest < SNN_CPU_LINEAR_INPUTS ? rest : SNN_CPU_LINEAR_INPUTS;
      const float* weights = panel + chunk * n * kVector;
      for (int64 row = begin; row < end; ++row) {
        float* y = call.y + row * call.outputs + first;
        Vectors<n> sums{};
        for (int64 k = 0; k < width; k += kBits) {
          const uint64 bits = call.x.bits(row * inputs + chunk + k);
          add_rows<n>(first_bits(bits, width - k), weights + k * n * kVector, n * kVector, sums);
        }
        if (chunk > 0) {
          add<n>(y, count, sums);
        } else if (call.bias) {
          add<n>(call.bias + first, count, sums);
        }
        if (streams) {
          stream_bytes(sums, y, sizeof sums);
        } else {
          store<n>(sums, count, y);
        }
      }
    }
  });
  if (streams) stream_fence();
}

void transpose(const SpikeLinearWeight& call, int64 begin, int64 end) {
  const int64 inputs = call.x.inputs, rows = call.x.rows, words = column_words(rows);
  for (int64 block = begin; block < end; ++block) {
    const int64 first = block * kWordBits;
    const int64 left = inputs - first;
    const int count = static_cast<int>(left < kWordBits ? left : kWordBits);
    for (int64 row = 0; row < rows; row += kBits) {
      unsigned halves[2][kWordBits] = {};
      for (int r = 0; r < kBits && row + r < rows; ++r) {
        halves[r / kWordBits][r % kWordBits] =
            static_cast<unsigned>(call.x.bits((row + r) * inputs + first));
      }
      for (auto& half : halves) transpose(half);
      for (int c = 0; c < count; ++c) {
        call.columns[(first + c) * words + row / kBits] =
            halves[0][c] | static_cast<uint64>(halves[1][c]) << kWordBits;
      }
    }
  }
}

void multiply(const SpikeLinearWeight& call, int64 begin, int64 end) {
  const int64 inputs = call.x.inputs, rows = call.x.rows, words = column_words(rows);
  alignas(64) float padded[SNN_CPU_LINEAR_ROWS * kPanel];
  for_panels(call, [&](int64 first, int count, float* panel, auto vectors) {
    constexpr int n = vectors, kWidth = n * kVector;
    for (int64 row = 0; row < rows; row += SNN_CPU_LINEAR_ROWS) {
      const int64 last = row + SNN_CPU_LINEAR_ROWS < rows ? row + SNN_CPU_LINEAR_ROWS : rows;
      const float* grads = call.grad + row * call.outputs + first;
      int64 stride = call.outputs;
      if (count < kWidth || stride % kVector != 0) {
        for (int64 r = row; r < last; ++r) {
          Vectors<n> values;
          load<n>(grads + (r - row) * stride, count, values);
          store<n>(values, kWidth, padded + (r - row) * kWidth);
        }
        grads = padded;
        stride = kWidth;
      }
      for (int64 k = begin; k < end; ++k) {
        Vectors<n> sums{};
        for (int64 r = row; r < last; r += kBits) {
          const uint64 bits = call.columns[k * words + r / kBits];
          add_rows<n>(bits, grads + (r - row) * stride, stride, sums);
        }
        if (row > 0) add<n>(panel + k * kWidth, kWidth, sums);
        store<n>(sums, kWidth, panel + k * kWidth);
      }
    }
    for (int64 tile = begin; tile < end; tile += kTile) {
      const int64 last = tile + kTile < end ? tile + kTile : end;
      for (int o = 0; o < count; ++o) {
        float* weights = call.grad_weight + (first + o) * inputs;
        for (int64 k = tile; k < last; ++k) weights[k] = panel[k * kWidth + o];
      }
    }
  });
}

}  // namespace snn::cpu
