"""Benchmarks of snnkernels: run ``python -m benchmarks`` from a checkout.

A case (``case.py``) is done by contenders, in this process (``suites.py``) or as peers in processes
of their own (``peers/``), on one set of networks (``networks.py``) and inputs (``workloads.py``).
One measurement (``measure.py``) prepares them, compares their results, times them in turns
(``timing.py``) and takes their memory (``memory.py``). It finds rows (``results.py``), which are
shown as tables, pictures and pages (``tables.py``, ``picture.py``, ``pages.py``).
"""

import os

# The profiler that counts allocations would report its every start and stop on stderr; it reads
# this when torch is loaded.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")
