"""Benchmarks of snnkernels: run ``python -m benchmarks`` from a checkout."""

import os

# The profiler that counts allocations would report its every start and stop on stderr; it reads
# this when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
