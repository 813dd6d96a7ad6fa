"""Benchmarks of snnkernels: run ``python -m benchmarks`` from a checkout."""
