// The chunked scan on a CPU of a neuron that is compiled by itself: as in scan_block.h, but with
// the surrogate inside the step, and with any number of outputs.
#pragma once

#include "../include/snnkernels/unit.h"
#include "scan_block.h"
#include "unit.h"

namespace snn::cpu::SNN_CPU_ISA {

// The parameters of a block of lanes: a row for each table, a number for each other.
template <class U, class T>
struct UnitParams {
  alignas(64) Row<T> rows[U::kParams + 1];
  T numbers[U::kParams + 1];

  explicit UnitParams(const Scan<T>& call) {
    for (int i = 0; i < U::kParams; ++i) numbers[i] = call.params[i].value;
  }
  UnitParams(const Scan<T>& call, int64 lane) : UnitParams(call) {
    read_tables(call, lane, kLanes);
  }

  void read_tables(const Scan<T>& call, int64 lane, int count) {
    for (int i = 0; i < U::kParams; ++i) {
      if (is_table(U::kTables, i)) parameter_row(call.params[i], lane, count, rows[i]);
    }
  }
};

// The same inside a loop over the lanes: numbers stay in registers.
template <class U, class T>
class LoopUnitParams {
 public:
  SNN_INLINE explicit LoopUnitParams(const UnitParams<U, T>& block) : rows_(block.rows) {
    for (int i = 0; i < U::kParams; ++i) numbers_[i] = Vec<T>(block.numbers[i]);
  }

  SNN_INLINE void at(int l, Vec<T>* p) const {
    for (int i = 0; i < U::kParams; ++i) {
      p[i] = is_table(U::kTables, i) ? Vec<T>::load(rows_[i] + l) : numbers_[i];
    }
  }

 private:
  const Row<T>* rows_;
  Vec<T> numbers_[U::kParams + 1];
};

// The gradients of a neuron's outputs at one step.
template <class U, class T>
struct OutputGradients {
  static constexpr int kRows = U::kOutputs;
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
template <class U, class T, class Out>
SNN_INLINE void step_unit(const Scan<T>& call, const UnitParams<U, T>& params, const T* x,
                          const Row<T>* before, Row<T>* after, int count, Out out) {
  using V = Vec<T>;
  const LoopUnitParams<U, T> loop_params(params);
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  const Options options = call.options;
  for (int l = 0; l < count; l += V::kSize) {
    V state[U::kStates], p[U::kParams + 1], outputs[U::kOutputs];
    load_lanes<U::kStates>(before, l, state);
    loop_params.at(l, p);
    U::Neuron::step(state, V::load(x + l), p, options, fire, outputs);
    out(l, outputs);
    store_lanes<U::kStates>(state, l, after);
  }
}

// Writes the outputs of a neuron, one behind the other.
template <class U, class T>
struct UnitOutputs {
  RowWriter<T> writers[U::kOutputs];
  RowPlace<T> rows[U::kOutputs];

  explicit UnitOutputs(const Forward<T>& call) {
    const int64 size = call.steps * call.lanes;
    for (int i = 0; i < U::kOutputs; ++i) {
      char* array = static_cast<char*>(call.spikes) + i * size * element_size(call.element);
      writers[i].open(call.element, array, size);
    }
  }

  void begin(int64 offset, int count) {
    for (int i = 0; i < U::kOutputs; ++i) rows[i] = writers[i].begin(offset, count);
  }
  void finish() {
    for (auto& writer : writers) writer.finish();
  }
};

template <class U, class T>
void scan_unit(const Forward<T>& call, int64 lane, int count) {
  alignas(64) Row<T> state[U::kStates], x_buffer;
  UnitOutputs<U, T> out(call);
  RowWriter<T> v_rows(call.element, call.v_seq, call.steps * call.lanes);
  const UnitParams<U, T> params(call, lane);
  initial_states<U::kStates>(call, lane, count, state);

  for (int64 t = 0; t < call.steps; ++t) {
    if (call.checkpoints && t > 0 && t % kChunk == 0) {
      T* saved = checkpoint<U::kStates>(call.checkpoints, call, t);
      write_rows<U::kStates>(state, saved, call.lanes, lane, count);
    }
    const T* x = load_row(call.element, call.x, t * call.x_stride + lane, x_buffer, count);
    if (t + kAhead < call.steps) {
      prefetch_row(call.element, call.x, (t + kAhead) * call.x_stride + lane, count);
    }
    const int64 row = t * call.lanes + lane;
    out.begin(row, count);
    step_unit(call, params, x, state, state, count, [&](int l, const Vec<T>* outputs) {
      for (int i = 0; i < U::kOutputs; ++i) out.rows[i].store(l, outputs[i]);
    });
    out.finish();
    if (call.v_seq) v_rows.write(state[0], row, count);
  }
  write_rows<U::kStates>(state, call.final_states, call.lanes, lane, count);
}

// The forward scan of as many tiles from lane `begin` as there are; returns the lane behind them.
template <class U, class T>
int64 scan_unit_tiles(const Forward<T>& call, int64 begin, int64 end) {
  using V = Vec<T>;
  UnitParams<U, T> params(call);  // whose tables are those of the tile at hand
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  const Options options = call.options;
  return scan_tiles<U::kStates, U::kOutputs>(call, begin, end, [&](int64 lane, int count) {
    params.read_tables(call, lane, count);
    return [=, loop_params = LoopUnitParams<U, T>(params)](int l, V* state, V x, V* out) {
      V p[U::kParams + 1];
      loop_params.at(l, p);
      U::Neuron::step(state, x, p, options, fire, out);
    };
  });
}

// What the backward pass recomputes of one chunk, in the caches.
template <class U, class T>
struct UnitChunk {
  alignas(64) Row<T> states[kChunk + 1][U::kStates];
  alignas(64) Row<T> x_buffer[kChunk];
  const T* x[kChunk];
};

template <class U, class T>
void recompute_unit(const Backward<T>& call, const UnitParams<U, T>& params, UnitChunk<U, T>& chunk,
                    int64 start, int steps, int64 lane, int count) {
  for (int k = 0; k < steps; ++k) {
    const int64 offset = (start + k) * call.x_stride + lane;
    chunk.x[k] = load_row(call.element, call.x, offset, chunk.x_buffer[k], count);
    if (k + kAhead < steps) {
      prefetch_row(call.element, call.x, offset + kAhead * call.x_stride, count);
    }
    if (k + 1 == steps) break;  // nobody asks for the states after the last step
    step_unit(call, params, chunk.x[k], chunk.states[k], chunk.states[k + 1], count,
              [](int, const Vec<T>*) {});
  }
}

// Gradients of a block's lanes: those of the states, carried from step to step, and the sums of
// those of the tables.
template <class U, class T>
struct UnitGradients {
  alignas(64) Row<T> states[U::kStates];
  alignas(64) Row<T> tables[U::kParams + 1];
};

template <class U, class T>
SNN_INLINE void adjoint_unit(const Backward<T>& call, const UnitParams<U, T>& params, const T* x,
                             const Row<T>* before, const OutputGradients<U, T>& grad_out,
                             UnitGradients<U, T>& grads, const RowPlace<T>& grad_x, int count,
                             Options options) {
  using V = Vec<T>;
  const LoopUnitParams<U, T> loop_params(params);
  const InlineFire<typename U::Surrogate, T> fire{call.surrogate_params};
  for (int l = 0; l < count; l += V::kSize) {
    V state[U::kStates], grad_s[U::kStates], p[U::kParams + 1], grad_p[U::kParams + 1];
    V outputs[U::kOutputs];
    load_lanes<U::kStates>(before, l, state);
    load_lanes<U::kStates>(grads.states, l, grad_s);
    loop_params.at(l, p);
    for (int i = 0; i < U::kOutputs; ++i) outputs[i] = V::load(grad_out.rows[i] + l);
    for (int i = 0; i < U::kParams; ++i) {
      grad_p[i] = is_table(U::kTables, i) ? V::load(grads.tables[i] + l) : V(T(0));
    }
    const V lane_grad_x =
        U::Neuron::adjoint(state, V::load(x + l), p, options, fire, outputs, grad_s, grad_p);
    grad_x.store(l, lane_grad_x);
    store_lanes<U::kStates>(grad_s, l, grads.states);
    for (int i = 0; i < U::kParams; ++i) {
      if (is_table(U::kTables, i)) grad_p[i].store(grads.tables[i] + l);
    }
  }
}

template <class U, class T>
void scan_unit(const Backward<T>& call, int64 lane, int count) {
  auto& chunk = scratch<UnitChunk<U, T>>();
  UnitGradients<U, T> grads = {};
  OutputGradients<U, T> grad_out;
  alignas(64) Row<T> grad_buffer;
  RowWriter<T> grad_x_rows(call.element, call.grad_x, call.steps * call.lanes);
  const UnitParams<U, T> params(call, lane);
  read_rows<U::kStates>(call.grad_states, call.lanes, lane, count, grads.states);

  for (int64 start = (call.steps - 1) / kChunk * kChunk; start >= 0; start -= kChunk) {
    const int64 left = call.steps - start;
    const int steps = static_cast<int>(left < kChunk ? left : kChunk);
    if (start == 0) {
      initial_states<U::kStates>(call, lane, count, chunk.states[0]);
    } else {
      const T* saved = checkpoint<U::kStates>(call.checkpoints, call, start);
      read_rows<U::kStates>(saved, call.lanes, lane, count, chunk.states[0]);
    }
    recompute_unit(call, params, chunk, start, steps, lane, count);
    for (int k = steps - 1; k >= 0 && k >= steps - kAhead; --k) {
      prefetch_gradients(call, grad_x_rows, start + k, lane, count);
    }

    for (int k = steps - 1; k >= 0; --k) {
      const int64 t = start + k;
      if (k >= kAhead) prefetch_gradients(call, grad_x_rows, t - kAhead, lane, count);
      if (call.grad_v_seq) {
        const int64 offset = t * call.grad_v_seq_stride + lane;
        const T* grad_v = load_row(call.element, call.grad_v_seq, offset, grad_buffer, count);
        for (int l = 0; l < count; ++l) grads.states[0][l] += grad_v[l];
      }
      grad_out.load(call, t, lane, count);
      const RowPlace<T> grad_x = grad_x_rows.begin(t * call.lanes + lane, count);
      adjoint_unit(call, params, chunk.x[k], chunk.states[k], grad_out, grads, grad_x, count,
                   options_at(call, t));
      grad_x_rows.finish();
    }
  }
  if (call.grad_initial) {
    write_rows<U::kStates>(grads.states, call.grad_initial, call.lanes, lane, count);
  }
  for (int i = 0; i < U::kParams; ++i) {
    if (is_table(U::kTables, i) && call.grad_params[i]) {
      std::memcpy(call.grad_params[i] + lane, grads.tables[i], count * sizeof(T));
    }
  }
}

template <class U>
class CompiledUnit final : public Unit {
 public:
  CompiledUnit() : Unit({U::kStates, U::kParams, U::kOutputs, U::kTables}) {}

  void scan(const Forward<float>& call, int64 begin, int64 end) const override {
    blocks(call, scan_unit_tiles<U>(call, begin, end), end);
  }
  void scan(const Backward<float>& call, int64 begin, int64 end) const override {
    blocks(call, begin, end);
  }
  void scan(const Forward<double>& call, int64 begin, int64 end) const override {
    blocks(call, begin, end);
  }
  void scan(const Backward<double>& call, int64 begin, int64 end) const override {
    blocks(call, begin, end);
  }

 private:
  template <class Call>
  static void blocks(const Call& call, int64 begin, int64 end) {
    for (int64 lane = begin; lane < end; lane += kLanes) {
      scan_unit<U>(call, lane, static_cast<int>(end - lane < kLanes ? end - lane : kLanes));
    }
  }
};

}  // namespace snn::cpu::SNN_CPU_ISA

// Makes a shared object of the one neuron, for the loaded library to take in.
#define SNN_UNIT(Neuron, Surrogate, tables)                                       \
  extern "C" __attribute__((visibility("default"))) const snn::Unit* snn_unit() { \
    using snn::cpu::SNN_CPU_ISA::CompiledUnit;                                    \
    static const CompiledUnit<snn::UnitTraits<Neuron, Surrogate, tables>> unit;   \
    return &unit;                                                                 \
  }
