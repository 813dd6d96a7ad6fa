// From the operators' arguments to a call of the scan: checks, outputs, and plain data for a
// driver. Each device's driver instantiates these with its launcher.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/HeaderOnlyArrayRef.h>

#include <atomic>
#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "snnkernels/scan.h"

namespace snn {

using torch::headeronly::HeaderOnlyArrayRef;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The number that stands for a name in the operators' arguments, its FNV-1a hash, as in
// snnkernels/_backends/headers.py. Not the name itself, because torch's stable ABI frees no string
// that it hands over; the same in every process, because compiled graphs hold it.
constexpr int64_t number_of(const char* name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (; *name; ++name) hash = (hash ^ static_cast<unsigned char>(*name)) * 0x100000001b3u;
  return static_cast<int64_t>(hash >> 1);
}

struct NeuronLine {
  int64_t number;
  const char* name;
  NeuronId id;
  NeuronSizes sizes;
  const NeuronSizes* compiled;
  const NeuronLine* next;
};

// The compiled neurons that joined the library, the last one first. Nobody waits for a lock, which
// a forked child could inherit from a thread that it does not have, and no line is ever taken back.
class CompiledNeurons {
 public:
  static void add(const char* name, const NeuronSizes* compiled) {
    const std::string& kept = *new std::string(name);
    auto* line = new NeuronLine{number_of(name), kept.c_str(), NeuronId{},
                                *compiled,       compiled,     first_.load()};
    while (!first_.compare_exchange_weak(line->next, line)) {
    }
  }

  static const NeuronLine* find(int64_t number) {
    const NeuronLine* line = first_.load();
    while (line && line->number != number) line = line->next;
    return line;
  }

 private:
  static inline std::atomic<const NeuronLine*> first_{nullptr};
};

template <class Neuron>
constexpr NeuronSizes sizes_of() {
  return {Neuron::kStates, Neuron::kParams, Neuron::kOutputs, 0, 0};
}

inline const NeuronLine& find_neuron(int64_t number) {
  static constexpr NeuronLine kLines[] = {
#define SNN_LINE(Name, states, params) \
  {number_of(#Name), #Name, NeuronId::Name, sizes_of<Name<HardReset>>(), nullptr, nullptr},
      SNN_FOR_EACH_NEURON(SNN_LINE)
#undef SNN_LINE
  };
  for (const NeuronLine& line : kLines) {
    if (line.number == number) return line;
  }
  const NeuronLine* compiled = CompiledNeurons::find(number);
  STD_TORCH_CHECK(compiled, "neuron: no kernel's name has the number ", number);
  return *compiled;
}

inline SurrogateId find_surrogate(int64_t number) {
  static constexpr std::pair<int64_t, SurrogateId> kLines[] = {
#define SNN_LINE(Name, params) {number_of(#Name), SurrogateId::Name},
      SNN_FOR_EACH_SURROGATE(SNN_LINE)
#undef SNN_LINE
  };
  for (const auto& line : kLines) {
    if (line.first == number) return line.second;
  }
  STD_TORCH_CHECK(false, "surrogate: no kernel's name has the number ", number);
  return SurrogateId{};
}

inline Element element_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Double:
      return Element::kFloat64;
    case ScalarType::Float:
      return Element::kFloat32;
    case ScalarType::Half:
      return Element::kFloat16;
    case ScalarType::BFloat16:
      return Element::kBFloat16;
    default:
      STD_TORCH_CHECK(false, "x: expected float64, float32, float16 or bfloat16");
      return Element{};
  }
}

template <class T>
constexpr ScalarType scalar_type() {
  return sizeof(T) == 8 ? ScalarType::Double : ScalarType::Float;
}

inline int64_t element_bytes(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Bool:
      return 1;
    case ScalarType::Half:
    case ScalarType::BFloat16:
      return 2;
    case ScalarType::Float:
    case ScalarType::Int:
      return 4;
    case ScalarType::Double:
    case ScalarType::Long:
      return 8;
    default:
      STD_TORCH_CHECK(false, "dtype: no operator makes tensors of this one");
      return 0;
  }
}

inline void check_device(const char* name, const Tensor& tensor, const Tensor& x) {
  STD_TORCH_CHECK(tensor.device() == x.device(), name, ": expected the device of x");
}

// The lanes of a sequence [T, ...] are the elements of one step.
inline int64_t lanes_of(const Tensor& sequence) {
  int64_t lanes = 1;
  for (int64_t d = 1; d < sequence.dim(); ++d) lanes *= sequence.size(d);
  return lanes;
}

// The shape of a sequence that has another number of steps than this one.
inline std::vector<int64_t> shape_with(int64_t steps, const Tensor& sequence) {
  const auto sizes = sequence.sizes();
  std::vector<int64_t> shape(sizes.begin(), sizes.end());
  shape[0] = steps;
  return shape;
}

// The shape of so many states: [S, ...], but that of a step where there is one.
inline std::vector<int64_t> shape_of_states(int64_t count, const Tensor& sequence) {
  std::vector<int64_t> shape = shape_with(count, sequence);
  if (count == 1) shape.erase(shape.begin());
  return shape;
}

// Whether the elements of each step lie side by side, in the order of their indices.
inline bool has_dense_steps(const Tensor& sequence) {
  int64_t expected = 1;
  for (int64_t d = sequence.dim() - 1; d > 0; --d) {
    if (sequence.size(d) != 1 && sequence.stride(d) != expected) return false;
    expected *= sequence.size(d);
  }
  return true;
}

// [T, ...], each step dense, like x; [O T, ...] if there are several of them.
inline void check_sequence(const char* name, const Tensor& sequence, const Tensor& x,
                           int64_t count = 1) {
  STD_TORCH_CHECK(sequence.dim() >= 2 && sequence.dim() == x.dim(), name, ": expected [T, ...], ",
                  x.dim() < 2 ? 2 : x.dim(), " dimensions, got ", sequence.dim());
  STD_TORCH_CHECK(sequence.size(0) == count * x.size(0), name, ": expected ", count * x.size(0),
                  " steps, got ", sequence.size(0));
  for (int64_t d = 1; d < x.dim(); ++d) {
    STD_TORCH_CHECK(sequence.size(d) == x.size(d), name, ": expected size ", x.size(d),
                    " in dimension ", d, ", got ", sequence.size(d));
  }
  STD_TORCH_CHECK(sequence.numel() == 0 || has_dense_steps(sequence), name,
                  ": expected steps whose elements lie side by side");
  STD_TORCH_CHECK(sequence.scalar_type() == x.scalar_type(), name, ": expected the dtype of x");
  check_device(name, sequence, x);
}

// A contiguous array of the arithmetic's type with the given shape, where x is.
template <class T>
void check_array(const char* name, const Tensor& array, const Tensor& x,
                 const std::vector<int64_t>& shape) {
  check_device(name, array, x);
  STD_TORCH_CHECK(array.scalar_type() == scalar_type<T>(), name, ": expected float", 8 * sizeof(T));
  STD_TORCH_CHECK(array.is_contiguous(), name, ": expected a contiguous tensor");
  STD_TORCH_CHECK(array.dim() == static_cast<int64_t>(shape.size()), name, ": expected ",
                  shape.size(), " dimensions, got ", array.dim());
  for (size_t d = 0; d < shape.size(); ++d) {
    STD_TORCH_CHECK(array.size(d) == shape[d], name, ": expected size ", shape[d], " in dimension ",
                    d, ", got ", array.size(d));
  }
}

inline std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0; stride *= sizes[d] > 0 ? sizes[d] : 1) strides[d] = stride;
  return strides;
}

// A contiguous tensor of any content where `like` is. Past the dispatcher, whose boxes take several
// times as long as the allocation: there is nothing for it to intercept below the operators.
inline Tensor empty_from_torch(const Tensor& like, const std::vector<int64_t>& sizes,
                               ScalarType dtype) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  const std::vector<int64_t> strides = contiguous_strides(sizes);
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(),
                                                  strides.data(), to<int32_t>(from(dtype)),
                                                  device_type, like.get_device_index(), &made));
  return Tensor(made);
}

template <class T>
const T* pointer(const std::optional<Tensor>& tensor) {
  return tensor ? static_cast<const T*>(tensor->const_data_ptr()) : nullptr;
}

inline int64_t checkpoint_count(int64_t steps, int64_t chunk) {
  const int64_t chunks = (steps + chunk - 1) / chunk;
  return chunks > 1 ? chunks - 1 : 0;
}

// The arguments that forward and backward share, behind the tensors and in the operators' order.
struct Attributes {
  const std::optional<Tensor>& tables;
  int64_t neuron;
  int64_t surrogate;
  HeaderOnlyArrayRef<double> numbers;
  HeaderOnlyArrayRef<int64_t> layout;
  int64_t states;
  int64_t params;
  bool hard_reset;
  bool detach_reset;
  bool decay_input;
  bool spiking;
  int64_t chunk;
  int64_t outputs;

  double initial(int64_t i) const { return numbers[i]; }
  double value(int64_t i) const { return numbers[states + i]; }
  double surrogate_value(int64_t i) const { return numbers[states + params + i]; }
  int64_t surrogate_params() const {
    return static_cast<int64_t>(numbers.size()) - states - params;
  }

  // The values in a parameter's table, 0 where it has none.
  int64_t size_of_table(int64_t i) const { return layout.empty() ? 0 : layout[i]; }
  int64_t inner_of_table(int64_t i) const { return layout[params + i]; }
};

// Reads what Attributes.packed in snnkernels/_backends/operators.py wrote, a tensor of int64: how
// many numbers there are and how long the layout is, the attributes in the order above, these two
// last; of numbers their bits.
inline Attributes unpack(const Tensor& packed, const std::optional<Tensor>& tables) {
  constexpr int64_t kHead = 12;
  STD_TORCH_CHECK(packed.scalar_type() == ScalarType::Long && packed.dim() == 1 &&
                      packed.is_contiguous() && packed.is_cpu() && packed.numel() >= kHead,
                  "packed: expected the attributes as int64 in one dimension, on the CPU");
  const auto* head = static_cast<const int64_t*>(packed.const_data_ptr());
  const int64_t count = head[0], entries = head[1];
  const int64_t room = packed.numel() - kHead;
  STD_TORCH_CHECK(0 <= count && count <= room && entries == room - count, "packed: expected ",
                  count, " numbers and a layout of ", entries, ", got ", room,
                  " integers for them");
  const int64_t* numbers = head + kHead;
  return Attributes{tables,
                    head[2],
                    head[3],
                    {reinterpret_cast<const double*>(numbers), static_cast<size_t>(count)},
                    {numbers + count, static_cast<size_t>(entries)},
                    head[4],
                    head[5],
                    head[6] != 0,
                    head[7] != 0,
                    head[8] != 0,
                    head[9] != 0,
                    head[10],
                    head[11]};
}

// Powers of two have one, as long as it is a normal number.
template <class T>
bool has_exact_inverse(const Parameter<T>& p) {
  int exponent = 0;
  return !p.table && std::frexp(p.value, &exponent) == T(0.5) && std::isnormal(T(1) / p.value);
}

template <class T>
void fill(Scan<T>& call, const Tensor& x, const std::optional<Tensor>& states,
          const Attributes& a) {
  const NeuronLine& line = find_neuron(a.neuron);
  const NeuronSizes& sizes = line.sizes;
  check_sequence("x", x, x);
  const int64_t lanes = lanes_of(x);
  STD_TORCH_CHECK(a.states == sizes.states, "state_count: expected ", sizes.states, ", got ",
                  a.states);
  STD_TORCH_CHECK(a.params == sizes.params, "param_count: expected ", sizes.params, ", got ",
                  a.params);
  STD_TORCH_CHECK(a.surrogate_params() >= 0 && a.surrogate_params() <= kMaxSurrogateParams,
                  "numbers: expected ", a.states + a.params, " and at most ", kMaxSurrogateParams,
                  " of the surrogate, got ", a.numbers.size());
  const int64_t layouts = a.tables || !a.layout.empty() ? 2 * a.params : 0;
  STD_TORCH_CHECK(static_cast<int64_t>(a.layout.size()) == layouts, "layout: expected ", layouts,
                  " entries, got ", a.layout.size());
  STD_TORCH_CHECK(a.outputs == sizes.outputs, "outputs: expected ", sizes.outputs, ", got ",
                  a.outputs);
  if (states) check_array<T>("states", *states, x, shape_of_states(sizes.states, x));

  call.neuron = line.id;
  call.compiled = line.compiled;
  call.element = element_of(x);
  call.hard_reset = a.hard_reset;
  call.spiking = a.spiking;
  call.options = Options{a.detach_reset, a.decay_input, false};
  if (!line.compiled) call.surrogate = find_surrogate(a.surrogate);
  for (int i = 0; i < kMaxSurrogateParams; ++i) {
    const bool given = i < a.surrogate_params();
    call.surrogate_params[i] = given ? static_cast<T>(a.surrogate_value(i)) : T(0);
  }
  call.steps = x.size(0);
  call.lanes = lanes;
  call.x = x.const_data_ptr();
  call.x_stride = x.stride(0);
  call.states = pointer<T>(states);
  for (int i = 0; i < sizes.states; ++i) call.initial[i] = static_cast<T>(a.initial(i));
  int64_t offset = 0;
  for (int i = 0; i < sizes.params; ++i) {
    const int64_t size = a.size_of_table(i);
    call.params[i] = Parameter<T>{static_cast<T>(a.value(i)), nullptr, 1, 1};
    if (size == 0) continue;
    STD_TORCH_CHECK(a.tables, "tables: expected a tensor where layout has a size");
    const int64_t inner = a.inner_of_table(i);
    STD_TORCH_CHECK(size > 0 && inner > 0 && lanes % size == 0 && lanes / size % inner == 0,
                    "tables: ", size, " values of ", inner, " lanes each do not divide ", lanes,
                    " lanes");
    const T* table = static_cast<const T*>(a.tables->const_data_ptr()) + offset;
    STD_TORCH_CHECK(size == 1 || !(sizes.shared >> i & 1u), "layout: '", line.name,
                    "' was compiled for a table of one value, got ", size);
    call.params[i] = Parameter<T>{T(0), table, size, inner};
    call.tables |= 1u << i;
    offset += size;
  }
  if (a.tables) check_array<T>("tables", *a.tables, x, {offset});
  STD_TORCH_CHECK(!line.compiled || call.tables == (sizes.tables | sizes.shared), "layout: '",
                  line.name, "' was compiled for another choice of tables");
  call.options.inverse_is_exact = has_exact_inverse(call.params[0]);
}

// Spikes, v_seq, final states, checkpoints; and the gradients of x, the states and the tables.
// None: not wanted.
using ForwardOutputs = std::tuple<Tensor, std::optional<Tensor>, Tensor, std::optional<Tensor>>;
using BackwardOutputs = std::tuple<Tensor, std::optional<Tensor>, std::optional<Tensor>>;

template <class T, class Driver>
ForwardOutputs run_forward(const Tensor& x, const std::optional<Tensor>& states,
                           const Attributes& a, bool store_v, bool keep) {
  Forward<T> call{};
  fill(call, x, states, a);
  const int64_t steps = call.steps, lanes = call.lanes;
  const int64_t count = a.states;
  const int64_t saved = keep ? checkpoint_count(steps, Driver::kChunk) : 0;
  Tensor spikes = Driver::empty(x, shape_with(a.outputs * steps, x), x.scalar_type());
  std::optional<Tensor> v_seq, checkpoints;
  if (store_v) v_seq = Driver::empty(x, shape_with(steps, x), x.scalar_type());
  Tensor final_states = Driver::empty(x, shape_of_states(count, x), scalar_type<T>());
  if (saved) checkpoints = Driver::empty(x, {saved * count * lanes}, scalar_type<T>());
  call.spikes = spikes.mutable_data_ptr();
  call.v_seq = v_seq ? v_seq->mutable_data_ptr() : nullptr;
  call.final_states = static_cast<T*>(final_states.mutable_data_ptr());
  call.checkpoints = checkpoints ? static_cast<T*>(checkpoints->mutable_data_ptr()) : nullptr;
  if (lanes > 0) Driver::launch(call, x);
  return {spikes, v_seq, final_states, checkpoints};
}

template <class T, class Driver>
BackwardOutputs run_backward(const Tensor& x, const std::optional<Tensor>& states,
                             const std::optional<Tensor>& checkpoints,
                             const std::optional<Tensor>& grad_spikes,
                             const std::optional<Tensor>& grad_v_seq,
                             const std::optional<Tensor>& grad_states, const Attributes& a,
                             bool table_grads) {
  Backward<T> call{};
  fill(call, x, states, a);
  const int64_t steps = call.steps, lanes = call.lanes;
  const int64_t count = a.states, rows = table_grads ? __builtin_popcount(call.tables) : 0;
  const int64_t saved = checkpoint_count(steps, Driver::kChunk) * count * lanes;
  STD_TORCH_CHECK(checkpoints || saved == 0, "checkpoints: expected ", saved, " elements");
  if (checkpoints) check_array<T>("checkpoints", *checkpoints, x, {saved});
  if (grad_spikes) check_sequence("grad_spikes", *grad_spikes, x, a.outputs);
  if (grad_v_seq) check_sequence("grad_v_seq", *grad_v_seq, x);
  if (grad_states) check_array<T>("grad_states", *grad_states, x, shape_of_states(count, x));
  Tensor grad_x = Driver::empty(x, shape_with(steps, x), x.scalar_type());
  std::optional<Tensor> grad_initial, grad_params;
  if (states) grad_initial = Driver::empty(x, shape_of_states(count, x), scalar_type<T>());
  if (rows) grad_params = Driver::empty(x, {rows, lanes}, scalar_type<T>());
  call.checkpoints = pointer<T>(checkpoints);
  call.grad_spikes = pointer<void>(grad_spikes);
  call.grad_spikes_stride = grad_spikes ? grad_spikes->stride(0) : 0;
  call.grad_v_seq = pointer<void>(grad_v_seq);
  call.grad_v_seq_stride = grad_v_seq ? grad_v_seq->stride(0) : 0;
  call.grad_states = pointer<T>(grad_states);
  call.grad_x = grad_x.mutable_data_ptr();
  call.grad_initial = states ? static_cast<T*>(grad_initial->mutable_data_ptr()) : nullptr;
  auto* sums = rows ? static_cast<T*>(grad_params->mutable_data_ptr()) : nullptr;
  for (int64_t i = 0; rows && i < a.params; ++i) {
    if (!(call.tables >> i & 1u)) continue;
    call.grad_params[i] = sums;
    sums += lanes;
  }
  if (lanes > 0) Driver::launch(call, x);
  return {grad_x, grad_initial, grad_params};
}

// The operators' implementations for a device: Driver has kChunk, launch(call, x) for every
// call, and empty(like, sizes, dtype) for their outputs.
template <class Driver>
struct Operators {
  using FullForwardOutputs = std::tuple<Tensor, Tensor, Tensor, Tensor>;
  using FullBackwardOutputs = std::tuple<Tensor, Tensor, Tensor>;

  static FullForwardOutputs scan_forward(Tensor x, std::optional<Tensor> states,
                                         std::optional<Tensor> tables, int64_t neuron,
                                         int64_t surrogate, std::vector<double> numbers,
                                         std::vector<int64_t> layout, int64_t state_count,
                                         int64_t param_count, bool hard_reset, bool detach_reset,
                                         bool decay_input, bool spiking, int64_t chunk,
                                         int64_t outputs, bool store_v, bool keep) {
    const Attributes a{tables,      neuron,      surrogate,  numbers,      layout,
                       state_count, param_count, hard_reset, detach_reset, decay_input,
                       spiking,     chunk,       outputs};
    const auto [spikes, v_seq, final_states, checkpoints] = forward(x, states, a, store_v, keep);
    const ScalarType wide = final_states.scalar_type();
    return {spikes, v_seq ? *v_seq : Driver::empty(x, shape_with(0, x), x.scalar_type()),
            final_states, checkpoints ? *checkpoints : Driver::empty(x, {0}, wide)};
  }

  static FullBackwardOutputs scan_backward(
      Tensor x, std::optional<Tensor> states, std::optional<Tensor> tables, Tensor checkpoints,
      std::optional<Tensor> grad_spikes, std::optional<Tensor> grad_v_seq,
      std::optional<Tensor> grad_states, int64_t neuron, int64_t surrogate,
      std::vector<double> numbers, std::vector<int64_t> layout, int64_t state_count,
      int64_t param_count, bool hard_reset, bool detach_reset, bool decay_input, bool spiking,
      int64_t chunk, int64_t outputs, bool table_grads) {
    const Attributes a{tables,      neuron,      surrogate,  numbers,      layout,
                       state_count, param_count, hard_reset, detach_reset, decay_input,
                       spiking,     chunk,       outputs};
    const auto [grad_x, grad_initial, sums] =
        backward(x, states, checkpoints, grad_spikes, grad_v_seq, grad_states, a, table_grads);
    const ScalarType wide = checkpoints.scalar_type();
    return {grad_x, grad_initial ? *grad_initial : Driver::empty(x, {0}, wide),
            sums ? *sums : Driver::empty(x, {0, lanes_of(x)}, wide)};
  }

  static ForwardOutputs eager_forward(Tensor x, std::optional<Tensor> states,
                                      std::optional<Tensor> tables, Tensor packed, bool store_v,
                                      bool keep) {
    return forward(x, states, unpack(packed, tables), store_v, keep);
  }

  static BackwardOutputs eager_backward(Tensor x, std::optional<Tensor> states,
                                        std::optional<Tensor> tables,
                                        std::optional<Tensor> checkpoints,
                                        std::optional<Tensor> grad_spikes,
                                        std::optional<Tensor> grad_v_seq,
                                        std::optional<Tensor> grad_states, Tensor packed,
                                        bool table_grads) {
    return backward(x, states, checkpoints, grad_spikes, grad_v_seq, grad_states,
                    unpack(packed, tables), table_grads);
  }

 private:
  static ForwardOutputs forward(const Tensor& x, const std::optional<Tensor>& states,
                                const Attributes& a, bool store_v, bool keep) {
    check_chunk(a);
    return x.scalar_type() == ScalarType::Double
               ? run_forward<double, Driver>(x, states, a, store_v, keep)
               : run_forward<float, Driver>(x, states, a, store_v, keep);
  }

  static BackwardOutputs backward(const Tensor& x, const std::optional<Tensor>& states,
                                  const std::optional<Tensor>& checkpoints,
                                  const std::optional<Tensor>& grad_spikes,
                                  const std::optional<Tensor>& grad_v_seq,
                                  const std::optional<Tensor>& grad_states, const Attributes& a,
                                  bool table_grads) {
    check_chunk(a);
    return x.scalar_type() == ScalarType::Double
               ? run_backward<double, Driver>(x, states, checkpoints, grad_spikes, grad_v_seq,
                                              grad_states, a, table_grads)
               : run_backward<float, Driver>(x, states, checkpoints, grad_spikes, grad_v_seq,
                                             grad_states, a, table_grads);
  }

  static void check_chunk(const Attributes& a) {
    STD_TORCH_CHECK(a.chunk == Driver::kChunk, "chunk: this library was built for ", Driver::kChunk,
                    ", got ", a.chunk);
  }
};

template <class Driver>
void implement_scans(torch::stable::detail::StableLibrary& m) {
  using Implemented = Operators<Driver>;
  m.impl("scan_forward", TORCH_BOX(&Implemented::scan_forward));
  m.impl("scan_backward", TORCH_BOX(&Implemented::scan_backward));
  m.impl("eager_forward", TORCH_BOX(&Implemented::eager_forward));
  m.impl("eager_backward", TORCH_BOX(&Implemented::eager_backward));
}

}  // namespace snn

// Each device's library takes in neurons that were compiled by themselves, under the given names.
#define SNN_DEFINE_ADD_COMPILED_NEURON                                            \
  extern "C" __attribute__((visibility("default"))) void snn_add_compiled_neuron( \
      const char* name, const snn::NeuronSizes* compiled) {                       \
    snn::CompiledNeurons::add(name, compiled);                                    \
  }
