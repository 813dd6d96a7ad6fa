// The operators and their implementation on the CPU; cuda/driver.cpp has the one for GPUs. One
// unit, because torch's headers take longer to compile than all that is in it.
#include "cpu/driver.h"
#include "schemas.h"

STABLE_TORCH_LIBRARY(snnkernels, m) {
  snn::define_operators(m);
}

STABLE_TORCH_LIBRARY_IMPL(snnkernels, CPU, m) {
  using Operators = snn::Operators<snn::cpu::Driver>;
  m.impl("scan_forward", TORCH_BOX(&Operators::scan_forward));
  m.impl("scan_backward", TORCH_BOX(&Operators::scan_backward));
}

SNN_DEFINE_ADD_UNIT
