#include "scan_block.h"

namespace snn::cpu::SNN_CPU_ISA {

void Kernels::scan(const Forward<float>& call, int64 begin, int64 end, int width) {
  scan_lanes(call, begin, end, width);
}

void Kernels::scan(const Backward<float>& call, int64 begin, int64 end, int width) {
  scan_lanes(call, begin, end, width);
}

}  // namespace snn::cpu::SNN_CPU_ISA
