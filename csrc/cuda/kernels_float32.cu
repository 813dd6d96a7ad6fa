// The scan on sequences of float32.
#include "enqueue.cuh"

SNN_ENQUEUE_ELEMENTS(float, float)
