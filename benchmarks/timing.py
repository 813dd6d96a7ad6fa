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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

BLOCK_SECONDS = 0.02
MAX_BLOCK_CALLS = 64
MIN_ROUNDS = 3
MAX_ROUNDS = 200

Call = Callable[[], object]


class Clock(Protocol):
    """Times calls on one kind of device."""

    def samples(self, call: Call, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...


class CpuClock:
    """Wall time of each call."""

    def samples(self, call: Call, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        return seconds


class CudaClock:
    """Time between events around each call; the device is synchronised around the block.

    Where the host is slower than the device, the gaps between kernels are inside the events and so
    are counted.
    """

    def samples(self, call: Call, count: int) -> list[float]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
        torch.cuda.synchronize()
        events[0].record()
        for event in events[1:]:
            call()
            event.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in zip(events, events[1:], strict=False)]


def clock_for(device: str) -> Clock:
    """The clock of a device type."""
    return CudaClock() if device == "cuda" else CpuClock()


class Timed(Protocol):
    """Whatever can be timed: here in this process, or in one of its own."""

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...


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
    round_medians: tuple[float, ...]

    @property
    def iqr(self) -> float:
        """Interquartile range in seconds."""
        return self.q3 - self.q1


def summarize(rounds: list[list[float]]) -> Summary:
    """Summary of the samples of one contender, given by round."""
    samples = sorted(sample for block in rounds for sample in block)
    if len(samples) > 1:
        q1, median, q3 = statistics.quantiles(samples, n=4, method="inclusive")
    else:
        q1 = median = q3 = samples[0]
    return Summary(
        median=median,
        q1=q1,
        q3=q3,
        minimum=samples[0],
        maximum=samples[-1],
        count=len(samples),
        rounds=len(rounds),
        round_medians=tuple(statistics.median(block) for block in rounds),
    )


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


@dataclass(frozen=True)
class TimedCall:
    """A call of this process on a device, for :func:`interleave`."""

    call: Call
    device: str

    def samples(self, count: int) -> list[float]:
        return clock_for(self.device).samples(self.call, count)


def time_calls(calls: Mapping[str, Call], device: str, budget: float) -> dict[str, Summary]:
    """Warm the calls up and time them in turns."""
    for call in calls.values():
        call()
    return interleave({name: TimedCall(call, device) for name, call in calls.items()}, budget)
