// What the kernels offer to the drivers.
#pragma once

#include "../include/snnkernels/spike_linear.h"

namespace snn::cpu {

// The scan over lanes [begin, end).
void scan(const Forward<float>& call, int64 begin, int64 end);
void scan(const Forward<double>& call, int64 begin, int64 end);
void scan(const Backward<float>& call, int64 begin, int64 end);
void scan(const Backward<double>& call, int64 begin, int64 end);

// Tasks [begin, end), one for each step of each SNN_CPU_ENCODE_LANES lanes.
void encode(const Encode& call, int64 begin, int64 end);

// Words [begin, end); whether all their elements are 0 or 1.
bool pack(const PackSpikes& call, int64 begin, int64 end);
void unpack(const UnpackSpikes& call, int64 begin, int64 end);

// The weights of inputs [begin, end) in panels, then rows [begin, end) of y.
void arrange(const SpikeLinear& call, int64 begin, int64 end);
void multiply(const SpikeLinear& call, int64 begin, int64 end);

// 32 columns of x each, then the gradient for inputs [begin, end).
void transpose(const SpikeLinearWeight& call, int64 begin, int64 end);
void multiply(const SpikeLinearWeight& call, int64 begin, int64 end);

}  // namespace snn::cpu
