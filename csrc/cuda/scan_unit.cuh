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
  ForwardReader<E, V, T> reader(call, lane);
  ForwardWriter<E, V, S, O, T> writer(call, lane);
  ForwardChunk<E, V> chunk;
  T state[V][S];
  initial_states<S, V>(call, lane, state);

  for (int64 start = 0; start < call.steps; start += kChunk) {
    const int count = chunk_steps(start, call.steps);
    writer.checkpoint(start, state);
    reader.next(start, chunk);
    SNN_UNROLL
    for (int k = 0; k < kChunk; ++k) {
      if (k >= count) break;
      Pack<E, V> out[O];
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        T outputs[O];
        U::Neuron::step(state[l], T(Convert<E>::widen(chunk.x[k].lanes[l])), params.values[l],
                        call.options, fire, outputs);
        SNN_UNROLL
        for (int i = 0; i < O; ++i) out[i].lanes[l] = Convert<E>::narrow(outputs[i]);
      }
      writer.write(out, state);
    }
  }
  store_states<S, V>(state, call.final_states + lane, call.lanes);
}

// A chunk's steps once more: the states before each of them.
template <class U, class E, int V, class T>
SNN_HD void recompute_unit(const Backward<T>& call, const UnitParams<U, V, T>& params,
                           const Pack<E, V>* x, int count, T (*state)[V][U::kStates]) {
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  SNN_UNROLL
  for (int k = 0; k + 1 < kChunk; ++k) {
    if (k + 1 >= count) break;
    copy_states<U::kStates, V>(state[k], state[k + 1]);
    SNN_UNROLL
    for (int l = 0; l < V; ++l) {
      T outputs[U::kOutputs];
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
  BackwardReader<E, V, S, O, T> reader(call, lane);
  StepGradients<E, V, S, T> gradients(call, lane);
  BackwardChunk<E, V, S, O, T> chunk;
  T grad_state[V][S] = {}, grad_params[V][P + 1] = {};
  if (call.grad_states) load_states<S, V>(call.grad_states + lane, call.lanes, grad_state);

  for (int64 start = last_chunk(call.steps); start >= 0 && call.steps > 0; start -= kChunk) {
    const int count = chunk_steps(start, call.steps);
    reader.next(start, chunk);
    T state[kChunk][V][S];
    copy_states<S, V>(chunk.state, state[0]);
    recompute_unit<U, E, V>(call, params, chunk.x, count, state);

    SNN_UNROLL
    for (int k = kChunk - 1; k >= 0; --k) {
      if (k >= count) continue;
      gradients.add_to(grad_state);
      const Options options = options_at(call, start + k);
      Pack<E, V> grad_x;
      SNN_UNROLL
      for (int l = 0; l < V; ++l) {
        T grads[O];
        SNN_UNROLL
        for (int i = 0; i < O; ++i) {
          grads[i] = Convert<E>::widen(chunk.grad_spikes[i][k].lanes[l]);
        }
        grad_x.lanes[l] = Convert<E>::narrow(U::Neuron::adjoint(
            state[k][l], T(Convert<E>::widen(chunk.x[k].lanes[l])), params.values[l], options, fire,
            grads, grad_state[l], grad_params[l]));
      }
      gradients.write(grad_x);
    }
  }

  if (call.grad_initial) store_states<S, V>(grad_state, call.grad_initial + lane, call.lanes);
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
