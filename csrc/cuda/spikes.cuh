// Spikes that need no neuron, on a GPU: a thread draws four lanes of some steps, packs one word, or
// unpacks a fourth of one. Numbers of an element's size stand for the elements.
#pragma once

#include "elements.cuh"
#include "snnkernels/spikes.h"

namespace snn::cuda {

constexpr int kWords = 4;  // of one call of Philox, and the lanes that it serves
constexpr int kEncodeSteps = SNN_CUDA_ENCODE_STEPS;

template <int kSize>
struct Bits;
template <>
struct Bits<1> {
  using Type = unsigned char;
};
template <>
struct Bits<2> {
  using Type = unsigned short;
};
template <>
struct Bits<4> {
  using Type = unsigned;
};
template <>
struct Bits<8> {
  using Type = uint64;
};

SNN_HD int last_firing_at(const Encode& call, int64 offset) {
  switch (call.element) {
    case Element::kFloat64:
      return last_firing(static_cast<const double*>(call.x)[offset]);
    case Element::kFloat32:
      return last_firing(static_cast<const float*>(call.x)[offset]);
    case Element::kFloat16:
      return last_firing(Convert<__half>::widen(static_cast<const __half*>(call.x)[offset]));
    default:
      return last_firing(
          Convert<__nv_bfloat16>::widen(static_cast<const __nv_bfloat16*>(call.x)[offset]));
  }
}

SNN_HD void last_firing_row(const Encode& call, int64 step, int64 lane, int* last) {
  SNN_UNROLL
  for (int l = 0; l < kWords; ++l) {
    if (lane + l < call.lanes) last[l] = last_firing_at(call, step * call.x_stride + lane + l);
  }
}

template <class U>
SNN_HD void store_spikes(const Encode& call, int64 step, int64 lane, const Pack<U, kWords>& spikes,
                         bool whole) {
  U* to = static_cast<U*>(call.spikes) + step * call.lanes + lane;
  if (whole) return store(to, spikes);
  SNN_UNROLL
  for (int l = 0; l < kWords; ++l) {
    if (lane + l < call.lanes) to[l] = spikes.lanes[l];
  }
}

// Steps [first, end) of four lanes; aligned: every row of spikes begins where a vector may.
template <class U>
SNN_HD void encode_lanes(const Encode& call, int64 lane, int64 first, int64 end, bool aligned) {
  int last[kWords] = {-1, -1, -1, -1};
  const uint64 block = static_cast<uint64>(lane / kWords);
  for (int64 step = first; step < end; ++step) {
    if (step == first || call.x_stride != 0) last_firing_row(call, step, lane, last);
    uint64 words[kWords] = {block, block >> 32, 0, 0};
    philox(words, PhiloxKey(call.keys[step]));
    Pack<U, kWords> spikes;
    SNN_UNROLL
    for (int l = 0; l < kWords; ++l) {
      const int random = static_cast<int>(static_cast<unsigned>(words[l]) >> 1);
      spikes.lanes[l] = random <= last[l] ? static_cast<U>(call.format.one) : U(0);
    }
    store_spikes(call, step, lane, spikes, aligned);
  }
}

template <class U>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    encode_kernel(const __grid_constant__ Encode call) {
  const int64 item = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64 groups = (call.lanes + kWords - 1) / kWords;
  const int64 run = item / groups;
  const int64 first = run * kEncodeSteps, lane = (item - run * groups) * kWords;
  if (first >= call.steps) return;
  const int64 end = first + kEncodeSteps < call.steps ? first + kEncodeSteps : call.steps;
  const bool aligned = call.lanes % kWords == 0;
  encode_lanes<U>(call, lane, first, end, aligned);
}

// V elements to an access.
template <class U, int V>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    pack_kernel(const __grid_constant__ PackSpikes call) {
  const int64 word = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64 begin = word * kWordBits, left = call.count - begin;
  if (left <= 0) return;
  const U* x = static_cast<const U*>(call.x) + begin;
  const U one = static_cast<U>(call.format.one);
  unsigned bits = 0, foreign = 0;
  const auto add = [&](U element, int i) {
    bits |= static_cast<unsigned>(element == one) << i;
    foreign |= static_cast<unsigned>(element != one) & static_cast<unsigned>(element != U(0));
  };
  if (left >= kWordBits) {
    SNN_UNROLL
    for (int i = 0; i < kWordBits; i += V) {
      const Pack<U, V> elements = load<V>(x + i);
      SNN_UNROLL
      for (int l = 0; l < V; ++l) add(elements.lanes[l], i + l);
    }
  } else {
    for (int i = 0; i < left; ++i) add(x[i], i);
  }
  call.words[word] = bits;
  if (foreign) *call.foreign = true;
}

template <class U>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    unpack_kernel(const __grid_constant__ UnpackSpikes call) {
  constexpr int V = 4;
  const int64 begin = (static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  if (begin >= call.count) return;
  const unsigned bits = call.words[begin / kWordBits] >> (begin % kWordBits);
  Pack<U, V> elements;
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    elements.lanes[l] = bits >> l & 1u ? static_cast<U>(call.format.one) : U(0);
  }
  U* to = static_cast<U*>(call.x) + begin;
  if (begin + V <= call.count) return store(to, elements);
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    if (begin + l < call.count) to[l] = elements.lanes[l];
  }
}

}  // namespace snn::cuda
