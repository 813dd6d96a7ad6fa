#include "select.h"

namespace snn::cpu {

void scan(const Forward<float>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

void scan(const Backward<float>& call, int64 begin, int64 end) {
  scan_neuron(call, begin, end);
}

}  // namespace snn::cpu
