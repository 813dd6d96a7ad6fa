"""Contenders that stand in for the kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.contenders import Contender, LocalRun, Outcome, Workload, bind, make_forward

Alter = Callable[[Outcome], Outcome]


def altered(alter: Alter, name: str = "native") -> Contender:
    """A fused contender that gives the reference's outcome, altered."""

    def prepare(workload: Workload) -> LocalRun:
        call = bind(make_forward(workload.case, "torch"), workload)
        return LocalRun(lambda: alter(call()), workload)

    return Contender(name, "fused", prepare)


def flip_one_spike(outcome: Outcome) -> Outcome:
    spikes = outcome.spikes.clone()
    spikes[2, 1, 3] = 1 - spikes[2, 1, 3]
    return replace(outcome, spikes=spikes)
