// Which scan a call of one of the library's neurons runs.
#pragma once

#include <cmath>

#include "scan.h"

namespace snn::cpu {

template <class T>
bool is_plus_zero(const Parameter<T>& p) {
  return !p.table && p.value == 0 && !std::signbit(p.value);
}

// In float64, which is for checking rather than for speed, the general scan makes the build short.
template <class Call>
void scan_neuron(const Call& call, int64 begin, int64 end) {
  with_neuron(call, [&](auto neuron) {
    using Neuron = decltype(neuron);
    if constexpr (std::is_base_of_v<Scan<float>, Call>) {
      if ((call.tables & ~Neuron::kLearnt) == 0) {
        if (call.spiking && call.hard_reset && is_plus_zero(call.params[Neuron::kReset])) {
          using ResetToZero = typename Neuron::template WithReset<ZeroReset>;
          return scan_lanes<ScanTraits<ResetToZero, Switched, Neuron::kLearnt>>(call, begin, end);
        }
        return scan_lanes<ScanTraits<Neuron, Switched, Neuron::kLearnt>>(call, begin, end);
      }
    }
    scan_lanes<ScanTraits<Neuron, Switched, kAllTables>>(call, begin, end);
  });
}

}  // namespace snn::cpu
