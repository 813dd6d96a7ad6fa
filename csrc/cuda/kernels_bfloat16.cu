// The scan on sequences of bfloat16.
#include "enqueue.cuh"

SNN_ENQUEUE_ELEMENTS(__nv_bfloat16, float)
