// How a call is laid out on a GPU: lanes to a thread, threads to a block, blocks. Host code without
// CUDA, so that it is tested without it.
#pragma once

#include <cstdint>

#include "snnkernels/spikes.h"

namespace snn::cuda {

struct Grid {
  int width;   // lanes to a thread
  bool plain;  // whether the call is_plain
  int threads;
  int64 blocks;
};

// The lanes to a thread where there are many and the layout allows it.
constexpr int forward_width(int64 element_bytes) {
  return static_cast<int>(SNN_CUDA_FORWARD_BYTES / element_bytes);
}
// `sums`: whether each lane has sums of its parameters' gradients to keep in registers.
constexpr int backward_width(int64 element_bytes, bool sums) {
  const auto width = static_cast<int>(SNN_CUDA_BACKWARD_BYTES / element_bytes);
  return sums && width > SNN_CUDA_SUMS_LANES ? SNN_CUDA_SUMS_LANES : width;
}

template <class T>
int full_width(const Forward<T>& call) {
  return forward_width(element_size(call.element));
}
template <class T>
int full_width(const Backward<T>& call) {
  const unsigned tables = call.compiled ? call.compiled->tables : call.tables;
  return backward_width(element_size(call.element), tables != 0);
}

// Rows of the longest sequence, [O T, L].
template <class T>
int64 row_count(const Scan<T>& call) {
  return call.steps * (call.compiled ? call.compiled->outputs : 1);
}

// Whether the rows of all sequences can be found by the same offsets, of 32 bits.
template <class T>
bool is_small_and_dense(const Scan<T>& call) {
  return call.steps > 0 && row_count(call) < 1 << 30 &&
         (call.steps <= 1 || call.x_stride == call.lanes) &&
         row_count(call) * call.lanes <= int64{0xffffffff} / element_size(call.element);
}

// Whether all that a call's steps read and write are dense sequences of inputs and spikes: most do,
// and have leaner kernels.
template <class T>
bool is_plain(const Forward<T>& call) {
  return is_small_and_dense(call) && !call.v_seq;
}
template <class T>
bool is_plain(const Backward<T>& call) {
  return is_small_and_dense(call) && call.grad_spikes && !call.grad_v_seq &&
         (call.steps <= 1 || call.grad_spikes_stride == call.lanes);
}

inline bool is_aligned(const void* pointer, int64 bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % static_cast<std::uintptr_t>(bytes) == 0;
}

// Whether every row of a sequence begins where a vector may. Null is fine: it is not accessed.
inline bool has_aligned_rows(const void* base, int64 stride, int64 rows, int width, int64 bytes) {
  return is_aligned(base, width * bytes) && (rows <= 1 || stride % width == 0);
}

template <class T>
bool is_vectorizable(const Scan<T>& call, int width) {
  return call.spiking && call.lanes % width == 0 && is_aligned(call.states, width * sizeof(T)) &&
         has_aligned_rows(call.x, call.x_stride, row_count(call), width,
                          element_size(call.element));
}

template <class T>
bool is_vectorizable(const Forward<T>& call, int width) {
  const int64 bytes = element_size(call.element), wide = sizeof(T);
  return is_vectorizable<T>(static_cast<const Scan<T>&>(call), width) &&
         is_aligned(call.spikes, width * bytes) && is_aligned(call.v_seq, width * bytes) &&
         is_aligned(call.final_states, width * wide) && is_aligned(call.checkpoints, width * wide);
}

template <class T>
bool is_vectorizable(const Backward<T>& call, int width) {
  const int64 bytes = element_size(call.element), wide = sizeof(T);
  bool aligned =
      is_vectorizable<T>(static_cast<const Scan<T>&>(call), width) &&
      has_aligned_rows(call.grad_spikes, call.grad_spikes_stride, row_count(call), width, bytes) &&
      has_aligned_rows(call.grad_v_seq, call.grad_v_seq_stride, row_count(call), width, bytes) &&
      is_aligned(call.checkpoints, width * wide) && is_aligned(call.grad_states, width * wide) &&
      is_aligned(call.grad_x, width * bytes) && is_aligned(call.grad_initial, width * wide);
  for (const T* sums : call.grad_params) aligned = aligned && is_aligned(sums, width * wide);
  return aligned;
}

// Vectors where the call allows them and there are lanes enough for them to keep the GPU busy;
// smaller blocks where lanes are few, so that none of its multiprocessors idles while another runs
// several warps.
template <class Call>
Grid grid_of(const Call& call, int multiprocessors) {
  const int full = full_width(call);
  const bool many = call.lanes >= int64{SNN_CUDA_FEW_LANES} * multiprocessors;
  const int width = many && is_vectorizable(call, full) ? full : 1;
  const int64 workers = (call.lanes + width - 1) / width;
  int threads = SNN_CUDA_THREADS;
  while (threads > SNN_CUDA_WARP && workers <= int64{threads} / 2 * multiprocessors) threads /= 2;
  return Grid{width, is_plain(call), threads, (workers + threads - 1) / threads};
}

// Blocks of SNN_CUDA_THREADS for spikes that need no neuron.
inline int64 spike_blocks(int64 threads) {
  return (threads + SNN_CUDA_THREADS - 1) / SNN_CUDA_THREADS;
}
inline int64 spike_blocks(const Encode& call) {
  const int64 groups = (call.lanes + 3) / 4;
  return spike_blocks(groups * ((call.steps + SNN_CUDA_ENCODE_STEPS - 1) / SNN_CUDA_ENCODE_STEPS));
}
inline int64 spike_blocks(const PackSpikes& call) {
  return spike_blocks(word_count(call.count));
}
inline int64 spike_blocks(const UnpackSpikes& call) {
  return spike_blocks((call.count + 3) / 4);
}

}  // namespace snn::cuda
