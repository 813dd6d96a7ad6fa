// Launch constants of every backend, in one place.
#pragma once

// Steps between two checkpoints of the state.
#define SNN_CPU_CHUNK 16
#define SNN_CUDA_CHUNK 4

// Lanes that one pass of the CPU kernels keeps in the first-level cache.
#define SNN_CPU_LANES 256

// Bytes of adjacent lanes that the CPU's forward kernel takes through all steps at once, at most 16
// vectors, and half as many where a neuron has more than two states. With few registers some states
// lie in the first-level cache, which costs less than a narrow tile: each step is a jump in memory,
// and too few lines of one are on their way at a time.
#define SNN_CPU_TILE_BYTES 512

// Outputs of more bytes than this are stored past the CPU's caches: what would only be evicted
// again then spares the caches, and the read of each line before it is written.
#define SNN_CPU_STREAM_BYTES 4194304

// Lanes that a task of the CPU's encoder draws for one step.
#define SNN_CPU_ENCODE_LANES 2048

// Linear layers on spikes, on the CPU. Vectors of outputs that stay in registers while spikes are
// added to them; inputs whose weights, and rows whose gradients, for those outputs stay in the
// second-level cache, and are summed on their own. A product is taken so where at most so much of x
// fired, there are so many rows to share the rearranged weight and so many inputs and outputs to
// share the look at a row's bits, and a dense one would take so many multiplications.
#define SNN_CPU_PANEL 8
#define SNN_CPU_LINEAR_INPUTS 1024
#define SNN_CPU_LINEAR_ROWS 128
#define SNN_CPU_LINEAR_MAX_PERCENT 30
#define SNN_CPU_LINEAR_MIN_ROWS 128
#define SNN_CPU_LINEAR_MIN_INPUTS 32
#define SNN_CPU_LINEAR_MIN_OUTPUTS 8
#define SNN_CPU_LINEAR_MIN_PRODUCTS 4194304

// Steps that a thread of the CUDA encoder draws for its four lanes.
#define SNN_CUDA_ENCODE_STEPS 8

// Bytes of adjacent lanes that a thread of the CUDA kernels reads at once, where the layout allows
// it and there are at least so many lanes to a multiprocessor: with fewer it owns one lane. It owns
// at most so many where it keeps the sums of the parameters' gradients, for want of registers.
// Threads of at most so many lanes load a chunk while they compute another.
#define SNN_CUDA_ACCESS_BYTES 8
#define SNN_CUDA_FEW_LANES 1024
#define SNN_CUDA_SUMS_LANES 2
#define SNN_CUDA_AHEAD_LANES 1

// Threads per block of the CUDA kernels: fewer, down to one warp, where lanes are few.
#define SNN_CUDA_THREADS 128
#define SNN_CUDA_WARP 32

// Blocks of the larger kernels that fit a multiprocessor at least: caps of 96 registers to a
// thread, and of 128 where each lane has parameters of its own.
#define SNN_CUDA_BLOCKS 5
#define SNN_CUDA_TABLE_BLOCKS 4
