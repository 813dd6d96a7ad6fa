// The chunked scan on a GPU: each thread owns V adjacent lanes and walks T in chunks of K steps,
// with the chunk's loads issued before any arithmetic. Neither shared memory, nor barriers, nor
// atomics.
#pragma once

#include "elements.cuh"
#include "snnkernels/scan.h"

namespace snn::cuda {

constexpr int kChunk = SNN_CUDA_CHUNK;

// One copy of each for all the kernels of a unit: inlined at every step they would be most of the
// code, and a call costs three instructions.
template <class T>
__host__ __device__ __noinline__ T surrogate_gradient(SurrogateId id, T u, T p0, T p1) {
  const T p[kSurrogateParams] = {p0, p1};
  return with_surrogate(id, [&](auto surrogate) { return decltype(surrogate)::gradient(u, p); });
}

template <class T>
__host__ __device__ __noinline__ T emit(bool spiking, SurrogateId id, T u, T p0, T p1) {
  if (spiking) return u >= T(0) ? T(1) : T(0);
  const T p[kSurrogateParams] = {p0, p1};
  return with_surrogate(id, [&](auto surrogate) { return decltype(surrogate)::primitive(u, p); });
}

// The kernels of one lane a thread can emit the primitive instead of spikes, the others only
// spikes.
template <class T, int V>
struct Fire {
  const Scan<T>& call;

  SNN_HD T spike(T u) const {
    if (V > 1) return u >= T(0) ? T(1) : T(0);
    return emit(call.spiking, call.surrogate, u, call.surrogate_params[0],
                call.surrogate_params[1]);
  }
  SNN_HD T gradient(T u) const {
    return surrogate_gradient(call.surrogate, u, call.surrogate_params[0],
                              call.surrogate_params[1]);
  }
};

// Fire, noting u for the walk back.
template <class T, int V>
struct NotingFire : Fire<T, V> {
  T& noted;

  SNN_HD T spike(T u) const {
    noted = u;
    return Fire<T, V>::spike(u);
  }
};

template <class T, int V>
struct NotedFire : Fire<T, V> {
  T noted;

  template <class Compute>
  SNN_HD T u(const Compute&) const {
    return noted;
  }
};

// Parameter::at, with a 32-bit division where it will do. Not inlined, for divisions are long.
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

// The parameters of a thread's lanes: each lane its own, or numbers for all.
template <class Neuron, class T, int V, bool kTables>
struct Params {
  static constexpr int kRows = kTables ? V : 1;
  T values[kRows][Neuron::kParams];

  SNN_HD Params(const Scan<T>& call, int64 lane) {
    SNN_UNROLL
    for (int l = 0; l < kRows; ++l) {
      SNN_UNROLL
      for (int i = 0; i < Neuron::kParams; ++i) {
        values[l][i] = kTables ? parameter_at(call.params[i], lane + l) : call.params[i].value;
      }
    }
  }

  SNN_HD const T* at(int l) const { return values[kTables ? l : 0]; }
};

// The states of a thread's lanes from and to [S, L].
template <int S, int V, class T>
SNN_HD void load_states(const T* from, int64 lanes, int64 lane, T (*states)[S]) {
  SNN_UNROLL
  for (int i = 0; i < S; ++i) {
    const Pack<T, V> row = load<V>(from + i * lanes + lane);
    SNN_UNROLL
    for (int l = 0; l < V; ++l) states[l][i] = row.lanes[l];
  }
}

template <int S, int V, class T>
SNN_HD void store_states(const T (*states)[S], T* to, int64 lanes, int64 lane) {
  SNN_UNROLL
  for (int i = 0; i < S; ++i) {
    Pack<T, V> row;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) row.lanes[l] = states[l][i];
    store<V>(to + i * lanes + lane, row);
  }
}

// The states at the start of the first chunk.
template <int S, int V, class T>
SNN_HD void initial_states(const Scan<T>& call, int64 lane, T (*states)[S]) {
  if (call.states) return load_states<S, V>(call.states, call.lanes, lane, states);
  SNN_UNROLL
  for (int l = 0; l < V; ++l) {
    SNN_UNROLL
    for (int i = 0; i < S; ++i) states[l][i] = call.initial[i];
  }
}

// Where the states at the start of the chunk that begins with step `start` > 0 are kept.
template <int S>
SNN_HD int64 checkpoint_offset(int64 start, int64 lanes) {
  return (start / kChunk - 1) * S * lanes;
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

template <class Neuron, class Reset, class E, int V, class T>
SNN_HD void forward_lanes(const Forward<T>& call, int64 lane) {
  constexpr int S = Neuron::kStates;
  const Params<Neuron, T, V, true> params(call, lane);
  const Fire<T, V> fire{call};
  T state[V][S];
  initial_states<S, V>(call, lane, state);

  for (int64 start = 0; start < call.steps; start += kChunk) {
    const int64 left = call.steps - start;
    const int count = static_cast<int>(left < kChunk ? left : kChunk);
    if (call.checkpoints && start > 0) {
      store_states<S, V>(state, call.checkpoints + checkpoint_offset<S>(start, call.lanes),
                         call.lanes, lane);
    }
    Pack<E, V> x[kChunk];
    load_chunk<V>(static_cast<const E*>(call.x) + start * call.x_stride + lane, call.x_stride,
                  count, x);
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (k >= count) break;
      Pack<E, V> out, v;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        const T in = Convert<E>::widen(x[k].lanes[l]);
        const T spike =
            Neuron::template step<Reset>(state[l], in, params.at(l), call.options, fire);
        out.lanes[l] = Convert<E>::narrow(spike);
        v.lanes[l] = Convert<E>::narrow(state[l][0]);
      }
      const int64 offset = (start + k) * call.lanes + lane;
      store<V>(static_cast<E*>(call.spikes) + offset, out);
      if (call.v_seq) store<V>(static_cast<E*>(call.v_seq) + offset, v);
    }
  }
  store_states<S, V>(state, call.final_states, call.lanes, lane);
}

template <class Neuron, class Reset, class E, int V, bool kTables, class T>
SNN_HD void backward_lanes(const Backward<T>& call, int64 lane) {
  constexpr int S = Neuron::kStates, P = Neuron::kParams;
  const Params<Neuron, T, V, kTables> params(call, lane);
  T grad_state[V][S] = {}, grad_params[V][P] = {};
  if (call.grad_states) load_states<S, V>(call.grad_states, call.lanes, lane, grad_state);

  for (int64 start, end = call.steps; end > 0; end = start) {
    start = (end - 1) / kChunk * kChunk;
    const int count = static_cast<int>(end - start);
    Pack<E, V> x[kChunk], grad_spikes[kChunk] = {};
    T state[kChunk + 1][V][S], u[kChunk][V];
    load_chunk<V>(static_cast<const E*>(call.x) + start * call.x_stride + lane, call.x_stride,
                  count, x);
    if (call.grad_spikes) {
      const int64 stride = call.grad_spikes_stride;
      load_chunk<V>(static_cast<const E*>(call.grad_spikes) + start * stride + lane, stride, count,
                    grad_spikes);
    }
    if (start == 0) {
      initial_states<S, V>(call, lane, state[0]);
    } else {
      load_states<S, V>(call.checkpoints + checkpoint_offset<S>(start, call.lanes), call.lanes,
                        lane, state[0]);
    }

    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (k >= count) break;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        SNN_UNROLL
        for (int i = 0; i < S; ++i) state[k + 1][l][i] = state[k][l][i];
        const T in = Convert<E>::widen(x[k].lanes[l]);
        const NotingFire<T, V> fire{{call}, u[k][l]};
        Neuron::template step<Reset>(state[k + 1][l], in, params.at(l), call.options, fire);
      }
    }

    SNN_UNROLL
    for (int k = kChunk - 1; k >= 0; --k) {
      if (k >= count) continue;
      if (call.grad_v_seq) {
        const int64 offset = (start + k) * call.grad_v_seq_stride + lane;
        const auto grad_v = load<V>(static_cast<const E*>(call.grad_v_seq) + offset);
        SNN_UNROLL
        for (int l = 0; l < V; ++l) grad_state[l][0] += Convert<E>::widen(grad_v.lanes[l]);
      }
      Pack<E, V> out;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        const T in = Convert<E>::widen(x[k].lanes[l]);
        const T grad_out = Convert<E>::widen(grad_spikes[k].lanes[l]);
        const NotedFire<T, V> fire{{call}, u[k][l]};
        out.lanes[l] = Convert<E>::narrow(
            Neuron::template adjoint<Reset>(state[k][l], in, params.at(l), call.options, fire,
                                            grad_out, grad_state[l], grad_params[l]));
      }
      store<V>(static_cast<E*>(call.grad_x) + (start + k) * call.lanes + lane, out);
    }
  }

  if (call.grad_initial) store_states<S, V>(grad_state, call.grad_initial, call.lanes, lane);
  if constexpr (kTables) {
    SNN_UNROLL
    for (int i = 0; i < P; ++i) {
      if (!call.grad_params[i]) continue;
      Pack<T, V> sums;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) sums.lanes[l] = grad_params[l][i];
      store<V>(call.grad_params[i] + lane, sums);
    }
  }
}

template <int V>
__device__ __forceinline__ int64 first_lane() {
  return (static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x) * V;
}

template <class Neuron, class Reset, class E, int V, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) forward_lanes<Neuron, Reset, E, V>(call, lane);
}

template <class Neuron, class Reset, class E, int V, bool kTables, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, SNN_CUDA_BLOCKS * sizeof(float) / sizeof(T))
    backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) backward_lanes<Neuron, Reset, E, V, kTables>(call, lane);
}

// One lane of any neuron, for what the kernels above do not take.
template <class E, class T>
SNN_HD void forward_lane(const Forward<T>& call, int64 lane) {
  with_neuron(call.neuron, [&](auto neuron) {
    using Neuron = decltype(neuron);
    if (call.hard_reset) {
      forward_lanes<Neuron, HardReset, E, 1>(call, lane);
    } else {
      forward_lanes<Neuron, SoftReset, E, 1>(call, lane);
    }
  });
}

template <class E, class T>
SNN_HD void backward_lane(const Backward<T>& call, int64 lane) {
  with_neuron(call.neuron, [&](auto neuron) {
    using Neuron = decltype(neuron);
    if (call.hard_reset) {
      backward_lanes<Neuron, HardReset, E, 1, true>(call, lane);
    } else {
      backward_lanes<Neuron, SoftReset, E, 1, true>(call, lane);
    }
  });
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, SNN_CUDA_BLOCKS * sizeof(float) / sizeof(T))
    general_forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) forward_lane<E>(call, lane);
}

template <class E, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS, SNN_CUDA_BLOCKS * sizeof(float) / sizeof(T))
    general_backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<1>();
  if (lane < call.lanes) backward_lane<E>(call, lane);
}

}  // namespace snn::cuda
