// The chunked scan on a CPU: blocks of lanes, time outside, vectors of lanes inside.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "rows.h"

namespace snn::cpu::SNN_CPU_ISA {

constexpr int kChunk = SNN_CPU_CHUNK;
constexpr int kAhead = 1;  // rows that are prefetched ahead

constexpr int at_least_one(int count) {
  return count > 0 ? count : 1;
}

// The fires that steps and adjoints are called with. A neuron sees vectors of lanes; the surrogate
// works on whole rows in between, so that no neuron is compiled once for every surrogate.

struct Spike {
  template <class V>
  SNN_INLINE void note(V) const {}
  template <class V>
  SNN_INLINE V spike(V u) const {
    return heaviside(u);
  }
};

// Spikes, and notes H for the surrogate and the adjoint.
template <class T>
struct NoteAndSpike {
  T* h;
  SNN_INLINE void note(Vec<T> value) const { value.store(h); }
  SNN_INLINE Vec<T> spike(Vec<T> u) const { return heaviside(u); }
};

// The output known beforehand.
template <class T>
struct Output {
  const T* output;
  SNN_INLINE void note(Vec<T>) const {}
  SNN_INLINE Vec<T> spike(Vec<T>) const { return Vec<T>::load(output); }
};

// What adjoints are called with: H as noted, and the gradient that the surrogate made of u.
template <class T>
struct NotedSpike {
  const T* noted;
  const T* slope;
  template <class Compute>
  SNN_INLINE Vec<T> h(Compute) const {
    return Vec<T>::load(noted);
  }
  SNN_INLINE Vec<T> spike(Vec<T> u) const { return heaviside(u); }
  SNN_INLINE Vec<T> gradient(Vec<T>) const { return Vec<T>::load(slope); }
};

// The same with the primitive in place of the spike.
template <class T>
struct NotedPrimitive {
  const T* noted;
  const T* slope;
  const T* output;
  template <class Compute>
  SNN_INLINE Vec<T> h(Compute) const {
    return Vec<T>::load(noted);
  }
  SNN_INLINE Vec<T> spike(Vec<T>) const { return Vec<T>::load(output); }
  SNN_INLINE Vec<T> gradient(Vec<T>) const { return Vec<T>::load(slope); }
};

template <int N, class T>
SNN_INLINE void load_lanes(const Row<T>* rows, int l, Vec<T>* out) {
  for (int i = 0; i < N; ++i) out[i] = Vec<T>::load(rows[i] + l);
}

template <int N, class T>
SNN_INLINE void store_lanes(const Vec<T>* in, int l, Row<T>* rows) {
  for (int i = 0; i < N; ++i) in[i].store(rows[i] + l);
}

// A parameter of the lanes [lane, lane + count). Lane by lane it would take two divisions each,
// more than the steps of a short sequence.
template <class T>
void parameter_row(const Parameter<T>& p, int64 lane, int64 count, T* row) {
  if (!p.table || p.size == 1) {
    std::fill_n(row, count, p.table ? p.table[0] : p.value);
    return;
  }
  int64 place = lane / p.inner % p.size, left = p.inner - lane % p.inner;
  for (int64 l = 0, run = 0; l < count; l += run) {
    if (p.inner == 1) {
      run = std::min(p.size - place, count - l);
      std::copy_n(p.table + place, run, row + l);
      place = 0;
    } else {
      run = std::min(left, count - l);
      std::fill_n(row + l, run, p.table[place]);
      left = p.inner;
      if (++place == p.size) place = 0;
    }
  }
}

// The parameters of a block: a row each for the first kRows, which may be tables, else numbers; for
// the surrogates the threshold has a row in any case.
template <class Neuron, class T, int kRows>
struct BlockParams {
  static constexpr int kThresholdRow = std::min(kRows, Neuron::kThreshold);
  alignas(64) Row<T> rows[std::max(kRows, kThresholdRow + 1)];
  T numbers[Neuron::kParams];

  BlockParams(const Scan<T>& call, int64 lane) {
    for (int i = 0; i < Neuron::kParams; ++i) {
      numbers[i] = call.params[i].value;
      if (i < kRows) parameter_row(call.params[i], lane, kLanes, rows[i]);
    }
    if (kThresholdRow == kRows) {
      parameter_row(call.params[Neuron::kThreshold], lane, kLanes, rows[kThresholdRow]);
    }
  }

  const T* threshold() const { return rows[kThresholdRow]; }
};

// A block's parameters inside a loop over its lanes: numbers stay in registers.
template <class Neuron, class T, int kRows>
class LoopParams {
 public:
  SNN_INLINE explicit LoopParams(const BlockParams<Neuron, T, kRows>& block) : rows_(block.rows) {
    for (int i = 0; i < Neuron::kParams; ++i) numbers_[i] = Vec<T>(block.numbers[i]);
  }

  SNN_INLINE void at(int l, Vec<T>* p) const {
    for (int i = 0; i < Neuron::kParams; ++i) {
      p[i] = i < kRows ? Vec<T>::load(rows_[i] + l) : numbers_[i];
    }
  }

 private:
  const Row<T>* rows_;
  Vec<T> numbers_[Neuron::kParams];
};

// Rows of a block from or to an array [N, L].
template <int N, class T>
void read_rows(const T* array, int64 lanes, int64 lane, int count, Row<T>* rows) {
  for (int i = 0; i < N; ++i) {
    std::memset(rows[i], 0, sizeof rows[i]);
    if (array) std::memcpy(rows[i], array + i * lanes + lane, count * sizeof(T));
  }
}

template <int N, class T>
void write_rows(const Row<T>* rows, T* array, int64 lanes, int64 lane, int count) {
  for (int i = 0; i < N; ++i) std::memcpy(array + i * lanes + lane, rows[i], count * sizeof(T));
}

template <int N, class T>
void initial_states(const Scan<T>& call, int64 lane, int count, Row<T>* rows) {
  if (call.states) return read_rows<N>(call.states, call.lanes, lane, count, rows);
  for (int i = 0; i < N; ++i) {
    for (int l = 0; l < kLanes; ++l) rows[i][l] = call.initial[i];
  }
}

// The array of checkpoints at the start of the chunk that begins at step `start` > 0.
template <int N, class T, class P>
SNN_INLINE P* checkpoint(P* checkpoints, const Scan<T>& call, int64 start) {
  return checkpoints + (start / kChunk - 1) * N * call.lanes;
}

// One step of a block's lanes, from the states before to those after (which may be the same rows).
// fire_at(l) gives the fire of the lanes from l, out(l, spike) takes their output.
template <class Neuron, class Reset, class T, int kRows, class FireAt, class Out>
SNN_INLINE void step_block(const Scan<T>& call, const BlockParams<Neuron, T, kRows>& params,
                           const T* x, const Row<T>* before, Row<T>* after, int count,
                           FireAt fire_at, Out out) {
  const LoopParams<Neuron, T, kRows> loop_params(params);
  [[maybe_unused]] const Options options = call.options;
  for (int l = 0; l < count; l += Vec<T>::kSize) {
    Vec<T> state[Neuron::kStates], p[Neuron::kParams];
    load_lanes<Neuron::kStates>(before, l, state);
    loop_params.at(l, p);
    const Vec<T> lane_x = Vec<T>::load(x + l);
    out(l, Neuron::template step<Reset>(state, lane_x, p, options, fire_at(l)));
    store_lanes<Neuron::kStates>(state, l, after);
  }
}

// The primitive in place of a spike: H of the whole row first, then the step with the output known.
// Leaves H in `h` and the output in `output`.
template <class Neuron, class Reset, class T, int kRows>
void step_block_primitive(const Scan<T>& call, const BlockParams<Neuron, T, kRows>& params,
                          const T* x, const Row<T>* before, Row<T>* after, int count, T* h,
                          T* output) {
  alignas(64) Row<T> unused[Neuron::kStates];
  const auto nothing = [](int, Vec<T>) {};
  step_block<Neuron, Reset>(
      call, params, x, before, unused, count, [&](int l) { return NoteAndSpike<T>{h + l}; },
      nothing);
  surrogate_primitive(call.surrogate, call.surrogate_params, h, params.threshold(), output, count);
  step_block<Neuron, Reset>(
      call, params, x, before, after, count, [&](int l) { return Output<T>{output + l}; }, nothing);
}

template <class Neuron, class Reset, int kRows, class T>
void scan_block(const Forward<T>& call, int64 lane, int count) {
  constexpr int kStates = Neuron::kStates;
  alignas(64) Row<T> state[kStates], x_buffer, h;
  RowWriter<T> spike_rows(call.element, call.spikes, call.steps * call.lanes);
  RowWriter<T> v_rows(call.element, call.v_seq, call.steps * call.lanes);
  const BlockParams<Neuron, T, kRows> params(call, lane);
  initial_states<kStates>(call, lane, count, state);

  for (int64 t = 0; t < call.steps; ++t) {
    if (call.checkpoints && t > 0 && t % kChunk == 0) {
      T* saved = checkpoint<kStates>(call.checkpoints, call, t);
      write_rows<kStates>(state, saved, call.lanes, lane, count);
    }
    const int64 row = t * call.lanes + lane;
    const T* x = load_row(call.element, call.x, t * call.x_stride + lane, x_buffer, count);
    if (t + kAhead < call.steps) {
      prefetch_row(call.element, call.x, (t + kAhead) * call.x_stride + lane, count);
    }
    const RowPlace<T> spikes = spike_rows.begin(row, count);
    if (call.spiking) {
      step_block<Neuron, Reset>(
          call, params, x, state, state, count, [](int) { return Spike{}; },
          [&](int l, Vec<T> spike) { spikes.store(l, spike); });
    } else {
      step_block_primitive<Neuron, Reset>(call, params, x, state, state, count, h, spikes.values);
    }
    spike_rows.finish();
    if (call.v_seq) v_rows.write(state[0], row, count);
  }
  write_rows<kStates>(state, call.final_states, call.lanes, lane, count);
}

// What the backward pass recomputes of one chunk, in the caches. Of a linear neuron only the
// parameters' gradients want the states before each step, so without tables one row serves all.
template <class Neuron, int kRows, class T>
struct ChunkMemory {
  static constexpr bool kKeepsStates = kRows > 0 || !Neuron::kLinear;
  alignas(64) Row<T> states_[kKeepsStates ? kChunk + 1 : 1][Neuron::kStates];
  alignas(64) Row<T> h[kChunk];
  alignas(64) Row<T> output[kChunk];  // the primitive, where that is the output
  alignas(64) Row<T> x_buffer[kChunk];
  const T* x[kChunk];

  // The states before step k of the chunk.
  Row<T>* states(int k) { return states_[kKeepsStates ? k : 0]; }
};

template <class Neuron, class Reset, int kRows, class T>
void recompute_chunk(const Backward<T>& call, const BlockParams<Neuron, T, kRows>& params,
                     ChunkMemory<Neuron, kRows, T>& chunk, int64 start, int steps, int64 lane,
                     int count) {
  for (int k = 0; k < steps; ++k) {
    const int64 offset = (start + k) * call.x_stride + lane;
    T* h = chunk.h[k];
    const T* x = load_row(call.element, call.x, offset, chunk.x_buffer[k], count);
    chunk.x[k] = x;
    if (k + kAhead < steps) {
      prefetch_row(call.element, call.x, offset + kAhead * call.x_stride, count);
    }
    if (call.spiking) {
      step_block<Neuron, Reset>(
          call, params, x, chunk.states(k), chunk.states(k + 1), count,
          [&](int l) { return NoteAndSpike<T>{h + l}; }, [](int, Vec<T>) {});
    } else {
      step_block_primitive<Neuron, Reset>(call, params, x, chunk.states(k), chunk.states(k + 1),
                                          count, h, chunk.output[k]);
    }
  }
}

template <class Neuron, class Reset, int kRows, class T, class FireAt>
SNN_INLINE void adjoint_block(const Options& options, const BlockParams<Neuron, T, kRows>& params,
                              const T* x, const Row<T>* before, const T* grad_out,
                              Row<T>* grad_states, Row<T>* grad_params, const RowPlace<T>& grad_x,
                              int count, FireAt fire_at) {
  using V = Vec<T>;
  const LoopParams<Neuron, T, kRows> loop_params(params);
  for (int l = 0; l < count; l += V::kSize) {
    V state[Neuron::kStates], p[Neuron::kParams], grad_s[Neuron::kStates], grad_p[Neuron::kParams];
    load_lanes<Neuron::kStates>(before, l, state);
    load_lanes<Neuron::kStates>(grad_states, l, grad_s);
    loop_params.at(l, p);
    load_lanes<kRows>(grad_params, l, grad_p);
    for (int i = kRows; i < Neuron::kParams; ++i) grad_p[i] = V(T(0));
    const V lane_grad_x = Neuron::template adjoint<Reset>(
        state, V::load(x + l), p, options, fire_at(l), V::load(grad_out + l), grad_s, grad_p);
    grad_x.store(l, lane_grad_x);
    store_lanes<Neuron::kStates>(grad_s, l, grad_states);
    store_lanes<kRows>(grad_p, l, grad_params);
  }
}

template <class T>
SNN_INLINE void prefetch_gradients(const Backward<T>& call, const RowWriter<T>& grad_x, int64 t,
                                   int64 lane, int count) {
  if (call.grad_spikes) {
    prefetch_row(call.element, call.grad_spikes, t * call.grad_spikes_stride + lane, count);
  }
  grad_x.prefetch(t * call.lanes + lane, count);
}

template <class Neuron, class Reset, int kRows, class T>
void scan_block(const Backward<T>& call, int64 lane, int count) {
  constexpr int kStates = Neuron::kStates;
  auto& chunk = scratch<ChunkMemory<Neuron, kRows, T>>();
  alignas(64) Row<T> grad_states[kStates], grad_params[at_least_one(kRows)] = {};
  alignas(64) Row<T> zeros = {}, slope = {}, grad_buffer;
  RowWriter<T> grad_x_rows(call.element, call.grad_x, call.steps * call.lanes);
  const BlockParams<Neuron, T, kRows> params(call, lane);
  const Options last_options = options_at(call, call.steps - 1);
  read_rows<kStates>(call.grad_states, call.lanes, lane, count, grad_states);

  for (int64 start = (call.steps - 1) / kChunk * kChunk; start >= 0; start -= kChunk) {
    const int64 left = call.steps - start;
    const int steps = static_cast<int>(left < kChunk ? left : kChunk);
    if (start == 0) {
      initial_states<kStates>(call, lane, count, chunk.states(0));
    } else {
      const T* saved = checkpoint<kStates>(call.checkpoints, call, start);
      read_rows<kStates>(saved, call.lanes, lane, count, chunk.states(0));
    }
    recompute_chunk<Neuron, Reset>(call, params, chunk, start, steps, lane, count);
    for (int k = steps - 1; k >= 0 && k >= steps - kAhead; --k) {
      prefetch_gradients(call, grad_x_rows, start + k, lane, count);
    }

    for (int k = steps - 1; k >= 0; --k) {
      const int64 t = start + k;
      if (k >= kAhead) prefetch_gradients(call, grad_x_rows, t - kAhead, lane, count);
      if (call.grad_v_seq) {
        const T* grad_v = load_row(call.element, call.grad_v_seq, t * call.grad_v_seq_stride + lane,
                                   grad_buffer, count);
        for (int l = 0; l < count; ++l) grad_states[0][l] += grad_v[l];
      }
      const T* grad_out = call.grad_spikes
                              ? load_row(call.element, call.grad_spikes,
                                         t * call.grad_spikes_stride + lane, grad_buffer, count)
                              : zeros;
      const RowPlace<T> grad_x = grad_x_rows.begin(t * call.lanes + lane, count);
      const T *h = chunk.h[k], *output = chunk.output[k];
      if (meets_surrogate(call)) {
        surrogate_gradient(call.surrogate, call.surrogate_params, h, params.threshold(), slope,
                           count);
      }
      const auto adjoint = [&](auto fire_at) {
        // Read from memory: in registers they would take those that the loop needs.
        const Options& options = t + 1 == call.steps ? last_options : call.options;
        adjoint_block<Neuron, Reset>(options, params, chunk.x[k], chunk.states(k), grad_out,
                                     grad_states, grad_params, grad_x, count, fire_at);
      };
      if (call.spiking) {
        adjoint([&](int l) { return NotedSpike<T>{h + l, slope + l}; });
      } else {
        adjoint([&](int l) { return NotedPrimitive<T>{h + l, slope + l, output + l}; });
      }
      grad_x_rows.finish();
    }
  }
  if (call.grad_initial) {
    write_rows<kStates>(grad_states, call.grad_initial, call.lanes, lane, count);
  }
  for (int i = 0; i < Neuron::kParams; ++i) {
    if (!call.grad_params[i]) continue;
    const T* sums = i < kRows ? grad_params[i] : zeros;
    std::memcpy(call.grad_params[i] + lane, sums, count * sizeof(T));
  }
}

// Vectors of lanes in a tile.
constexpr int kTile = std::min(SNN_CPU_TILE_BYTES / SNN_VECTOR_BYTES, 16);

// The forward scan of one tile of lanes where everything is computed in place, and stored past the
// caches if so asked. step(l, state, x, out) takes the lanes from the tile's l-th one step on.
template <int kVectors, int kStates, int kOutputs, class T, class Step>
SNN_INLINE void scan_tile(const Forward<T>& call, int64 lane, bool streams, Step step) {
  using V = Vec<T>;
  const auto store = [streams](V value, T* to) { RowPlace<T>{to, streams}.store(0, value); };
  V state[kVectors][kStates];
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) {
    for (int n = 0; n < kStates; ++n) {
      const int64 place = n * call.lanes + lane + i * V::kSize;
      state[i][n] = call.states ? V::load(call.states + place) : V(call.initial[n]);
    }
  }
  const auto store_states = [&](T* array) {
#pragma GCC unroll 16
    for (int i = 0; i < kVectors; ++i) {
      for (int n = 0; n < kStates; ++n) {
        store(state[i][n], array + n * call.lanes + lane + i * V::kSize);
      }
    }
  };
  const T* x = static_cast<const T*>(call.x) + lane;
  T* spikes = static_cast<T*>(call.spikes) + lane;
  const int64 steps = call.steps, lanes = call.lanes, x_stride = call.x_stride;
  for (int64 start = 0; start < steps; start += kChunk) {
    if (call.checkpoints && start > 0) {
      store_states(checkpoint<kStates>(call.checkpoints, call, start));
    }
    const int64 stop = steps - start < kChunk ? steps : start + kChunk;
    for (int64 t = start; t < stop; ++t) {
      const T* ahead = t + kAhead < steps ? x + kAhead * x_stride : x;
#pragma GCC unroll 16
      for (int i = 0; i < kVectors; ++i) __builtin_prefetch(ahead + i * V::kSize);
#pragma GCC unroll 16
      for (int i = 0; i < kVectors; ++i) {
        const int l = i * V::kSize;
        V out[kOutputs];
        step(l, state[i], V::load(x + l), out);
        for (int n = 0; n < kOutputs; ++n) store(out[n], spikes + n * steps * lanes + l);
      }
      x += x_stride;
      spikes += lanes;
    }
  }
  store_states(call.final_states);
}

// The forward scan of as many tiles of lanes from `begin` as there are; returns the lane behind
// them. There are none where rows have to be converted or looked at between two steps, or are too
// large for the caches and not aligned. step_from(lane, count) gives the step of a tile's lanes.
template <int kStates, int kOutputs, class T, class StepFrom>
int64 scan_tiles(const Forward<T>& call, int64 begin, int64 end, StepFrom step_from) {
  constexpr int kFit = kStates > 2 ? kTile / 2 : kTile;
  constexpr int kVectors = std::min(kFit, kLanes / Vec<T>::kSize);
  constexpr int kWidth = kVectors * Vec<T>::kSize;
  if (call.v_seq || !in_place<T>(call.element, kWidth)) return begin;
  const bool streams = call.steps * call.lanes * element_size(call.element) > SNN_CPU_STREAM_BYTES;
  const std::size_t distances = (call.lanes | begin) * sizeof(T);
  for (const void* array :
       {static_cast<const void*>(call.spikes), static_cast<const void*>(call.final_states),
        static_cast<const void*>(call.checkpoints)}) {
    if (streams && !is_vector_aligned(array, distances)) return begin;
  }
  for (; begin + kWidth <= end; begin += kWidth) {
    scan_tile<kVectors, kStates, kOutputs>(call, begin, streams, step_from(begin, kWidth));
  }
  if (streams) stream_fence();
  return begin;
}

// The same with parameters that have one value for all lanes.
template <class Neuron, class Reset, class T>
int64 scan_uniform_tiles(const Forward<T>& call, int64 begin, int64 end) {
  using V = Vec<T>;
  if (!call.spiking) return begin;
  V p[Neuron::kParams];
  for (int i = 0; i < Neuron::kParams; ++i) {
    const Parameter<T>& given = call.params[i];
    if (given.table && given.size > 1) return begin;
    p[i] = V(given.table ? *given.table : given.value);
  }
  const auto scan = [&](auto options) {
    const auto step = [=](int, V* state, V x, V* out) {
      *out = Neuron::template step<Reset>(state, x, p, options(), Spike{});
    };
    return scan_tiles<Neuron::kStates, 1>(call, begin, end, [=](int64, int) { return step; });
  };
  const Options given = call.options;
  if constexpr (Neuron::kDivides) {  // the usual options as constants: else two jumps for a product
    if (given.decay_input && given.inverse_is_exact) {
      return scan([] { return Options{false, true, true}; });
    }
  }
  return scan([=] { return given; });
}

template <class Neuron, class Reset, class T>
int64 scan_uniform_tiles(const Backward<T>&, int64 begin, int64) {
  return begin;
}

// Whether parameters behind the first `learnt` are all numbers.
template <class T>
bool are_numbers_behind(int learnt, int params, const Scan<T>& call) {
  for (int i = learnt; i < params; ++i) {
    if (call.params[i].table) return false;
  }
  return true;
}

template <class T>
bool is_plus_zero(const Parameter<T>& p) {
  return !p.table && p.value == 0 && !std::signbit(p.value);
}

// The scan with the call's neuron, reset and number of parameters in rows as types.
template <template <class> class Call, class T>
void scan_lanes(const Call<T>& call, int64 begin, int64 end, int width) {
  const auto blocks = [&](auto neuron, auto reset, auto rows) {
    for (int64 lane = begin; lane < end; lane += width) {
      const int count = static_cast<int>(end - lane < width ? end - lane : width);
      scan_block<decltype(neuron), decltype(reset), rows.value>(call, lane, count);
    }
  };
  with_neuron(call.neuron, [&](auto neuron) {
    using Neuron = decltype(neuron);
    constexpr int kParams = Neuron::kParams;
    // float64 is for checking rather than for speed: the general blocks alone make its build short.
    if constexpr (std::is_same_v<T, float>) {
      if (are_numbers_behind(Neuron::kLearnt, kParams, call)) {
        const auto with_reset = [&](auto reset) {
          begin = scan_uniform_tiles<Neuron, decltype(reset)>(call, begin, end);
          blocks(neuron, reset, std::integral_constant<int, Neuron::kLearnt>{});
        };
        if (!call.hard_reset) return with_reset(SoftReset{});
        const bool to_zero = is_plus_zero(call.params[Neuron::kReset]);
        if (call.spiking && to_zero) return with_reset(ZeroReset{});
        return with_reset(HardReset{});
      }
    }
    const std::integral_constant<int, kParams> all;
    if (call.hard_reset) return blocks(neuron, HardReset{}, all);
    blocks(neuron, SoftReset{}, all);
  });
}

}  // namespace snn::cpu::SNN_CPU_ISA
