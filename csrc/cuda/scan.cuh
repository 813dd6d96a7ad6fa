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

// The parameters of a thread's lanes: of what may be a table each lane its own, else a number. S is
// ScanTraits.
template <class S, int V, class T>
struct Params {
  T values[V][S::kArrayOfParams];

  SNN_HD Params(const Scan<T>& call, int64 lane) {
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      SNN_UNROLL
      for (int i = 0; i < S::kParams; ++i) {
        const Parameter<T>& p = call.params[i];
        values[l][i] = S::is_table(i) ? parameter_at(p, lane + l) : p.value;
      }
    }
  }

  SNN_HD const T* at(int l) const { return values[l]; }
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
    store<V>(to + i * lanes, row);
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

// How many of the chunk's steps there are that begins at step `start`.
SNN_HD int chunk_steps(int64 start, int64 steps) {
  return static_cast<int>(steps - start < kChunk ? steps - start : kChunk);
}

// The first `count` steps of the chunk that begins at `from`; the others zero.
template <int V, class E>
SNN_HD void load_chunk(const E* from, int64 stride, int count, Pack<E, V>* chunk) {
  SNN_UNROLL
  for (int k = 0; k < kChunk; ++k) {
    chunk[k] = k < count ? load<V>(from) : Pack<E, V>{};
    from += stride;
  }
}

// Where a thread's lanes of a sequence are; null where there is none.
template <class E>
SNN_HD const E* lanes_of(const void* sequence, int64 offset) {
  return sequence ? static_cast<const E*>(sequence) + offset : nullptr;
}
template <class E>
SNN_HD E* lanes_of(void* sequence, int64 offset) {
  return sequence ? static_cast<E*>(sequence) + offset : nullptr;
}

// Whether a thread of V lanes loads a chunk before it computes the one before: where threads are
// few nothing else hides how long it takes.
template <int V>
constexpr bool kLoadsAhead = V <= SNN_CUDA_AHEAD_LANES;

// What a forward kernel reads of a chunk.
template <class E, int V>
struct ForwardChunk {
  Pack<E, V> x[kChunk];
};

// Reads a thread's chunks, first to last. Of all sequences threads keep where they are: to find
// each row anew by its step would be most of their arithmetic.
template <class E, int V, class T>
class ForwardReader {
 public:
  SNN_HD ForwardReader(const Forward<T>& call, int64 lane)
      : call_(call), x_(lanes_of<E>(call.x, lane)) {
    if (kLoadsAhead<V> && call.steps > 0) read(0, ahead_);
  }

  SNN_HD void next(int64 start, ForwardChunk<E, V>& chunk) {
    if (!kLoadsAhead<V>) return read(start, chunk);
    chunk = ahead_;
    if (start + kChunk < call_.steps) read(start + kChunk, ahead_);
  }

 private:
  SNN_HD void read(int64 start, ForwardChunk<E, V>& chunk) {
    load_chunk<V>(x_, call_.x_stride, chunk_steps(start, call_.steps), chunk.x);
    x_ += kChunk * call_.x_stride;
  }

  const Forward<T>& call_;
  const E* x_;
  ForwardChunk<E, V> ahead_;
};

// Writes what a thread's steps come to, first to last.
template <class E, int V, int S, int O, class T>
class ForwardWriter {
 public:
  SNN_HD ForwardWriter(const Forward<T>& call, int64 lane)
      : call_(call),
        spikes_(lanes_of<E>(call.spikes, lane)),
        v_seq_(lanes_of<E>(call.v_seq, lane)),
        checkpoints_(lanes_of<T>(call.checkpoints, lane)) {}

  // The states before each chunk but the first.
  SNN_HD void checkpoint(int64 start, const T (*state)[S]) {
    if (!call_.checkpoints || start == 0) return;
    store_states<S, V>(state, checkpoints_, call_.lanes);
    checkpoints_ += S * call_.lanes;
  }

  SNN_HD void write(const Pack<E, V> (&out)[O], const T (*state)[S]) {
    SNN_UNROLL
    for (int i = 0; i < O; ++i) store<V>(spikes_ + i * call_.steps * call_.lanes, out[i]);
    spikes_ += call_.lanes;
    if (!call_.v_seq) return;
    Pack<E, V> v;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) v.lanes[l] = Convert<E>::narrow(state[l][0]);
    store<V>(v_seq_, v);
    v_seq_ += call_.lanes;
  }

 private:
  const Forward<T>& call_;
  E *spikes_, *v_seq_;
  T* checkpoints_;
};

template <class S, class E, int V, class T>
SNN_HD void forward_lanes(const Forward<T>& call, int64 lane) {
  constexpr int kStates = S::kStates, kOutputs = S::kOutputs;
  const Params<S, V, T> params(call, lane);
  const ChunkFire<S, V, T> fire(call);
  ForwardReader<E, V, T> reader(call, lane);
  ForwardWriter<E, V, kStates, kOutputs, T> writer(call, lane);
  ForwardChunk<E, V> chunk;
  T state[V][kStates];
  initial_states<kStates, V>(call, lane, state);

  for (int64 start = 0; start < call.steps; start += kChunk) {
    const int count = chunk_steps(start, call.steps);
    writer.checkpoint(start, state);
    reader.next(start, chunk);
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (k >= count) break;
      Pack<E, V> out[kOutputs];
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        const T in = Convert<E>::widen(chunk.x[k].lanes[l]);
        T outputs[kOutputs];
        S::step(state[l], in, params.at(l), call.options, fire.of_step(), outputs);
        SNN_UNROLL
        for (int i = 0; i < kOutputs; ++i) out[i].lanes[l] = Convert<E>::narrow(outputs[i]);
      }
      writer.write(out, state);
    }
  }
  store_states<kStates, V>(state, call.final_states + lane, call.lanes);
}

// What a backward kernel reads of a chunk; the states are those before it.
template <class E, int V, int S, int O, class T>
struct BackwardChunk {
  Pack<E, V> x[kChunk], grad_spikes[O][kChunk] = {};
  T state[V][S];
};

SNN_HD int64 last_chunk(int64 steps) {
  return (steps - 1) / kChunk * kChunk;
}

// Reads a thread's chunks, last to first.
template <class E, int V, int S, int O, class T>
class BackwardReader {
 public:
  using Chunk = BackwardChunk<E, V, S, O, T>;

  SNN_HD BackwardReader(const Backward<T>& call, int64 lane) : call_(call), lane_(lane) {
    const int64 start = last_chunk(call.steps);
    x_ = lanes_of<E>(call.x, start * call.x_stride + lane);
    grad_spikes_ = lanes_of<E>(call.grad_spikes, start * call.grad_spikes_stride + lane);
    checkpoints_ = lanes_of<T>(call.checkpoints, (start / kChunk - 1) * S * call.lanes + lane);
    if (kLoadsAhead<V> && call.steps > 0) read(start, ahead_);
  }

  SNN_HD void next(int64 start, Chunk& chunk) {
    if (!kLoadsAhead<V>) return read(start, chunk);
    chunk = ahead_;
    if (start > 0) read(start - kChunk, ahead_);
  }

 private:
  SNN_HD void read(int64 start, Chunk& chunk) {
    const int count = chunk_steps(start, call_.steps);
    load_chunk<V>(x_, call_.x_stride, count, chunk.x);
    x_ -= kChunk * call_.x_stride;
    if (call_.grad_spikes) {
      const int64 stride = call_.grad_spikes_stride;
      SNN_UNROLL
      for (int i = 0; i < O; ++i) {
        load_chunk<V>(grad_spikes_ + i * call_.steps * stride, stride, count, chunk.grad_spikes[i]);
      }
      grad_spikes_ -= kChunk * stride;
    }
    if (start == 0) {
      initial_states<S, V>(call_, lane_, chunk.state);
    } else {
      load_states<S, V>(checkpoints_, call_.lanes, chunk.state);
      checkpoints_ -= S * call_.lanes;
    }
  }

  const Backward<T>& call_;
  const int64 lane_;
  const E *x_, *grad_spikes_;
  const T* checkpoints_;
  Chunk ahead_;
};

// The gradients of v_seq and of x at a thread's steps, last to first.
template <class E, int V, int S, class T>
class StepGradients {
 public:
  SNN_HD StepGradients(const Backward<T>& call, int64 lane) : call_(call) {
    const int64 last = call.steps - 1;
    grad_v_seq_ = lanes_of<E>(call.grad_v_seq, last * call.grad_v_seq_stride + lane);
    grad_x_ = lanes_of<E>(call.grad_x, last * call.lanes + lane);
  }

  SNN_HD void add_to(T (*grad_state)[S]) {
    if (!call_.grad_v_seq) return;
    const auto grad_v = load<V>(grad_v_seq_);
    grad_v_seq_ -= call_.grad_v_seq_stride;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) grad_state[l][0] += Convert<E>::widen(grad_v.lanes[l]);
  }

  SNN_HD void write(const Pack<E, V>& grad_x) {
    store<V>(grad_x_, grad_x);
    grad_x_ -= call_.lanes;
  }

 private:
  const Backward<T>& call_;
  const E* grad_v_seq_;
  E* grad_x_;
};

template <int S, int V, class T>
SNN_HD void copy_states(const T (*from)[S], T (*to)[S]) {
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    SNN_UNROLL
    for (int i = 0; i < S; ++i) to[l][i] = from[l][i];
  }
}

template <class S, class E, int V, class T>
SNN_HD void backward_lanes(const Backward<T>& call, int64 lane) {
  constexpr int kStates = S::kStates, kOutputs = S::kOutputs;
  const Params<S, V, T> params(call, lane);
  BackwardReader<E, V, kStates, kOutputs, T> reader(call, lane);
  StepGradients<E, V, kStates, T> gradients(call, lane);
  BackwardChunk<E, V, kStates, kOutputs, T> chunk;
  T grad_state[V][kStates] = {}, grad_params[V][S::kArrayOfParams] = {};
  if (call.grad_states) load_states<kStates, V>(call.grad_states + lane, call.lanes, grad_state);

  for (int64 start = last_chunk(call.steps); start >= 0 && call.steps > 0; start -= kChunk) {
    const int count = chunk_steps(start, call.steps);
    reader.next(start, chunk);
    ChunkFire<S, V, T> fire(call);
    T state[kChunk + 1][V][kStates];
    copy_states<kStates, V>(chunk.state, state[0]);
    constexpr int kNotAgain = fire.kStepsNote ? 0 : 1;  // nobody asks for the last states
    SNN_UNROLL
    for (int k = 0; k < kChunk - kNotAgain; ++k) {
      if (k + kNotAgain >= count) break;
      copy_states<kStates, V>(state[k], state[k + 1]);
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        const T in = Convert<E>::widen(chunk.x[k].lanes[l]);
        T outputs[kOutputs];
        S::step(state[k + 1][l], in, params.at(l), call.options, fire.of_step_again(k, l), outputs);
      }
    }
    fire.find_slopes(call, params);

    SNN_UNROLL
    for (int k = kChunk - 1; k >= 0; --k) {
      if (k >= count) continue;
      gradients.add_to(grad_state);
      const Options options = options_at(call, start + k);
      Pack<E, V> grad_x;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        const T in = Convert<E>::widen(chunk.x[k].lanes[l]);
        T grad_out[kOutputs];
        SNN_UNROLL
        for (int i = 0; i < kOutputs; ++i) {
          grad_out[i] = Convert<E>::widen(chunk.grad_spikes[i][k].lanes[l]);
        }
        grad_x.lanes[l] = Convert<E>::narrow(S::adjoint(state[k][l], in, params.at(l), options,
                                                        fire.of_adjoint(k, l), grad_out,
                                                        grad_state[l], grad_params[l]));
      }
      gradients.write(grad_x);
    }
  }

  if (call.grad_initial) store_states<kStates, V>(grad_state, call.grad_initial + lane, call.lanes);
  SNN_UNROLL
  for (int i = 0; i < S::kParams; ++i) {
    if (!S::is_table(i) || !call.grad_params[i]) continue;
    Pack<T, V> sums;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) sums.lanes[l] = grad_params[l][i];
    store<V>(call.grad_params[i] + lane, sums);
  }
}

// Blocks that fit a multiprocessor at least, which bounds a thread's registers: with a surrogate
// that is called the compiler, left to itself, aims at more blocks, and spills.
template <class T>
constexpr int least_blocks(bool tables) {
  return (tables ? SNN_CUDA_TABLE_BLOCKS : SNN_CUDA_BLOCKS) * sizeof(float) / sizeof(T);
}
template <class S, class T>
constexpr int least_blocks() {
  return ChunkFire<S, 1, T>::kStepsNote ? least_blocks<T>(S::kTables != 0) : 0;
}

template <int V>
__device__ __forceinline__ int64 first_lane() {
  return (static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
}

template <class S, class E, int V, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) forward_lanes<S, E, V>(call, lane);
}

template <class S, class E, int V, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, least_blocks<S, T>())
    backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) backward_lanes<S, E, V>(call, lane);
}

// One lane of any neuron, for what the kernels above do not take.
template <class E, class T>
SNN_HD void forward_lane(const Forward<T>& call, int64 lane) {
  with_neuron(call, [&](auto neuron) {
    forward_lanes<ScanTraits<decltype(neuron), Switched, kAllTables>, E, 1>(call, lane);
  });
}

template <class E, class T>
SNN_HD void backward_lane(const Backward<T>& call, int64 lane) {
  with_neuron(call, [&](auto neuron) {
    backward_lanes<ScanTraits<decltype(neuron), Switched, kAllTables>, E, 1>(call, lane);
  });
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, least_blocks<T>(true))
    general_forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) forward_lane<E>(call, lane);
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, least_blocks<T>(true))
    general_backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) backward_lane<E>(call, lane);
}

}  // namespace snn::cuda
