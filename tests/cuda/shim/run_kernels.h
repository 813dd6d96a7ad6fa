// The kernels of one type of element, as calls on the host.
#pragma once

#include "cuda/grid.h"

#define SHIM_DECLARE(name, T)                                          \
  void name(const snn::Forward<T>& call, const snn::cuda::Grid& grid); \
  void name(const snn::Backward<T>& call, const snn::cuda::Grid& grid);

SHIM_DECLARE(run_float64, double)
SHIM_DECLARE(run_float32, float)
SHIM_DECLARE(run_float16, float)
SHIM_DECLARE(run_bfloat16, float)

void run_spikes(const snn::Encode& call);
void run_spikes(const snn::PackSpikes& call);
void run_spikes(const snn::UnpackSpikes& call);
