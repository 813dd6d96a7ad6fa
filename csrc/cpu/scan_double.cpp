#include "select.h"

namespace snn::cpu {

void scan(const Forward<double>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

void scan(const Backward<double>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

}  // namespace snn::cpu
