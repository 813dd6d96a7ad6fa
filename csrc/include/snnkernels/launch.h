// Launch constants of every backend, in one place; SNNKERNELS_LAUNCH sets others for a sweep.
#pragma once

// Steps between two checkpoints of the state.
#ifndef SNN_CPU_CHUNK
#define SNN_CPU_CHUNK 16
#endif
#ifndef SNN_CUDA_CHUNK
#define SNN_CUDA_CHUNK 4
#endif

// Lanes that one pass of the CPU kernels keeps in the first-level cache.
#ifndef SNN_CPU_LANES
#define SNN_CPU_LANES 256
#endif

// Bytes of adjacent lanes that the CPU's forward kernel takes through all steps at once, at most 16
// vectors, and half as many where a neuron has more than two states. With few registers some states
// lie in the first-level cache, which costs less than a narrow tile: each step is a jump in memory,
// and too few lines of one are on their way at a time.
#ifndef SNN_CPU_TILE_BYTES
#define SNN_CPU_TILE_BYTES 512
#endif

// Outputs of more bytes than this are stored past the CPU's caches: what would only be evicted
// again then spares the caches, and the read of each line before it is written.
#ifndef SNN_CPU_STREAM_BYTES
#define SNN_CPU_STREAM_BYTES 4194304
#endif

// Lanes that a task of the CPU's encoder draws for one step.
#ifndef SNN_CPU_ENCODE_LANES
#define SNN_CPU_ENCODE_LANES 2048
#endif

// Linear layers on spikes, on the CPU. Vectors of outputs that stay in registers while spikes are
// added to them; inputs whose weights, and rows whose gradients, for those outputs stay in the
// second-level cache, and are summed on their own. A product is taken so where at most so much of x
// fired, there are so many rows to share the rearranged weight and so many inputs and outputs to
// share the look at a row's bits, and a dense one would take so many multiplications.
#ifndef SNN_CPU_PANEL
#define SNN_CPU_PANEL 8
#endif
#ifndef SNN_CPU_LINEAR_INPUTS
#define SNN_CPU_LINEAR_INPUTS 1024
#endif
#ifndef SNN_CPU_LINEAR_ROWS
#define SNN_CPU_LINEAR_ROWS 128
#endif
#ifndef SNN_CPU_LINEAR_MAX_PERCENT
#define SNN_CPU_LINEAR_MAX_PERCENT 30
#endif
#ifndef SNN_CPU_LINEAR_MIN_ROWS
#define SNN_CPU_LINEAR_MIN_ROWS 128
#endif
#ifndef SNN_CPU_LINEAR_MIN_INPUTS
#define SNN_CPU_LINEAR_MIN_INPUTS 32
#endif
#ifndef SNN_CPU_LINEAR_MIN_OUTPUTS
#define SNN_CPU_LINEAR_MIN_OUTPUTS 8
#endif
#ifndef SNN_CPU_LINEAR_MIN_PRODUCTS
#define SNN_CPU_LINEAR_MIN_PRODUCTS 4194304
#endif

// Steps that a thread of the CUDA encoder draws for its four lanes.
#ifndef SNN_CUDA_ENCODE_STEPS
#define SNN_CUDA_ENCODE_STEPS 8
#endif

// Bytes of adjacent lanes that a thread of the CUDA kernels reads at once, forward and backward,
// where the layout allows it and there are at least so many lanes to a multiprocessor: with fewer
// it owns one lane. It owns at most so many where it keeps sums of the parameters' gradients for
// each, for want of registers. Threads of at most so many lanes load a chunk while they compute
// another.
#ifndef SNN_CUDA_FORWARD_BYTES
#define SNN_CUDA_FORWARD_BYTES 16
#endif
#ifndef SNN_CUDA_BACKWARD_BYTES
#define SNN_CUDA_BACKWARD_BYTES 8
#endif
#ifndef SNN_CUDA_FEW_LANES
#define SNN_CUDA_FEW_LANES 1024
#endif
#ifndef SNN_CUDA_SUMS_LANES
#define SNN_CUDA_SUMS_LANES 2
#endif
#ifndef SNN_CUDA_AHEAD_LANES
#define SNN_CUDA_AHEAD_LANES 1
#endif

// Threads per block of the CUDA kernels: fewer, down to one warp, where lanes are few.
#ifndef SNN_CUDA_THREADS
#define SNN_CUDA_THREADS 128
#endif
#ifndef SNN_CUDA_WARP
#define SNN_CUDA_WARP 32
#endif

// Blocks of the library's own CUDA kernels that fit a multiprocessor at least: a cap of 168
// registers to a thread.
#ifndef SNN_CUDA_BLOCKS
#define SNN_CUDA_BLOCKS 3
#endif
