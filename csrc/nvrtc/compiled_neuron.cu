// A kernel of a neuron that is compiled by itself, for NVRTC, which is asked for it by name.
// SNN_NEURON, SNN_SURROGATE, SNN_TABLES and SNN_SHARED are what it is compiled for, the numbers
// what its caller takes it for.
#include "cuda/scan.cuh"
#include "neuron.h"

namespace snn {

using Traits = ScanTraits<SNN_NEURON, Inline<SNN_SURROGATE>, SNN_TABLES, SNN_SHARED>;

static_assert(Traits::kStates == SNN_STATES, "state_count: not one number for each state");
static_assert(Traits::kParams == SNN_PARAMS, "param_count: not one number for each parameter");
static_assert(Traits::kOutputs == SNN_OUTPUTS, "outputs: not those of the neuron");

}  // namespace snn
