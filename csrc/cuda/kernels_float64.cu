// The scan on sequences of float64.
#include "enqueue.cuh"

SNN_ENQUEUE_ELEMENTS(double, double)
