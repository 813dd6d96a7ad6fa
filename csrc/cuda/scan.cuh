// The chunked scan on a GPU: each thread owns V adjacent lanes and walks T in chunks of K steps,
// with the chunk's loads issued before any arithmetic. Neither shared memory, nor barriers, nor
// atomics.
#pragma once

#include "elements.cuh"
#include "snnkernels/fire.h"
#include "snnkernels/scan.h"

namespace snn::cuda {

constexpr int kChunk = SNN_CUDA_CHUNK;

// Values of several lanes and steps: as many as fit the registers in which a call hands them over.
template <class T, int N>
struct Batch {
  T values[N];
};

SNN_HD constexpr int batch_size(int values) {
  return values % 8 == 0 ? 8 : values % 4 == 0 ? 4 : 1;
}

static_assert(kSurrogateParams == 2, "the functions below pass two");

// One copy of each for all the kernels of a unit: inlined at every step they would be most of the
// code. A batch shares the call and the choice of the surrogate, and its values hide each other's
// latencies.
template <class T, int N>
__host__ __device__ __noinline__ Batch<T, N> surrogate_gradients(SurrogateId id, Batch<T, N> u,
                                                                 T p0, T p1) {
  const T p[kSurrogateParams] = {p0, p1};
  with_surrogate(id, [&](auto surrogate) {
    SNN_UNROLL
    for (int i = 0; i < N; ++i) u.values[i] = decltype(surrogate)::gradient(u.values[i], p);
  });
  return u;
}

template <class T>
__host__ __device__ __noinline__ T primitive(SurrogateId id, T u, T p0, T p1) {
  const T p[kSurrogateParams] = {p0, p1};
  return with_surrogate(id, [&](auto surrogate) { return decltype(surrogate)::primitive(u, p); });
}

// The element of a table for a lane, with a 32-bit division where it will do. Not inlined, for
// divisions are long.
template <class T>
__host__ __device__ __noinline__ T table_at(const T* table, int64 size, int64 inner, int64 lane) {
  if (size == 1) return table[0];
  if ((size | inner | lane) >> 32) return table[lane / inner % size];
  const auto run = static_cast<unsigned>(lane) / static_cast<unsigned>(inner);
  return table[run % static_cast<unsigned>(size)];
}

template <class T>
SNN_HD T parameter_at(const Parameter<T>& p, int64 lane) {
  return p.table ? table_at(p.table, p.size, p.inner, lane) : p.value;
}

// The parameters of a thread's lanes: of what may be a table each lane its own, else one for all. S
// is ScanTraits.
template <class S, int V, class T>
struct Params {
  T values[V][S::kArrayOfParams];

  SNN_HD Params(const Scan<T>& call, int64 lane) {
    SNN_UNROLL
    for (int i = 0; i < S::kParams; ++i) {
      const Parameter<T>& p = call.params[i];
      const T shared = S::is_shared(i) ? *p.table : p.value;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        values[l][i] = S::is_table(i) ? parameter_at(p, lane + l) : shared;
      }
    }
  }

  SNN_HD const T* at(int l) const { return values[l]; }
};

// Sums over a thread's steps of the gradients of what may be a table: for each lane, but for all
// lanes together where they share the value.
template <class S, int V, class T>
class ParamSums {
 public:
  // Calls f with what the adjoint of lane l adds to.
  template <class F>
  SNN_HD T with(int l, const F& f) {
    copy_shared(shared_, sums_[l]);
    const T result = f(sums_[l]);
    copy_shared(sums_[l], shared_);
    return result;
  }

  // To arrays [L]: what lanes share goes to the first.
  SNN_HD void store_to(T* const* arrays, int64 lane) const {
    SNN_UNROLL
    for (int i = 0; i < S::kParams; ++i) {
      if (!(S::is_table(i) || S::is_shared(i)) || !arrays[i]) continue;
      Pack<T, V> row;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        row.lanes[l] = S::is_table(i) ? sums_[l][i] : l == 0 ? shared_[i] : T(0);
      }
      store(arrays[i] + lane, row);
    }
  }

 private:
  SNN_HD static void copy_shared(const T* from, T* to) {
    SNN_UNROLL
    for (int i = 0; i < S::kParams; ++i) {
      if (S::is_shared(i)) to[i] = from[i];
    }
  }

  T sums_[V][S::kArrayOfParams] = {}, shared_[S::kArrayOfParams] = {};
};

// What steps and adjoints are called with where the surrogate is switched. The kernels of one lane
// a thread can emit the primitive instead of spikes, the others only spikes.
template <class T, int V>
struct SwitchedFire {
  const Scan<T>& call;

  SNN_HD void note(T) const {}
  SNN_HD T spike(T u) const {
    if (V > 1 || call.spiking) return heaviside(u);
    return primitive(call.surrogate, u, call.surrogate_params[0], call.surrogate_params[1]);
  }
};

// The same, noting H for the walk back.
template <class T, int V>
struct NotingFire : SwitchedFire<T, V> {
  T& noted;

  SNN_HD void note(T h) const { noted = h; }
};

template <class T, int V>
struct NotedFire : SwitchedFire<T, V> {
  T noted, slope;

  template <class Compute>
  SNN_HD T h(const Compute&) const {
    return noted;
  }
  SNN_HD T gradient(T) const { return slope; }
};

// How the steps of a chunk and their adjoints fire, by S::Fire.
template <class S, int V, class T, class Fire = typename S::Fire>
class ChunkFire;

template <class S, int V, class T, class Surrogate>
class ChunkFire<S, V, T, Inline<Surrogate>> {
 public:
  static constexpr bool kStepsNote = false;

  SNN_HD explicit ChunkFire(const Scan<T>& call) : fire_(call.surrogate_params) {}

  SNN_HD const auto& of_step() const { return fire_; }
  SNN_HD const auto& of_step_again(int, int) const { return fire_; }
  SNN_HD void find_slopes(const Backward<T>&, const Params<S, V, T>&) const {}
  SNN_HD const auto& of_adjoint(int, int) const { return fire_; }

 private:
  const InlineFire<Surrogate, T> fire_;
};

template <class S, int V, class T>
class ChunkFire<S, V, T, Switched> {
 public:
  static constexpr bool kStepsNote = true;

  SNN_HD explicit ChunkFire(const Scan<T>& call) : call_(call) {}

  SNN_HD SwitchedFire<T, V> of_step() const { return {call_}; }
  SNN_HD NotingFire<T, V> of_step_again(int k, int l) { return {{call_}, h_[k][l]}; }
  SNN_HD NotedFire<T, V> of_adjoint(int k, int l) const {
    return {{call_}, h_[k][l], slopes_[k][l]};
  }

  // The surrogate's gradient at the u = H - v_threshold of every step of the chunk.
  SNN_HD void find_slopes(const Backward<T>& call, const Params<S, V, T>& params) {
    if (!meets_surrogate(call)) return;
    constexpr int N = batch_size(kChunk * V);
    SNN_UNROLL
    for (int first = 0; first < kChunk * V; first += N) {
      Batch<T, N> batch;
      SNN_UNROLL
      for (int i = 0; i < N; ++i) {
        const int k = (first + i) / V, l = (first + i) % V;
        batch.values[i] = h_[k][l] - params.at(l)[S::kThreshold];
      }
      batch = surrogate_gradients(call.surrogate, batch, call.surrogate_params[0],
                                  call.surrogate_params[1]);
      SNN_UNROLL
      for (int i = 0; i < N; ++i) slopes_[(first + i) / V][(first + i) % V] = batch.values[i];
    }
  }

 private:
  const Scan<T>& call_;
  T h_[kChunk][V] = {}, slopes_[kChunk][V] = {};
};

// The states of a thread's lanes from and to [S, L], where these begin.
template <int S, int V, class T>
SNN_HD void load_states(const T* from, int64 lanes, T (*states)[S]) {
  SNN_UNROLL
  for (int i = 0; i < S; ++i) {
    const Pack<T, V> row = load<V>(from + i * lanes);
    SNN_UNROLL
    for (int l = 0; l < V; ++l) states[l][i] = row.lanes[l];
  }
}

template <int S, int V, class T>
SNN_HD void store_states(const T (*states)[S], T* to, int64 lanes) {
  SNN_UNROLL
  for (int i = 0; i < S; ++i) {
    Pack<T, V> row;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) row.lanes[l] = states[l][i];
    store(to + i * lanes, row);
  }
}

// The states at the start of the first chunk.
template <int S, int V, class T>
SNN_HD void initial_states(const Scan<T>& call, int64 lane, T (*states)[S]) {
  if (call.states) return load_states<S, V>(call.states + lane, call.lanes, states);
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    SNN_UNROLL
    for (int i = 0; i < S; ++i) states[l][i] = call.initial[i];
  }
}

template <int S, int V, class T>
SNN_HD void copy_states(const T (*from)[S], T (*to)[S]) {
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    SNN_UNROLL
    for (int i = 0; i < S; ++i) to[l][i] = from[l][i];
  }
}

// Where a thread's lanes are at the steps of a chunk: at(k, sequence, stride), stride in elements.
// In a plain call (grid.h) sequences share one offset in bytes, for which 32 bits do: 64-bit ones
// of each, and asking what else is wanted, make half as many instructions again.
template <class E, bool kPlain>
struct Rows;

template <class E>
struct Rows<E, true> {
  using Step = int;

  SNN_HD Rows(int64 lanes, int64 lane, Step start)
      : row(static_cast<unsigned>(lanes * sizeof(E))),
        first(static_cast<unsigned>(start) * row + static_cast<unsigned>(lane * sizeof(E))) {}

  SNN_HD void move(int steps) { first += steps * row; }

  SNN_HD const E* at(int k, const void* sequence, int64) const {
    return reinterpret_cast<const E*>(static_cast<const char*>(sequence) + (first + k * row));
  }
  SNN_HD E* at(int k, void* sequence, int64) const {
    return reinterpret_cast<E*>(static_cast<char*>(sequence) + (first + k * row));
  }

  unsigned row, first;
};

template <class E>
struct Rows<E, false> {
  using Step = int64;

  SNN_HD Rows(int64, int64 at_lane, Step at_step) : lane(at_lane), start(at_step) {}

  SNN_HD void move(int steps) { start += steps; }

  SNN_HD const E* at(int k, const void* sequence, int64 stride) const {
    return static_cast<const E*>(sequence) + (lane + start * stride) + k * stride;
  }
  SNN_HD E* at(int k, void* sequence, int64 stride) const {
    return static_cast<E*>(sequence) + (lane + start * stride) + k * stride;
  }

  int64 lane, start;
};

// The sequence of one output, of those that lie one behind the other.
template <class E, class T>
SNN_HD const void* of_output(int i, const Scan<T>& call, const void* sequences, int64 stride) {
  return static_cast<const E*>(sequences) + i * call.steps * stride;
}
template <class E, class T>
SNN_HD void* of_output(int i, const Scan<T>& call, void* sequences, int64 stride) {
  return static_cast<E*>(sequences) + i * call.steps * stride;
}

// Whether step k of a chunk is none: only of one that is not whole.
template <bool kWhole>
SNN_HD bool is_behind(int k, int count) {
  return !kWhole && k >= count;
}

// The steps of a chunk that begins at `start`, of a call with more steps than that.
template <class Step>
SNN_HD int chunk_steps(Step start, Step steps) {
  return static_cast<int>(steps - start < kChunk ? steps - start : kChunk);
}

// Where the last chunk begins; before 0 where there is none.
template <class Step>
SNN_HD Step last_chunk(Step steps) {
  return steps > 0 ? (steps - 1) / kChunk * kChunk : -kChunk;
}

// Whether a thread of V lanes loads a chunk before it computes the one before: where threads are
// few nothing else hides how long it takes.
template <int V>
constexpr bool kLoadsAhead = V <= SNN_CUDA_AHEAD_LANES;

// One thread's lanes through all steps, first to last.
template <class S, class E, int V, bool kPlain, class T>
class ForwardLanes {
 public:
  SNN_HD ForwardLanes(const Forward<T>& call, int64 lane)
      : call_(call),
        lane_(lane),
        params_(call, lane),
        fire_(call),
        options_(S::options(call.options)),
        read_(call.lanes, lane, 0),
        written_(read_),
        checkpoint_(call.checkpoints ? call.checkpoints + lane : nullptr) {
    initial_states<kStates, V>(call, lane, state_);
  }

  SNN_HD void run() {
    const auto steps = static_cast<Step>(call_.steps);
    if (kLoadsAhead<V> && steps > 0) read<false>(chunk_steps<Step>(0, steps), ahead_);
    Step start = 0;
    for (; start + kChunk <= steps; start += kChunk) chunk<true>(start, kChunk);
    if (start < steps) chunk<false>(start, chunk_steps(start, steps));
    store_states<kStates, V>(state_, call_.final_states + lane_, call_.lanes);
  }

 private:
  static constexpr int kStates = S::kStates, kOutputs = S::kOutputs;
  using Rows = cuda::Rows<E, kPlain>;
  using Step = typename Rows::Step;

  struct Chunk {
    Pack<E, V> x[kChunk];
  };

  template <bool kWhole>
  SNN_HD void read(int count, Chunk& chunk) {
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (!is_behind<kWhole>(k, count)) chunk.x[k] = load<V>(read_.at(k, call_.x, call_.x_stride));
    }
    read_.move(kChunk);
  }

  template <bool kWhole>
  SNN_HD void chunk(Step start, int count) {
    save(start);
    Chunk chunk;
    if (kLoadsAhead<V>) {
      chunk = ahead_;
      const Step next = start + kChunk, steps = static_cast<Step>(call_.steps);
      if (next < steps) read<false>(chunk_steps(next, steps), ahead_);
    } else {
      read<kWhole>(count, chunk);
    }
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (!is_behind<kWhole>(k, count)) step(k, chunk.x[k]);
    }
    written_.move(kChunk);
  }

  // The states before each chunk but the first.
  SNN_HD void save(Step start) {
    if (!checkpoint_ || start == 0) return;
    store_states<kStates, V>(state_, checkpoint_, call_.lanes);
    checkpoint_ += kStates * call_.lanes;
  }

  SNN_HD void step(int k, const Pack<E, V>& x) {
    T out[kOutputs][V];
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      T of_lane[kOutputs];
      S::step(state_[l], Convert<E>::widen(x.lanes[l]), params_.at(l), options_, fire_.of_step(),
              of_lane);
      SNN_UNROLL
      for (int i = 0; i < kOutputs; ++i) out[i][l] = of_lane[i];
    }
    SNN_UNROLL
    for (int i = 0; i < kOutputs; ++i) {
      void* const spikes = of_output<E>(i, call_, call_.spikes, call_.lanes);
      store(written_.at(k, spikes, call_.lanes), narrow<E>(out[i]));
    }
    if (!kPlain && call_.v_seq) {
      T v[V];
      SNN_UNROLL
      for (int l = 0; l < V; ++l) v[l] = state_[l][0];
      store(written_.at(k, call_.v_seq, call_.lanes), narrow<E>(v));
    }
  }

  const Forward<T>& call_;
  const int64 lane_;
  const Params<S, V, T> params_;
  const ChunkFire<S, V, T> fire_;
  const Options options_;
  Rows read_, written_;  // of the chunk that comes next
  T* checkpoint_;
  T state_[V][kStates];
  Chunk ahead_;
};

// One thread's lanes through all steps, last to first.
template <class S, class E, int V, bool kPlain, class T>
class BackwardLanes {
 public:
  SNN_HD BackwardLanes(const Backward<T>& call, int64 lane)
      : call_(call),
        lane_(lane),
        params_(call, lane),
        options_(S::options(call.options)),
        read_(call.lanes, lane, last_chunk(static_cast<Step>(call.steps))),
        written_(read_),
        nothing_after_(!has_gradient_after(call)) {
    if (call.grad_states) load_states<kStates, V>(call.grad_states + lane, call.lanes, grad_state_);
  }

  SNN_HD void run() {
    const auto steps = static_cast<Step>(call_.steps);
    Step start = last_chunk(steps);
    if (start > 0) {
      checkpoint_ = call_.checkpoints + (start / kChunk - 1) * kStates * call_.lanes + lane_;
    }
    if (kLoadsAhead<V> && start >= 0) read<false>(start, chunk_steps(start, steps), ahead_);
    if (start >= 0 && steps - start < kChunk) {
      chunk<false>(start, chunk_steps(start, steps));
      start -= kChunk;
    }
    for (; start >= 0; start -= kChunk) chunk<true>(start, kChunk);
    if (call_.grad_initial) {
      store_states<kStates, V>(grad_state_, call_.grad_initial + lane_, call_.lanes);
    }
    sums_.store_to(call_.grad_params, lane_);
  }

 private:
  static constexpr int kStates = S::kStates, kOutputs = S::kOutputs;
  using Rows = cuda::Rows<E, kPlain>;
  using Step = typename Rows::Step;

  struct Chunk {
    Pack<E, V> x[kChunk], grad_spikes[kOutputs][kChunk], grad_v[kChunk];
    T state[V][kStates];  // before it
  };

  template <bool kWhole>
  SNN_HD void read(Step start, int count, Chunk& chunk) {
    if (start == 0) {
      initial_states<kStates, V>(call_, lane_, chunk.state);
    } else {
      load_states<kStates, V>(checkpoint_, call_.lanes, chunk.state);
      checkpoint_ -= kStates * call_.lanes;
    }
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (is_behind<kWhole>(k, count)) break;
      chunk.x[k] = load<V>(read_.at(k, call_.x, call_.x_stride));
      const int64 stride = call_.grad_spikes_stride;
      SNN_UNROLL
      for (int i = 0; i < kOutputs; ++i) {
        chunk.grad_spikes[i][k] = Pack<E, V>{};
        if (!kPlain && !call_.grad_spikes) continue;
        const void* const grads = of_output<E>(i, call_, call_.grad_spikes, stride);
        chunk.grad_spikes[i][k] = load<V>(read_.at(k, grads, stride));
      }
      if (!kPlain && call_.grad_v_seq) {
        chunk.grad_v[k] = load<V>(read_.at(k, call_.grad_v_seq, call_.grad_v_seq_stride));
      }
    }
    read_.move(-kChunk);
  }

  template <bool kWhole>
  SNN_HD void chunk(Step start, int count) {
    Chunk chunk;
    if (kLoadsAhead<V>) {
      chunk = ahead_;
      if (start > 0) read<true>(start - kChunk, kChunk, ahead_);
    } else {
      read<kWhole>(start, count, chunk);
    }
    ChunkFire<S, V, T> fire(call_);
    T state[kChunk + 1][V][kStates];
    copy_states<kStates, V>(chunk.state, state[0]);
    constexpr int kNotAgain = fire.kStepsNote ? 0 : 1;  // nobody asks for the last states
    SNN_UNROLL
    for (int k = 0; k < kChunk - kNotAgain; ++k) {
      if (is_behind<kWhole>(k + kNotAgain, count)) break;
      copy_states<kStates, V>(state[k], state[k + 1]);
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        T outputs[kOutputs];
        S::step(state[k + 1][l], Convert<E>::widen(chunk.x[k].lanes[l]), params_.at(l), options_,
                fire.of_step_again(k, l), outputs);
      }
    }
    fire.find_slopes(call_, params_);

    SNN_UNROLL
    for (int k = kChunk - 1; k >= 0; --k) {
      if (is_behind<kWhole>(k, count)) continue;
      const bool last = kWhole ? k == kChunk - 1 : k == count - 1;
      Options options = options_;
      options.detach_reset |= last && nothing_after_;
      walk_back(k, chunk, state[k], fire, options);
    }
    written_.move(-kChunk);
    nothing_after_ = false;
  }

  SNN_HD void walk_back(int k, const Chunk& chunk, const T (*before)[kStates],
                        const ChunkFire<S, V, T>& fire, const Options& options) {
    T grad_x[V];
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      if (!kPlain && call_.grad_v_seq) {
        grad_state_[l][0] += Convert<E>::widen(chunk.grad_v[k].lanes[l]);
      }
      const T in = Convert<E>::widen(chunk.x[k].lanes[l]);
      T grad_out[kOutputs];
      SNN_UNROLL
      for (int i = 0; i < kOutputs; ++i) {
        grad_out[i] = Convert<E>::widen(chunk.grad_spikes[i][k].lanes[l]);
      }
      grad_x[l] = sums_.with(l, [&](T* sums) {
        return S::adjoint(before[l], in, params_.at(l), options, fire.of_adjoint(k, l), grad_out,
                          grad_state_[l], sums);
      });
    }
    store(written_.at(k, call_.grad_x, call_.lanes), narrow<E>(grad_x));
  }

  const Backward<T>& call_;
  const int64 lane_;
  const Params<S, V, T> params_;
  const Options options_;
  Rows read_, written_;  // of the chunk that comes next
  bool nothing_after_;   // the chunk: neither steps nor gradients
  const T* checkpoint_;
  T grad_state_[V][kStates] = {};
  ParamSums<S, V, T> sums_;
  Chunk ahead_;
};

// Blocks that fit a multiprocessor at least, which bounds a thread's registers: where a surrogate
// or a table's place is a call the compiler, left to itself, aims at more blocks, and spills.
template <class T>
constexpr int kLeastBlocks = SNN_CUDA_BLOCKS * sizeof(float) / sizeof(T);
template <class S, class T>
constexpr int least_blocks() {
  return ChunkFire<S, 1, T>::kStepsNote || S::kTables != 0 ? kLeastBlocks<T> : 0;
}

template <int V>
__device__ __forceinline__ int64 first_lane() {
  return (static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
}

template <class S, class E, int V, bool kPlain, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, least_blocks<S, T>())
    forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) ForwardLanes<S, E, V, kPlain, T>(call, lane).run();
}

template <class S, class E, int V, bool kPlain, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, least_blocks<S, T>())
    backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) BackwardLanes<S, E, V, kPlain, T>(call, lane).run();
}

// One lane of any neuron, for what the kernels above do not take.
template <class E, class T>
SNN_HD void forward_lane(const Forward<T>& call, int64 lane) {
  with_neuron(call, [&](auto neuron) {
    using Traits = ScanTraits<decltype(neuron), Switched, kAllTables>;
    ForwardLanes<Traits, E, 1, false, T>(call, lane).run();
  });
}

template <class E, class T>
SNN_HD void backward_lane(const Backward<T>& call, int64 lane) {
  with_neuron(call, [&](auto neuron) {
    using Traits = ScanTraits<decltype(neuron), Switched, kAllTables>;
    BackwardLanes<Traits, E, 1, false, T>(call, lane).run();
  });
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, kLeastBlocks<T>)
    general_forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) forward_lane<E>(call, lane);
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, kLeastBlocks<T>)
    general_backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) backward_lane<E>(call, lane);
}

}  // namespace snn::cuda
