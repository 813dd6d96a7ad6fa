// A kernel on spikes that need no neuron, for NVRTC, which is asked for it by name.
#include "cuda/spikes.cuh"
