// The chunked scan on a CPU of a neuron that is compiled by itself: as in scan_block.h, but with
// the surrogate inside the step, and with any number of outputs.
#pragma once

#include "../include/snnkernels/unit.h"
#include "scan_block.h"
#include "unit.h"

namespace snn::cpu::SNN_CPU_ISA {

// The rows of a neuron's outputs at one step, or of their gradients.
template <class Neuron, class T>
struct OutputRows {
  static constexpr int kRows = Neuron::kOutputs;
  alignas(64) Row<T> buffers[kRows];
  T* rows[kRows];

  void begin(const Forward<T>& call, int64 t, int64 lane, int count) {
    for (int i = 0; i < kRows; ++i) {
      const int64 offset = (i * call.steps + t) * call.lanes + lane;
      rows[i] = output_row(call.element, call.spikes, offset, buffers[i], count);
    }
  }

  void finish(const Forward<T>& call, int64 t, int64 lane, int count) const {
    for (int i = 0; i < kRows; ++i) {
      const int64 offset = (i * call.steps + t) * call.lanes + lane;
      store_row(call.element, call.spikes, offset, rows[i], count);
    }
  }
};

template <class Neuron, class T>
struct OutputGradients {
  static constexpr int kRows = Neuron::kOutputs;
  alignas(64) Row<T> buffers[kRows] = {};
  const T* rows[kRows];

  void load(const Backward<T>& call, int64 t, int64 lane, int count) {
    for (int i = 0; i < kRows; ++i) {
      const int64 offset = (i * call.steps + t) * call.grad_spikes_stride + lane;
      rows[i] = call.grad_spikes
                    ? load_row(call.element, call.grad_spikes, offset, buffers[i], count)
                    : buffers[i];
    }
  }
};

// One step of a block's lanes, from the states before to those after (which may be the same rows).
template <class Neuron, class Fire, class T, bool kTables, class Out>
SNN_INLINE void step_unit(const Scan<T>& call, const BlockParams<Neuron, T, kTables>& params,
                          const Fire& fire, const T* x, const Row<T>* before, Row<T>* after,
                          int count, Out out) {
  using V = Vec<T>;
  const LoopParams<Neuron, T, kTables> loop_params(params);
  const Options options = call.options;
  const Fire local_fire = fire;
  for (int l = 0; l < count; l += V::kSize) {
    V state[Neuron::kStates], p[Neuron::kParams + 1], outputs[Neuron::kOutputs];
    load_lanes<Neuron::kStates>(before, l, state);
    loop_params.at(l, p);
    Neuron::step(state, V::load(x + l), p, options, local_fire, outputs);
    out(l, outputs);
    store_lanes<Neuron::kStates>(state, l, after);
  }
}

template <class Neuron, class Fire, bool kTables, class T>
void scan_unit(const Forward<T>& call, const Fire& fire, int64 lane, int count) {
  constexpr int kStates = Neuron::kStates;
  alignas(64) Row<T> state[kStates], x_buffer;
  OutputRows<Neuron, T> out;
  const BlockParams<Neuron, T, kTables> params(call, lane, count);
  initial_states<kStates>(call, lane, count, state);

  for (int64 t = 0; t < call.steps; ++t) {
    if (call.checkpoints && t > 0 && t % kChunk == 0) {
      T* saved = checkpoint<kStates>(call.checkpoints, call, t);
      write_rows<kStates>(state, saved, call.lanes, lane, count);
    }
    const T* x = load_row(call.element, call.x, t * call.x_stride + lane, x_buffer, count);
    if (t + kAhead < call.steps) {
      prefetch_row(call.element, call.x, (t + kAhead) * call.x_stride + lane, count);
    }
    out.begin(call, t, lane, count);
    step_unit<Neuron>(call, params, fire, x, state, state, count,
                      [&](int l, const Vec<T>* outputs) {
                        for (int i = 0; i < Neuron::kOutputs; ++i) {
                          outputs[i].store(out.rows[i] + l);
                        }
                      });
    out.finish(call, t, lane, count);
    if (call.v_seq) {
      const int64 bytes = (t * call.lanes + lane) * element_size(call.element);
      convert_row(call.element, state[0], static_cast<char*>(call.v_seq) + bytes, count);
    }
  }
  write_rows<kStates>(state, call.final_states, call.lanes, lane, count);
}

// What the backward pass recomputes of one chunk, in the caches.
template <class Neuron, class T>
struct UnitChunk {
  alignas(64) Row<T> states[kChunk + 1][Neuron::kStates];
  alignas(64) Row<T> x_buffer[kChunk];
  const T* x[kChunk];
};

template <class Neuron, class Fire, bool kTables, class T>
void recompute_unit(const Backward<T>& call, const BlockParams<Neuron, T, kTables>& params,
                    const Fire& fire, UnitChunk<Neuron, T>& chunk, int64 start, int steps,
                    int64 lane, int count) {
  for (int k = 0; k < steps; ++k) {
    const int64 offset = (start + k) * call.x_stride + lane;
    chunk.x[k] = load_row(call.element, call.x, offset, chunk.x_buffer[k], count);
    if (k + kAhead < steps) {
      prefetch_row(call.element, call.x, offset + kAhead * call.x_stride, count);
    }
    if (call.grad_spikes) {
      const int64 grad_offset = (start + k) * call.grad_spikes_stride + lane;
      prefetch_row(call.element, call.grad_spikes, grad_offset, count);
    }
    if (k + 1 == steps) break;  // nobody asks for the states after the last step
    step_unit<Neuron>(call, params, fire, chunk.x[k], chunk.states[k], chunk.states[k + 1], count,
                      [](int, const Vec<T>*) {});
  }
}

template <class Neuron, class Fire, bool kTables, class T>
SNN_INLINE void adjoint_unit(const Backward<T>& call, const BlockParams<Neuron, T, kTables>& params,
                             const Fire& fire, const T* x, const Row<T>* before,
                             const OutputGradients<Neuron, T>& grad_out, Row<T>* grad_states,
                             Row<T>* grad_params, T* grad_x, int count) {
  using V = Vec<T>;
  constexpr int kParams = Neuron::kParams;
  const LoopParams<Neuron, T, kTables> loop_params(params);
  const Options options = call.options;
  const Fire local_fire = fire;
  for (int l = 0; l < count; l += V::kSize) {
    V state[Neuron::kStates], grad_s[Neuron::kStates], p[kParams + 1], grad_p[kParams + 1];
    V outputs[Neuron::kOutputs];
    load_lanes<Neuron::kStates>(before, l, state);
    load_lanes<Neuron::kStates>(grad_states, l, grad_s);
    loop_params.at(l, p);
    for (int i = 0; i < Neuron::kOutputs; ++i) outputs[i] = V::load(grad_out.rows[i] + l);
    for (int i = 0; i < kParams; ++i) grad_p[i] = V(T(0));
    const V lane_grad_x =
        Neuron::adjoint(state, V::load(x + l), p, options, local_fire, outputs, grad_s, grad_p);
    lane_grad_x.store(grad_x + l);
    store_lanes<Neuron::kStates>(grad_s, l, grad_states);
    for (int i = 0; kTables && i < kParams; ++i) {
      if (!call.grad_params[i]) continue;
      (V::load(grad_params[i] + l) + grad_p[i]).store(grad_params[i] + l);
    }
  }
}

template <class Neuron, class Fire, bool kTables, class T>
void scan_unit(const Backward<T>& call, const Fire& fire, int64 lane, int count) {
  constexpr int kStates = Neuron::kStates;
  UnitChunk<Neuron, T> chunk;
  OutputGradients<Neuron, T> grad_out;
  alignas(64) Row<T> grad_states[kStates], grad_params[kTables ? Neuron::kParams : 1] = {};
  alignas(64) Row<T> grad_buffer, grad_x_buffer;
  const BlockParams<Neuron, T, kTables> params(call, lane, count);
  read_rows<kStates>(call.grad_states, call.lanes, lane, count, grad_states);

  for (int64 start = (call.steps - 1) / kChunk * kChunk; start >= 0; start -= kChunk) {
    const int64 left = call.steps - start;
    const int steps = static_cast<int>(left < kChunk ? left : kChunk);
    if (start == 0) {
      initial_states<kStates>(call, lane, count, chunk.states[0]);
    } else {
      const T* saved = checkpoint<kStates>(call.checkpoints, call, start);
      read_rows<kStates>(saved, call.lanes, lane, count, chunk.states[0]);
    }
    recompute_unit<Neuron>(call, params, fire, chunk, start, steps, lane, count);

    for (int k = steps - 1; k >= 0; --k) {
      const int64 t = start + k;
      if (call.grad_v_seq) {
        const int64 offset = t * call.grad_v_seq_stride + lane;
        const T* grad_v = load_row(call.element, call.grad_v_seq, offset, grad_buffer, count);
        for (int l = 0; l < count; ++l) grad_states[0][l] += grad_v[l];
      }
      grad_out.load(call, t, lane, count);
      const int64 row = t * call.lanes + lane;
      T* grad_x = output_row(call.element, call.grad_x, row, grad_x_buffer, count);
      adjoint_unit<Neuron>(call, params, fire, chunk.x[k], chunk.states[k], grad_out, grad_states,
                           grad_params, grad_x, count);
      store_row(call.element, call.grad_x, row, grad_x, count);
    }
  }
  write_rows<kStates>(grad_states, call.grad_initial, call.lanes, lane, count);
  for (int i = 0; kTables && i < Neuron::kParams; ++i) {
    if (call.grad_params[i]) {
      std::memcpy(call.grad_params[i] + lane, grad_params[i], count * sizeof(T));
    }
  }
}

template <class Neuron, class Surrogate>
class CompiledUnit final : public Unit {
 public:
  CompiledUnit() : Unit({Neuron::kStates, Neuron::kParams, Neuron::kOutputs}) {}

  void scan(const Forward<float>& call, int64 begin, int64 end) const override {
    with_tables(call, begin, end);
  }
  void scan(const Backward<float>& call, int64 begin, int64 end) const override {
    with_tables(call, begin, end);
  }
  // float64 is for checking rather than for speed: one kind of parameters halves its build.
  void scan(const Forward<double>& call, int64 begin, int64 end) const override {
    blocks<true>(call, begin, end);
  }
  void scan(const Backward<double>& call, int64 begin, int64 end) const override {
    blocks<true>(call, begin, end);
  }

 private:
  template <class Call>
  static void with_tables(const Call& call, int64 begin, int64 end) {
    if (call.tables) return blocks<true>(call, begin, end);
    blocks<false>(call, begin, end);
  }

  template <bool kTables, template <class> class Call, class T>
  static void blocks(const Call<T>& call, int64 begin, int64 end) {
    const InlineFire<Surrogate, T> fire{call.surrogate_params, call.spiking};
    for (int64 lane = begin; lane < end; lane += kLanes) {
      const int count = static_cast<int>(end - lane < kLanes ? end - lane : kLanes);
      scan_unit<Neuron, InlineFire<Surrogate, T>, kTables>(call, fire, lane, count);
    }
  }
};

}  // namespace snn::cpu::SNN_CPU_ISA

// Makes a shared object of the one neuron, for the loaded library to take in.
#define SNN_UNIT(Neuron, Surrogate)                                               \
  extern "C" __attribute__((visibility("default"))) const snn::Unit* snn_unit() { \
    static const snn::cpu::SNN_CPU_ISA::CompiledUnit<Neuron, Surrogate> unit;     \
    return &unit;                                                                 \
  }
