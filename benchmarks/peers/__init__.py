"""What others offer, measured beside ours in one run: ``python -m benchmarks peers``.

Each peer runs in a process of its own, which finds its packages in a folder of their own that
``install`` filled from ``requirements/``, and does there what the main process asks for
(``process.py``, ``worker.py``).

To add a peer, write one file in ``adapters/``, which equations it computes and how its neuron is
called, and one in ``requirements/``. Nothing else has to be touched.
"""
