"""The bytes model: the one place that says how many bytes a case and a copy must move.

Inference reads x and writes the spikes: 2 accesses per element-step, 8 bytes in float32. Training
reads x and writes the spikes, then reads x and the upstream gradient and writes the gradient of x:
5 accesses, 20 bytes. States, parameters and whatever a contender keeps for its backward are not
counted: this is the work that every implementation has to do, so a share of the copy bandwidth
says how far it is from the least time possible.

A copy is measured over the same footprint: the distinct tensors of the case (2 in inference; x,
spikes, upstream gradient and gradient of x in training) make up source and destination, half each,
and the copy's bytes are those read plus those written. ``copy`` writes into a destination that
exists already, ``clone`` into fresh memory, as a function that returns a new tensor must.
"""

from __future__ import annotations

from benchmarks.cases import Case

ACCESSES = {"inference": 2, "training": 5}
TENSORS = {"inference": 2, "training": 4}


def traffic_bytes(case: Case) -> int:
    """Bytes that the case reads and writes at least."""
    return ACCESSES[case.mode] * case.input_bytes


def footprint_bytes(case: Case) -> int:
    """Bytes of the distinct tensors that the case touches."""
    return TENSORS[case.mode] * case.input_bytes


def copy_elements(case: Case) -> int:
    """Elements of the copy's source, and of its destination."""
    return TENSORS[case.mode] * case.elements // 2


def copy_bytes(case: Case) -> int:
    """Bytes that the copy reads plus those that it writes: the footprint of the case."""
    return footprint_bytes(case)


def share(traffic: int, seconds: float, copied: int, copy_seconds: float) -> float:
    """Bandwidth of a contender as a fraction of the bandwidth of the copy."""
    return (traffic / seconds) / (copied / copy_seconds)
