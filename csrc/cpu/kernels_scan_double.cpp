#include "scan_block.h"

namespace snn::cpu::SNN_CPU_ISA {

void scan(const Forward<double>& call, int64 begin, int64 end, int width) {
  scan_lanes(call, begin, end, width);
}

void scan(const Backward<double>& call, int64 begin, int64 end, int width) {
  scan_lanes(call, begin, end, width);
}

}  // namespace snn::cpu::SNN_CPU_ISA
