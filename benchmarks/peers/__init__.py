"""What others offer, measured beside ours in one run: ``python -m benchmarks --peers``.

Each peer runs in a process of its own, in an environment of its own that ``--install-peers`` made
(``install.py``), and does there what the main process asks for (``process.py``, ``worker.py``).

To add a peer, write one file in ``adapters/``: what to install, which equations it computes, and
how its neuron is called. Nothing else has to be touched.
"""
