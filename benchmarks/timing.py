"""Timing: contenders take turns in short blocks, so that the machine's drift hits all of them.

A round gives every contender one block of calls; the order is reversed from round to round. A block
lasts about ``BLOCK_SECONDS``; one of several calls is preceded by a call that is not counted, which
brings the contender's own data back into the caches. Rounds go on until the budget of the case is
spent, and at least ``MIN_ROUNDS`` times; a contender too slow for that may leave earlier. Every
call is one sample; the spread that is shown is the interquartile range.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

BLOCK_SECONDS = 0.02
MAX_BLOCK_CALLS = 64
MIN_ROUNDS = 3
MAX_ROUNDS = 200

Call = Callable[[], object]


class Timed(Protocol):
    """Whatever can be timed: here in this process, or in one of its own."""

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...


@dataclass(frozen=True)
class TimedCall:
    """A call on a device, timed by the wall clock, or on a GPU by events around each call.

    Where the host is slower than the GPU, the gaps between kernels are inside the events and so
    are counted.
    """

    call: Call
    device: str = "cpu"

    def samples(self, count: int) -> list[float]:
        return self._by_events(count) if self.device == "cuda" else self._by_clock(count)

    def _by_clock(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self.call()
            seconds.append(time.perf_counter() - start)
        return seconds

    def _by_events(self, count: int) -> list[float]:
        import torch

        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        torch.cuda.synchronize()
        events[0].record()
        for event in events[1:]:
            self.call()
            event.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in zip(events, events[1:], strict=False)]


@dataclass(frozen=True)
class Summary:
    """Seconds per call: median, quartiles, extremes of ``count`` samples in ``rounds`` rounds."""

    median: float
    q1: float
    q3: float
    minimum: float
    maximum: float
    count: int
    rounds: int


def summarize(rounds: Sequence[Sequence[float]]) -> Summary:
    """Summary of the samples of one contender, given by round."""
    samples = sorted(sample for block in rounds for sample in block)
    if len(samples) > 1:
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    else:
        q1 = median = q3 = samples[0]
    return Summary(median, q1, q3, samples[0], samples[-1], len(samples), len(rounds))


def block_calls(estimate: float) -> int:
    """Calls in a block, given the seconds that one call takes."""
    return max(1, min(MAX_BLOCK_CALLS, int(BLOCK_SECONDS / max(estimate, 1e-9))))


def interleave(
    contenders: Mapping[str, Timed],
    budget: float,
    *,
    min_rounds: int = MIN_ROUNDS,
    max_rounds: int = MAX_ROUNDS,
    patience: float = math.inf,
    pause: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, Summary]:
    """Time the contenders in turns for about ``budget`` seconds and summarise each.

    They must be warm: the first call here already sets the size of their first blocks, and one that
    is faster later makes them larger. A contender that has spent ``patience`` seconds of samples
    takes no part in further rounds. ``pause`` seconds lie between blocks, for the threads of a
    contender in another process to fall asleep.
    """
    calls = {name: block_calls(run.samples(1)[0]) for name, run in contenders.items()}
    rounds: dict[str, list[list[float]]] = {name: [] for name in contenders}
    order = list(contenders)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        start = now()
        done = 0
        while done < min_rounds or (now() - start < budget and done < max_rounds):
            for name in order:
                if sum(map(sum, rounds[name])) < patience:
                    block = _block(contenders[name], calls[name])
                    rounds[name].append(block)
                    calls[name] = max(calls[name], block_calls(min(block)))
                    time.sleep(pause)
            order.reverse()
            done += 1
    finally:
        if collecting:
            gc.enable()
    return {name: summarize(blocks) for name, blocks in rounds.items()}


def _block(run: Timed, count: int) -> list[float]:
    if count == 1:
        return run.samples(1)
    return run.samples(count + 1)[1:]
