// Launch constants of every backend, in one place.
#pragma once

// Steps between two checkpoints of the state.
#define SNN_CPU_CHUNK 16
#define SNN_CUDA_CHUNK 8

// Lanes that one pass of the CPU kernels keeps in the first-level cache.
#define SNN_CPU_LANES 128

// Bytes per access and threads per block of the CUDA kernels.
#define SNN_CUDA_VECTOR_BYTES 8
#define SNN_CUDA_THREADS 128
