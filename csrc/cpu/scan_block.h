// The chunked scan on a CPU: blocks of lanes, time outside, lanes inside so that they vectorise.
#pragma once

#include "kernels.h"

namespace snn::cpu::SNN_CPU_ISA {

constexpr int kLanes = SNN_CPU_LANES;
constexpr int kChunk = SNN_CPU_CHUNK;

// The step function alone: what a forward pass needs.
template <class T>
struct Heaviside {
  T spike(T u) const { return u >= T(0) ? T(1) : T(0); }
};

// The step function, noting u for the surrogate to work on a whole block at once.
template <class T>
struct Noted {
  T* u;
  T spike(T value) const {
    *u = value;
    return value >= T(0) ? T(1) : T(0);
  }
};

// The step function with a gradient computed beforehand.
template <class T>
struct WithGradient {
  T slope;
  T spike(T u) const { return u >= T(0) ? T(1) : T(0); }
  T gradient(T) const { return slope; }
};

// Output and gradient both computed beforehand.
template <class T>
struct Precomputed {
  T output;
  T slope;
  T spike(T) const { return output; }
  T gradient(T) const { return slope; }
};

template <int N, class T>
inline __attribute__((always_inline)) void gather(const T (*rows)[kLanes], int l, T* out) {
  for (int i = 0; i < N; ++i) out[i] = rows[i][l];
}

template <int N, class T>
inline __attribute__((always_inline)) void scatter(const T* in, int l, T (*rows)[kLanes]) {
  for (int i = 0; i < N; ++i) rows[i][l] = in[i];
}

// The parameters of a block: one row each where any is a table, else numbers.
template <class Neuron, class T, bool kTables>
struct BlockParams {
  T rows[kTables ? Neuron::kParams : 1][kLanes];
  T numbers[Neuron::kParams];

  BlockParams(const Scan<T>& call, int64 lane, int count) {
    for (int i = 0; i < Neuron::kParams; ++i) {
      numbers[i] = call.params[i].value;
      if (kTables) {
        for (int l = 0; l < count; ++l) rows[i][l] = call.params[i].at(lane + l);
      }
    }
  }

  inline __attribute__((always_inline)) void at(int l, T* p) const {
    for (int i = 0; i < Neuron::kParams; ++i) p[i] = kTables ? rows[i][l] : numbers[i];
  }
};

template <class T>
inline void initial_states(const Scan<T>& call, int states, int64 lane, int count,
                           T (*rows)[kLanes]) {
  for (int i = 0; i < states; ++i) {
    for (int l = 0; l < count; ++l) {
      rows[i][l] = call.states ? call.states[i * call.lanes + lane + l] : call.initial[i];
    }
  }
}

// Rows of states to or from a [S, L] array.
template <int N, class T>
inline void save_states(const T (*rows)[kLanes], T* out, int64 lanes, int64 lane, int count) {
  for (int i = 0; i < N; ++i) {
    for (int l = 0; l < count; ++l) out[i * lanes + lane + l] = rows[i][l];
  }
}

template <int N, class T>
inline void read_states(const T* in, int64 lanes, int64 lane, int count, T (*rows)[kLanes]) {
  for (int i = 0; i < N; ++i) {
    for (int l = 0; l < count; ++l) rows[i][l] = in ? in[i * lanes + lane + l] : T(0);
  }
}

// One step of all lanes of a block, from the states before to the states after (which may be the
// same). fire_at(l) gives lane l its fire, out(l, spike) takes its output.
template <class Neuron, class Reset, class T, bool kTables, class FireAt, class Out>
inline __attribute__((always_inline)) void step_block(const Scan<T>& call,
                                                      const BlockParams<Neuron, T, kTables>& params,
                                                      const T* x, const T (*before)[kLanes],
                                                      T (*after)[kLanes], int count, FireAt fire_at,
                                                      Out out) {
  const Options options = call.options;
#pragma omp simd
  for (int l = 0; l < count; ++l) {
    T state[Neuron::kStates], p[Neuron::kParams];
    gather<Neuron::kStates>(before, l, state);
    params.at(l, p);
    out(l, Neuron::template step<Reset>(state, x[l], p, options, fire_at(l)));
    scatter<Neuron::kStates>(state, l, after);
  }
}

template <class Neuron, class Reset, bool kTables, class T>
void forward_block(const Forward<T>& call, int64 lane, int count) {
  alignas(64) T state[Neuron::kStates][kLanes], next[Neuron::kStates][kLanes];
  alignas(64) T x_buffer[kLanes], spike_buffer[kLanes];
  const BlockParams<Neuron, T, kTables> params(call, lane, count);
  initial_states(call, Neuron::kStates, lane, count, state);

  for (int64 t = 0; t < call.steps; ++t) {
    if (call.checkpoints && t > 0 && t % kChunk == 0) {
      T* out = call.checkpoints + (t / kChunk - 1) * Neuron::kStates * call.lanes;
      save_states<Neuron::kStates>(state, out, call.lanes, lane, count);
    }
    const T* x = load_row(call.element, call.x, t * call.x_stride + lane, x_buffer, count);
    T* spikes = output_row(call.element, call.spikes, t * call.lanes + lane, spike_buffer);
    const auto write = [&](int l, T spike) { spikes[l] = spike; };
    if (call.spiking) {
      const auto heaviside = [](int) { return Heaviside<T>{}; };
      step_block<Neuron, Reset, T, kTables>(call, params, x, state, state, count, heaviside, write);
    } else {
      alignas(64) T u[kLanes];
      step_block<Neuron, Reset, T, kTables>(
          call, params, x, state, next, count, [&](int l) { return Noted<T>{u + l}; },
          [](int, T) {});
      surrogate_primitive(call.surrogate, call.surrogate_params, u, count);
      step_block<Neuron, Reset, T, kTables>(
          call, params, x, state, state, count,
          [&](int l) { return Precomputed<T>{u[l], T(0)}; }, write);
    }
    store_row(call.element, call.spikes, t * call.lanes + lane, spikes, count);
    if (call.v_seq) {
      T* v = output_row(call.element, call.v_seq, t * call.lanes + lane, spike_buffer);
      for (int l = 0; l < count; ++l) v[l] = state[0][l];
      store_row(call.element, call.v_seq, t * call.lanes + lane, v, count);
    }
  }
  save_states<Neuron::kStates>(state, call.final_states, call.lanes, lane, count);
}

// What the backward pass recomputes of one chunk, in the caches.
template <class Neuron, class T>
struct ChunkMemory {
  alignas(64) T states[kChunk + 1][Neuron::kStates][kLanes];
  alignas(64) T slope[kChunk][kLanes];    // u, then the surrogate's gradient
  alignas(64) T output[kChunk][kLanes];   // the primitive, where it is the output
  alignas(64) T x_buffer[kChunk][kLanes];
  const T* x[kChunk];
};

template <class Neuron, class Reset, bool kTables, class T>
void recompute_chunk(const Backward<T>& call, const BlockParams<Neuron, T, kTables>& params,
                     ChunkMemory<Neuron, T>& chunk, int64 start, int steps, int64 lane, int count) {
  for (int k = 0; k < steps; ++k) {
    const int64 offset = (start + k) * call.x_stride + lane;
    chunk.x[k] = load_row(call.element, call.x, offset, chunk.x_buffer[k], count);
    T* u = chunk.slope[k];
    step_block<Neuron, Reset, T, kTables>(
        call, params, chunk.x[k], chunk.states[k], chunk.states[k + 1], count,
        [&](int l) { return Noted<T>{u + l}; }, [](int, T) {});
    if (!call.spiking) {
      T* output = chunk.output[k];
      for (int l = 0; l < count; ++l) output[l] = u[l];
      surrogate_primitive(call.surrogate, call.surrogate_params, output, count);
      step_block<Neuron, Reset, T, kTables>(
          call, params, chunk.x[k], chunk.states[k], chunk.states[k + 1], count,
          [&](int l) { return Precomputed<T>{output[l], T(0)}; }, [](int, T) {});
    }
    surrogate_gradient(call.surrogate, call.surrogate_params, u, count);
  }
}

template <class Neuron, class Reset, bool kTables, class T, class FireAt>
inline __attribute__((always_inline)) void adjoint_block(
    const Backward<T>& call, const BlockParams<Neuron, T, kTables>& params, const T* x,
    const T (*before)[kLanes], const T* grad_out, T (*grad_state)[kLanes], T (*grad_params)[kLanes],
    T* grad_x, int count, FireAt fire_at) {
  const Options options = call.options;
#pragma omp simd
  for (int l = 0; l < count; ++l) {
    T state[Neuron::kStates], p[Neuron::kParams], grad_s[Neuron::kStates], grad_p[Neuron::kParams];
    gather<Neuron::kStates>(before, l, state);
    gather<Neuron::kStates>(grad_state, l, grad_s);
    params.at(l, p);
    for (int i = 0; i < Neuron::kParams; ++i) grad_p[i] = kTables ? grad_params[i][l] : T(0);
    grad_x[l] = Neuron::template adjoint<Reset>(state, x[l], p, options, fire_at(l), grad_out[l],
                                                grad_s, grad_p);
    scatter<Neuron::kStates>(grad_s, l, grad_state);
    if (kTables) scatter<Neuron::kParams>(grad_p, l, grad_params);
  }
}

template <class Neuron, class Reset, bool kTables, class T>
void backward_block(const Backward<T>& call, int64 lane, int count) {
  ChunkMemory<Neuron, T> chunk;
  alignas(64) T grad_state[Neuron::kStates][kLanes];
  alignas(64) T grad_params[kTables ? Neuron::kParams : 1][kLanes] = {};
  alignas(64) T zeros[kLanes] = {}, grad_buffer[kLanes], grad_x_buffer[kLanes];
  const BlockParams<Neuron, T, kTables> params(call, lane, count);
  read_states<Neuron::kStates>(call.grad_states, call.lanes, lane, count, grad_state);

  for (int64 start = (call.steps - 1) / kChunk * kChunk; start >= 0; start -= kChunk) {
    const int64 left = call.steps - start;
    const int steps = static_cast<int>(left < kChunk ? left : kChunk);
    if (start == 0) {
      initial_states(call, Neuron::kStates, lane, count, chunk.states[0]);
    } else {
      const T* saved = call.checkpoints + (start / kChunk - 1) * Neuron::kStates * call.lanes;
      read_states<Neuron::kStates>(saved, call.lanes, lane, count, chunk.states[0]);
    }
    recompute_chunk<Neuron, Reset, kTables>(call, params, chunk, start, steps, lane, count);

    for (int k = steps - 1; k >= 0; --k) {
      const int64 t = start + k;
      if (call.grad_v_seq) {
        const T* grad_v = load_row(call.element, call.grad_v_seq,
                                   t * call.grad_v_seq_stride + lane, grad_buffer, count);
        for (int l = 0; l < count; ++l) grad_state[0][l] += grad_v[l];
      }
      const T* grad_out = call.grad_spikes
                              ? load_row(call.element, call.grad_spikes,
                                         t * call.grad_spikes_stride + lane, grad_buffer, count)
                              : zeros;
      T* grad_x = output_row(call.element, call.grad_x, t * call.lanes + lane, grad_x_buffer);
      const T *slope = chunk.slope[k], *output = chunk.output[k];
      if (call.spiking) {
        adjoint_block<Neuron, Reset, kTables>(
            call, params, chunk.x[k], chunk.states[k], grad_out, grad_state, grad_params, grad_x,
            count, [&](int l) { return WithGradient<T>{slope[l]}; });
      } else {
        adjoint_block<Neuron, Reset, kTables>(
            call, params, chunk.x[k], chunk.states[k], grad_out, grad_state, grad_params, grad_x,
            count, [&](int l) { return Precomputed<T>{output[l], slope[l]}; });
      }
      store_row(call.element, call.grad_x, t * call.lanes + lane, grad_x, count);
    }
  }
  save_states<Neuron::kStates>(grad_state, call.grad_initial, call.lanes, lane, count);
  if (kTables) {
    for (int i = 0; i < Neuron::kParams; ++i) {
      if (!call.grad_params[i]) continue;
      for (int l = 0; l < count; ++l) call.grad_params[i][lane + l] = grad_params[i][l];
    }
  }
}

// Calls block(Neuron, Reset, bool kTables as types) for the call's neuron, reset and parameters.
template <class T, class Block>
void dispatch(const Scan<T>& call, Block block) {
  with_neuron(call.neuron, [&](auto neuron) {
    const auto with_reset = [&](auto reset) {
      if (call.tables) {
        block(neuron, reset, std::true_type{});
      } else {
        block(neuron, reset, std::false_type{});
      }
    };
    if (call.hard_reset) {
      with_reset(HardReset{});
    } else {
      with_reset(SoftReset{});
    }
  });
}

template <class T>
void forward_lanes(const Forward<T>& call, int64 begin, int64 end, int width) {
  dispatch(call, [&](auto neuron, auto reset, auto tables) {
    for (int64 lane = begin; lane < end; lane += width) {
      const int count = static_cast<int>(end - lane < width ? end - lane : width);
      forward_block<decltype(neuron), decltype(reset), tables.value>(call, lane, count);
    }
  });
}

template <class T>
void backward_lanes(const Backward<T>& call, int64 begin, int64 end, int width) {
  dispatch(call, [&](auto neuron, auto reset, auto tables) {
    for (int64 lane = begin; lane < end; lane += width) {
      const int count = static_cast<int>(end - lane < width ? end - lane : width);
      backward_block<decltype(neuron), decltype(reset), tables.value>(call, lane, count);
    }
  });
}

}  // namespace snn::cpu::SNN_CPU_ISA
