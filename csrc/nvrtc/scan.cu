// A kernel of a neuron of the registry, for NVRTC, which is asked for it by name.
#include "cuda/scan.cuh"
