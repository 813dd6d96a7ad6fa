// The scan on sequences of float16.
#include "enqueue.cuh"

SNN_ENQUEUE_ELEMENTS(__half, float)
