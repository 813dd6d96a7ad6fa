#include "select.h"

namespace snn::cpu::SNN_CPU_ISA {

void Kernels::scan(const Forward<double>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

void Kernels::scan(const Backward<double>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

}  // namespace snn::cpu::SNN_CPU_ISA
