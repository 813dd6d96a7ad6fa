// A kernel of a neuron of the registry, for NVRTC, which is asked for it by name.
#include "cuda/bfloat16.cuh"
#include "cuda/float16.cuh"
#include "cuda/scan.cuh"
