// The chunked scan on a GPU of a neuron that is compiled by itself: as in scan.cuh, but with the
// surrogate inside the step, and with any number of outputs.
#pragma once

#include "scan.cuh"
#include "snnkernels/unit.h"

namespace snn::cuda {

// The parameters of a thread's lanes: of a table each lane its own, else one number for all.
template <class U, int V, class T>
struct UnitParams {
  T values[V][U::kParams + 1];

  SNN_HD UnitParams(const Scan<T>& call, int64 lane) {
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      SNN_UNROLL
      for (int i = 0; i < U::kParams; ++i) {
        const Parameter<T>& p = call.params[i];
        values[l][i] =
            is_table(U::kTables, i) ? table_at(p.table, p.size, p.inner, lane + l) : p.value;
      }
    }
  }
};

template <class U, class E, int V, class T>
SNN_HD void forward_unit(const Forward<T>& call, int64 lane) {
  constexpr int S = U::kStates, O = U::kOutputs;
  const UnitParams<U, V, T> params(call, lane);
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
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
      Pack<E, V> out[O], v;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        T outputs[O];
        U::Neuron::step(state[l], T(Convert<E>::widen(x[k].lanes[l])), params.values[l],
                        call.options, fire, outputs);
        SNN_UNROLL
        for (int i = 0; i < O; ++i) out[i].lanes[l] = Convert<E>::narrow(outputs[i]);
        v.lanes[l] = Convert<E>::narrow(state[l][0]);
      }
      const int64 offset = (start + k) * call.lanes + lane;
      SNN_UNROLL
      for (int i = 0; i < O; ++i) {
        store<V>(static_cast<E*>(call.spikes) + i * call.steps * call.lanes + offset, out[i]);
      }
      if (call.v_seq) store<V>(static_cast<E*>(call.v_seq) + offset, v);
    }
  }
  store_states<S, V>(state, call.final_states, call.lanes, lane);
}

// A chunk's steps once more: the states before each of them.
template <class U, class E, int V, class T>
SNN_HD void recompute_unit(const Backward<T>& call, const UnitParams<U, V, T>& params,
                           const Pack<E, V>* x, int count, T (*state)[V][U::kStates]) {
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  SNN_UNROLL
  for (int k = 0; k + 1 < kChunk; ++k) {
    if (k + 1 >= count) break;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      T outputs[U::kOutputs];
      SNN_UNROLL
      for (int i = 0; i < U::kStates; ++i) state[k + 1][l][i] = state[k][l][i];
      U::Neuron::step(state[k + 1][l], T(Convert<E>::widen(x[k].lanes[l])), params.values[l],
                      call.options, fire, outputs);
    }
  }
}

template <class U, class E, int V, class T>
SNN_HD void backward_unit(const Backward<T>& call, int64 lane) {
  constexpr int S = U::kStates, O = U::kOutputs, P = U::kParams;
  const UnitParams<U, V, T> params(call, lane);
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  T grad_state[V][S] = {}, grad_params[V][P + 1] = {};
  if (call.grad_states) load_states<S, V>(call.grad_states, call.lanes, lane, grad_state);

  for (int64 start, end = call.steps; end > 0; end = start) {
    start = (end - 1) / kChunk * kChunk;
    const int count = static_cast<int>(end - start);
    Pack<E, V> x[kChunk], grad_out[O][kChunk] = {};
    T state[kChunk][V][S];
    load_chunk<V>(static_cast<const E*>(call.x) + start * call.x_stride + lane, call.x_stride,
                  count, x);
    if (call.grad_spikes) {
      const int64 stride = call.grad_spikes_stride;
      SNN_UNROLL
      for (int i = 0; i < O; ++i) {
        const int64 offset = (i * call.steps + start) * stride + lane;
        load_chunk<V>(static_cast<const E*>(call.grad_spikes) + offset, stride, count, grad_out[i]);
      }
    }
    if (start == 0) {
      initial_states<S, V>(call, lane, state[0]);
    } else {
      load_states<S, V>(call.checkpoints + checkpoint_offset<S>(start, call.lanes), call.lanes,
                        lane, state[0]);
    }
    recompute_unit<U, E, V>(call, params, x, count, state);

    SNN_UNROLL
    for (int k = kChunk - 1; k >= 0; --k) {
      if (k >= count) continue;
      if (call.grad_v_seq) {
        const int64 offset = (start + k) * call.grad_v_seq_stride + lane;
        const auto grad_v = load<V>(static_cast<const E*>(call.grad_v_seq) + offset);
        SNN_UNROLL
        for (int l = 0; l < V; ++l) grad_state[l][0] += Convert<E>::widen(grad_v.lanes[l]);
      }
      Pack<E, V> grad_x;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        T grads[O];
        SNN_UNROLL
        for (int i = 0; i < O; ++i) grads[i] = Convert<E>::widen(grad_out[i][k].lanes[l]);
        grad_x.lanes[l] = Convert<E>::narrow(
            U::Neuron::adjoint(state[k][l], T(Convert<E>::widen(x[k].lanes[l])), params.values[l],
                               call.options, fire, grads, grad_state[l], grad_params[l]));
      }
      store<V>(static_cast<E*>(call.grad_x) + (start + k) * call.lanes + lane, grad_x);
    }
  }

  if (call.grad_initial) store_states<S, V>(grad_state, call.grad_initial, call.lanes, lane);
  SNN_UNROLL
  for (int i = 0; i < P; ++i) {
    if (!is_table(U::kTables, i) || !call.grad_params[i]) continue;
    Pack<T, V> sums;
    SNN_UNROLL
    for (int l = 0; l < V; ++l) sums.lanes[l] = grad_params[l][i];
    store<V>(call.grad_params[i] + lane, sums);
  }
}

template <class U, class E, int V, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    unit_forward_kernel(const __grid_constant__ Forward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) forward_unit<U, E, V>(call, lane);
}

template <class U, class E, int V, class T>
__global__ void __launch_bounds__(SNN_CUDA_THREADS)
    unit_backward_kernel(const __grid_constant__ Backward<T> call) {
  const int64 lane = first_lane<V>();
  if (lane < call.lanes) backward_unit<U, E, V>(call, lane);
}

}  // namespace snn::cuda
