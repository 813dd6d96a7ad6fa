// The chunked scan on a CPU: blocks of lanes, time outside, vectors of lanes inside.
#pragma once

#include <algorithm>
#include <type_traits>

#include "../include/snnkernels/fire.h"
#include "rows.h"

namespace snn::cpu {

constexpr int kChunk = SNN_CPU_CHUNK;
constexpr int kAhead = 1;  // rows that are prefetched ahead

template <int N, class T>
SNN_INLINE void load_lanes(const Row<T>* rows, int l, Vec<T>* out) {
  for (int i = 0; i < N; ++i) out[i] = Vec<T>::load(rows[i] + l);
}

template <int N, class T>
SNN_INLINE void store_lanes(const Vec<T>* in, int l, Row<T>* rows) {
  for (int i = 0; i < N; ++i) in[i].store(rows[i] + l);
}

// Whether a parameter has more than one value for all lanes.
template <class T>
bool differs(const Parameter<T>& p) {
  return p.table && p.size > 1;
}

// A parameter of the lanes [lane, lane + count). Lane by lane it would take two divisions each,
// more than the steps of a short sequence.
template <class T>
void parameter_row(const Parameter<T>& p, int64 lane, int64 count, T* row) {
  if (!differs(p)) {
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

// The parameters of a block of lanes: a row for each that may be a table, else a number. S is
// ScanTraits.
template <class S, class T>
struct BlockParams {
  static constexpr int kRows = std::max(__builtin_popcount(S::kTables), 1);
  alignas(64) Row<T> rows[kRows];
  T numbers[S::kArrayOfParams];

  explicit BlockParams(const Scan<T>& call) {
    for (int i = 0; i < S::kParams; ++i) {
      numbers[i] = call.params[i].value;
      if (S::is_table(i) && !differs(call.params[i])) {
        parameter_row(call.params[i], 0, kLanes, rows[row_of(i)]);
      }
    }
  }

  BlockParams(const Scan<T>& call, int64 lane) : BlockParams(call) {
    read_tables(call, lane, kLanes);
  }

  void read_tables(const Scan<T>& call, int64 lane, int count) {
    for (int i = 0; i < S::kParams; ++i) {
      if (S::is_table(i) && differs(call.params[i])) {
        parameter_row(call.params[i], lane, count, rows[row_of(i)]);
      }
    }
  }

  // For a loop over lanes: numbers before it, to stay in registers, tables for the lanes from l in
  // it.
  SNN_INLINE void load_numbers(Vec<T>* p) const {
    for (int i = 0; i < S::kParams; ++i) p[i] = Vec<T>(numbers[i]);
  }
  SNN_INLINE void load_tables(int l, Vec<T>* p) const {
    for (int i = 0; i < S::kParams; ++i) {
      if (S::is_table(i)) p[i] = Vec<T>::load(rows[row_of(i)] + l);
    }
  }

  // The place of parameter i among the tables.
  static constexpr int row_of(int i) { return __builtin_popcount(S::kTables & ((1u << i) - 1u)); }
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

struct NoOutput {
  template <class V>
  SNN_INLINE void operator()(int, const V*) const {}
};

// One step of a block's lanes, from the states before.
template <class S, class T>
struct BlockStep {
  const Scan<T>& call;
  const BlockParams<S, T>& params;
  const T* x;
  const Row<T>* before;
  int count;

  // Writes the states after the step, which may be the rows of those before. fire_at(l) gives the
  // fire of the lanes from l, out(l, outputs) takes their outputs.
  template <class FireAt, class Out>
  SNN_INLINE void take(Row<T>* after, FireAt fire_at, Out out) const {
    using V = Vec<T>;
    const Options options = call.options;
    V p[S::kArrayOfParams];
    params.load_numbers(p);
    for (int l = 0; l < count; l += V::kSize) {
      V state[S::kStates], outputs[S::kOutputs];
      load_lanes<S::kStates>(before, l, state);
      params.load_tables(l, p);
      S::step(state, V::load(x + l), p, options, fire_at(l), outputs);
      out(l, outputs);
      store_lanes<S::kStates>(state, l, after);
    }
  }
};

// How a block's steps and adjoints fire, by S::Fire. Notes are what the steps of a chunk leave for
// their adjoints, in the caches.
template <class S, class T, class Fire = typename S::Fire>
class BlockFire;

template <class S, class T, class Surrogate>
class BlockFire<S, T, Inline<Surrogate>> {
 public:
  struct Notes {};
  static constexpr bool kStepsNote = false;
  static constexpr bool kKeepsStates = true;

  BlockFire(const Scan<T>&, int64) {}

  static bool fits_tiles(const Scan<T>&) { return true; }
  static SNN_INLINE auto of_tiles(const Scan<T>& call) {
    return InlineFire<Surrogate, T>(call.surrogate_params);
  }

  template <class Out>
  SNN_INLINE void step(const BlockStep<S, T>& step, Row<T>* after, Out out) const {
    step.take(after, [fire = of_tiles(step.call)](int) { return fire; }, out);
  }
  SNN_INLINE void step_again(const BlockStep<S, T>& step, Row<T>* after, Notes&, int) const {
    this->step(step, after, NoOutput{});
  }
  template <class Adjoint>
  SNN_INLINE void adjoint(const Backward<T>& call, const Notes&, int, int, Adjoint run) const {
    run([fire = of_tiles(call)](int) { return fire; });
  }
};

// What steps and adjoints are called with where the surrogate is switched: to fire,
struct Spike {
  template <class V>
  SNN_INLINE void note(V) const {}
  template <class V>
  SNN_INLINE V spike(V u) const {
    return heaviside(u);
  }
};
// to fire and note H,
template <class T>
struct NotingSpike : Spike {
  T* noted;
  SNN_INLINE void note(Vec<T> h) const { h.store(noted); }
};
// and when H, the surrogate's gradient and, in place of spikes, its primitive are known.
template <class T, bool kSpiking>
struct NotedFire {
  const T *noted, *slope, *output;

  SNN_INLINE void note(Vec<T>) const {}
  template <class Compute>
  SNN_INLINE Vec<T> h(Compute) const {
    return Vec<T>::load(noted);
  }
  SNN_INLINE Vec<T> spike(Vec<T> u) const { return kSpiking ? heaviside(u) : Vec<T>::load(output); }
  SNN_INLINE Vec<T> gradient(Vec<T>) const { return Vec<T>::load(slope); }
};

// The surrogate is taken of whole rows at a time, in between, so that no neuron is compiled once
// for every surrogate.
template <class S, class T>
class BlockFire<S, T, Switched> {
 public:
  struct Notes {
    alignas(64) Row<T> h[kChunk];
    alignas(64) Row<T> output[kChunk];  // the primitive, where that is the output
  };
  static constexpr bool kStepsNote = true;
  // Of a linear neuron only the parameters' gradients want the states before each step.
  static constexpr bool kKeepsStates = S::kTables != 0 || !S::kLinear;

  BlockFire(const Scan<T>& call, int64 lane) {
    parameter_row(call.params[S::kThreshold], lane, kLanes, threshold_);
  }

  static bool fits_tiles(const Scan<T>& call) { return call.spiking; }
  static Spike of_tiles(const Scan<T>&) { return {}; }

  template <class Out>
  SNN_INLINE void step(const BlockStep<S, T>& step, Row<T>* after, Out out) const {
    if (step.call.spiking) return step.take(after, [](int) { return Spike{}; }, out);
    alignas(64) Row<T> h, output;
    smooth(step, after, h, output, out);
  }
  SNN_INLINE void step_again(const BlockStep<S, T>& step, Row<T>* after, Notes& notes,
                             int k) const {
    T* h = notes.h[k];
    if (!step.call.spiking) return smooth(step, after, h, notes.output[k], NoOutput{});
    step.take(after, [h](int l) { return NotingSpike<T>{{}, h + l}; }, NoOutput{});
  }
  template <class Adjoint>
  SNN_INLINE void adjoint(const Backward<T>& call, const Notes& notes, int k, int count,
                          Adjoint run) const {
    alignas(64) Row<T> slope;
    const T *h = notes.h[k], *output = notes.output[k];
    if (meets_surrogate(call)) {
      surrogate_row<SurrogatePart::kGradient>(call.surrogate, call.surrogate_params, h, threshold_,
                                              slope, count);
    } else {
      std::fill_n(slope, kLanes, T(0));
    }
    if (call.spiking) {
      run([&](int l) { return NotedFire<T, true>{h + l, slope + l, nullptr}; });
    } else {
      run([&](int l) { return NotedFire<T, false>{h + l, slope + l, output + l}; });
    }
  }

 private:
  // The primitive in place of a spike: the step up to H, then with the output known.
  template <class Out>
  void smooth(const BlockStep<S, T>& step, Row<T>* after, T* h, T* output, Out out) const {
    alignas(64) Row<T> unused[S::kStates];
    const auto& call = step.call;
    step.take(unused, [h](int l) { return NotingSpike<T>{{}, h + l}; }, NoOutput{});
    surrogate_row<SurrogatePart::kPrimitive>(call.surrogate, call.surrogate_params, h, threshold_,
                                             output, step.count);
    step.take(after, [=](int l) { return NotedFire<T, false>{h + l, nullptr, output + l}; }, out);
  }

  alignas(64) Row<T> threshold_;
};

template <class S, class T>
void scan_block(const Forward<T>& call, int64 lane, int count) {
  alignas(64) Row<T> x_buffer, state[S::kStates];
  const int64 size = call.steps * call.lanes;
  RowWriter<T> outputs[S::kOutputs], v_rows(call.element, call.v_seq, size);
  for (auto& output : outputs) output.open(call.element, call.spikes, size);
  const BlockParams<S, T> params(call, lane);
  const BlockFire<S, T> fire(call, lane);
  initial_states<S::kStates>(call, lane, count, state);

  for (int64 t = 0; t < call.steps; ++t) {
    if (call.checkpoints && t > 0 && t % kChunk == 0) {
      T* saved = checkpoint<S::kStates>(call.checkpoints, call, t);
      write_rows<S::kStates>(state, saved, call.lanes, lane, count);
    }
    const T* x = load_row(call.element, call.x, t * call.x_stride + lane, x_buffer, count);
    if (t + kAhead < call.steps) {
      prefetch_row(call.element, call.x, (t + kAhead) * call.x_stride + lane, count);
    }
    const int64 row = t * call.lanes + lane;
    RowPlace<T> places[S::kOutputs];
    for (int i = 0; i < S::kOutputs; ++i) places[i] = outputs[i].begin(i * size + row, count);
    fire.step({call, params, x, state, count}, state, [places](int l, const Vec<T>* out) {
      for (int i = 0; i < S::kOutputs; ++i) places[i].store(l, out[i]);
    });
    for (auto& output : outputs) output.finish();
    if (call.v_seq) v_rows.write(state[0], row, count);
  }
  write_rows<S::kStates>(state, call.final_states, call.lanes, lane, count);
}

// What the backward pass computes again of one chunk, in the caches.
template <class S, class T>
struct ChunkMemory {
  using Fire = BlockFire<S, T>;
  alignas(64) Row<T> states_[Fire::kKeepsStates ? kChunk + 1 : 1][S::kStates];
  typename Fire::Notes notes;
  alignas(64) Row<T> x_buffer[kChunk];
  const T* x[kChunk];

  // The states before step k of the chunk.
  Row<T>* states(int k) { return states_[Fire::kKeepsStates ? k : 0]; }
};

// Not inlined, for the walk back needs the registers.
template <class S, class T>
__attribute__((noinline)) void recompute_chunk(const Backward<T>& call,
                                               const BlockParams<S, T>& params,
                                               const BlockFire<S, T>& fire,
                                               ChunkMemory<S, T>& chunk, int64 start, int steps,
                                               int64 lane, int count) {
  for (int k = 0; k < steps; ++k) {
    const int64 offset = (start + k) * call.x_stride + lane;
    chunk.x[k] = load_row(call.element, call.x, offset, chunk.x_buffer[k], count);
    if (k + kAhead < steps) {
      prefetch_row(call.element, call.x, offset + kAhead * call.x_stride, count);
    }
    if (!fire.kStepsNote && k + 1 == steps)
      break;  // nobody asks for the states after the last step
    fire.step_again({call, params, chunk.x[k], chunk.states(k), count}, chunk.states(k + 1),
                    chunk.notes, k);
  }
}

// Gradients of a block's lanes: those of the states, carried from step to step, and the sums of
// those of the tables.
template <class S, class T>
struct BlockGradients {
  alignas(64) Row<T> states[S::kStates];
  alignas(64) Row<T> tables[BlockParams<S, T>::kRows] = {};
};

template <class S, class T, class FireAt>
SNN_INLINE void adjoint_block(const Options& options, const BlockParams<S, T>& params, const T* x,
                              const Row<T>* before, const T* const* grad_outputs,
                              BlockGradients<S, T>& grads, const RowPlace<T>& grad_x, int count,
                              FireAt fire_at) {
  using V = Vec<T>;
  constexpr auto row_of = BlockParams<S, T>::row_of;
  V p[S::kArrayOfParams];
  params.load_numbers(p);
  for (int l = 0; l < count; l += V::kSize) {
    V state[S::kStates], grad_s[S::kStates], grad_out[S::kOutputs], grad_p[S::kArrayOfParams];
    load_lanes<S::kStates>(before, l, state);
    load_lanes<S::kStates>(grads.states, l, grad_s);
    params.load_tables(l, p);
    for (int i = 0; i < S::kOutputs; ++i) grad_out[i] = V::load(grad_outputs[i] + l);
    for (int i = 0; i < S::kParams; ++i) {
      grad_p[i] = S::is_table(i) ? V::load(grads.tables[row_of(i)] + l) : V(T(0));
    }
    const V lane_grad_x =
        S::adjoint(state, V::load(x + l), p, options, fire_at(l), grad_out, grad_s, grad_p);
    grad_x.store(l, lane_grad_x);
    store_lanes<S::kStates>(grad_s, l, grads.states);
    for (int i = 0; i < S::kParams; ++i) {
      if (S::is_table(i)) grad_p[i].store(grads.tables[row_of(i)] + l);
    }
  }
}

// Where the gradient of output i at step t is for the lanes from `lane`.
template <class T>
SNN_INLINE int64 output_place(const Backward<T>& call, int i, int64 t, int64 lane) {
  return (i * call.steps + t) * call.grad_spikes_stride + lane;
}

// A function rather than a lambda, of which GCC sees no effect and drops the calls.
template <int kOutputs, class T>
SNN_INLINE void prefetch_gradients(const Backward<T>& call, const RowWriter<T>& grad_x, int64 t,
                                   int64 lane, int count) {
  for (int i = 0; i < kOutputs && call.grad_spikes; ++i) {
    prefetch_row(call.element, call.grad_spikes, output_place(call, i, t, lane), count);
  }
  grad_x.prefetch(t * call.lanes + lane, count);
}

template <class S, class T>
void scan_block(const Backward<T>& call, int64 lane, int count) {
  auto& chunk = scratch<ChunkMemory<S, T>>();
  BlockGradients<S, T> grads;
  alignas(64) Row<T> grad_buffers[S::kOutputs] = {}, grad_v_buffer;
  RowWriter<T> grad_x_rows(call.element, call.grad_x, call.steps * call.lanes);
  const BlockParams<S, T> params(call, lane);
  const BlockFire<S, T> fire(call, lane);
  Options last_options = call.options;
  last_options.detach_reset |= !has_gradient_after(call);
  read_rows<S::kStates>(call.grad_states, call.lanes, lane, count, grads.states);

  for (int64 start = (call.steps - 1) / kChunk * kChunk; start >= 0; start -= kChunk) {
    const int64 left = call.steps - start;
    const int steps = static_cast<int>(left < kChunk ? left : kChunk);
    if (start == 0) {
      initial_states<S::kStates>(call, lane, count, chunk.states(0));
    } else {
      const T* saved = checkpoint<S::kStates>(call.checkpoints, call, start);
      read_rows<S::kStates>(saved, call.lanes, lane, count, chunk.states(0));
    }
    recompute_chunk(call, params, fire, chunk, start, steps, lane, count);
    for (int k = steps - 1; k >= 0 && k >= steps - kAhead; --k) {
      prefetch_gradients<S::kOutputs>(call, grad_x_rows, start + k, lane, count);
    }

    for (int k = steps - 1; k >= 0; --k) {
      const int64 t = start + k;
      if (k >= kAhead) {
        prefetch_gradients<S::kOutputs>(call, grad_x_rows, t - kAhead, lane, count);
      }
      if (call.grad_v_seq) {
        const int64 offset = t * call.grad_v_seq_stride + lane;
        const T* grad_v = load_row(call.element, call.grad_v_seq, offset, grad_v_buffer, count);
        for (int l = 0; l < count; ++l) grads.states[0][l] += grad_v[l];
      }
      const T* grad_outputs[S::kOutputs];
      for (int i = 0; i < S::kOutputs; ++i) {
        T* buffer = grad_buffers[i];
        grad_outputs[i] = call.grad_spikes ? load_row(call.element, call.grad_spikes,
                                                      output_place(call, i, t, lane), buffer, count)
                                           : buffer;
      }
      const RowPlace<T> grad_x = grad_x_rows.begin(t * call.lanes + lane, count);
      // Read from memory: in registers they would take those that the loop needs.
      const Options& options = t + 1 == call.steps ? last_options : call.options;
      fire.adjoint(call, chunk.notes, k, count, [&](auto fire_at) {
        adjoint_block(options, params, chunk.x[k], chunk.states(k), grad_outputs, grads, grad_x,
                      count, fire_at);
      });
      grad_x_rows.finish();
    }
  }
  if (call.grad_initial) {
    write_rows<S::kStates>(grads.states, call.grad_initial, call.lanes, lane, count);
  }
  for (int i = 0; i < S::kParams; ++i) {
    if (S::is_table(i) && call.grad_params[i]) {
      const T* sums = grads.tables[BlockParams<S, T>::row_of(i)];
      std::memcpy(call.grad_params[i] + lane, sums, count * sizeof(T));
    }
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

// The same for a call's neuron.
template <class S, class T>
int64 scan_tiles(const Forward<T>& call, int64 begin, int64 end) {
  using V = Vec<T>;
  if (!BlockFire<S, T>::fits_tiles(call)) return begin;
  BlockParams<S, T> params(call);  // whose tables are those of the tile at hand
  const auto scan = [&](auto options) {
    const auto step_from = [&](int64 lane, int count) {
      params.read_tables(call, lane, count);
      const auto fire = BlockFire<S, T>::of_tiles(call);
      V p[S::kArrayOfParams];
      params.load_numbers(p);
      return [=, &params](int l, V* state, V x, V* out) mutable {
        params.load_tables(l, p);
        S::step(state, x, p, options(), fire, out);
      };
    };
    return scan_tiles<S::kStates, S::kOutputs>(call, begin, end, step_from);
  };
  const Options given = call.options;
  if constexpr (S::kDivides) {  // the usual options as constants: else two jumps for a product
    if (given.decay_input && given.inverse_is_exact) {
      return scan([] { return Options{false, true, true}; });
    }
  }
  return scan([=] { return given; });
}

// The scan over lanes [begin, end). float64 is for checking rather than for speed: blocks alone
// make its build short.
template <class S, class Call>
void scan_lanes(const Call& call, int64 begin, int64 end) {
  if constexpr (std::is_same_v<Call, Forward<float>>) begin = scan_tiles<S>(call, begin, end);
  for (; begin < end; begin += kLanes) {
    scan_block<S>(call, begin, static_cast<int>(std::min<int64>(kLanes, end - begin)));
  }
}

}  // namespace snn::cpu
