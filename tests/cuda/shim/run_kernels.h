// The kernels as calls on the host.
#pragma once

#include "cuda/grid.h"

// The scan on elements of type E.
template <class E, class Call>
void run(const Call& call, const snn::cuda::Grid& grid);

void run_spikes(const snn::Encode& call);
void run_spikes(const snn::PackSpikes& call);
void run_spikes(const snn::UnpackSpikes& call);
