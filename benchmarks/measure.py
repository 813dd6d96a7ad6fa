"""Measures a case: prepares its contenders, compares them, times them in turns, then their memory.

What is found is a row for each contender, whose columns every table, picture and file is made from.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from benchmarks.case import KEYS, Case, Job, Unavailable
from benchmarks.compare import KERNELS, Verdict, judge
from benchmarks.timing import Summary, Timed, TimedCall, interleave

Prepare = Callable[[], Job]
Tell = Callable[[str], None]
Row = dict[str, Any]

COPIES = ("copy", "clone")
TIMES = tuple(field.name for field in fields(Summary))
MAY_DIFFER = ("compile",)
"""What rounds otherwise, and is timed all the same."""


class TurnFailed(Exception):
    """A contender that failed while it was timed, and why."""

    def __init__(self, name: str, reason: Exception) -> None:
        super().__init__(str(reason))
        self.name, self.reason = name, reason


@dataclass(frozen=True)
class Turn:
    """What is timed, by its name."""

    name: str
    timed: Timed

    def samples(self, count: int) -> list[float]:
        try:
            return self.timed.samples(count)
        except Unavailable as reason:
            raise TurnFailed(self.name, reason) from reason
        except torch.OutOfMemoryError as error:
            raise TurnFailed(self.name, Unavailable("out of memory")) from error


class Measurement:
    """One case and what was found of it so far.

    Args:
        case: what is done.
        contenders: ways to do it; the last is the reference that results are compared with.
        budget: seconds of timing.
        tell: hears of each stage.
        spikes: whether the output is spikes, which have to be equal to the bit.
        timed: who is timed, all if None; the reference may be there for its results alone.
    """

    rounds: Mapping[str, Any] = {}
    """How turns are taken, see ``benchmarks.timing.interleave``."""

    def __init__(
        self,
        case: Case,
        contenders: Mapping[str, Prepare],
        budget: float,
        tell: Tell = lambda text: None,
        *,
        spikes: bool = True,
        timed: Container[str] | None = None,
    ) -> None:
        self.case, self.contenders, self.budget, self.spikes = case, contenders, budget, spikes
        self.tell, self.timed = tell, timed
        self.rows: dict[str, Row] = {}
        for name in contenders:
            self.note(name, contender=name)
        self.jobs: dict[str, Job] = {}

    def run(self) -> list[Row]:
        """All stages; a contender that cannot go on is left out with the reason."""
        for stage in (self.prepare, self.compare):
            for name in self.contenders:
                self.guarded(name, stage)
        self.leave_untimed()
        if self.jobs:
            for name, summary in self.time().items():
                self.note(name, contender=name, **asdict(summary))
        for stage in (self.after, self.release):
            for name in self.contenders:
                self.guarded(name, stage)
        return list(self.rows.values())

    def leave_untimed(self) -> None:
        for name in self.contenders:
            if self.timed is not None and name not in self.timed:
                self.jobs.pop(name, None)
                if "skipped" not in self.rows[name]:
                    del self.rows[name]

    def note(self, name: str, **columns: Any) -> None:
        self.rows.setdefault(name, self.case.columns()).update(columns)

    def guarded(self, name: str, stage: Callable[[str], None]) -> None:
        if name not in self.rows or self.rows[name].get("skipped"):
            return
        try:
            stage(name)
        except Unavailable as reason:
            self.leave_out(name, reason)
        except torch.OutOfMemoryError:
            self.leave_out(name, Unavailable("out of memory"))

    def leave_out(self, name: str, reason: Exception) -> None:
        """Keep the reason, and no times of a contender that did not come to its end."""
        for column in TIMES:
            self.rows[name].pop(column, None)
        self.note(name, skipped=str(reason))
        self.jobs.pop(name, None)

    def prepare(self, name: str) -> None:
        self.tell(f"{name}: first call")
        job = self.contenders[name]()
        self.note(name, first_seconds=job.samples(1)[0])
        job.samples(1)
        self.jobs[name] = job

    def compare(self, name: str) -> None:
        """What has to give the reference's results and does not is not timed."""
        reference = list(self.contenders)[-1]
        if name == reference:
            return
        if reference not in self.jobs:
            self.note(name, said=f"not compared: {reference} was left out")
            return
        self.tell(f"{name}: comparing")
        expected, found = (self.jobs[each].outcome() for each in (reference, name))
        if expected is None or found is None:
            return
        verdict = judge(
            expected, found, dtype=self.case.dtype, spikes=self.spikes, tolerance=KERNELS
        )
        self.note_verdict(name, verdict)
        if verdict.kind != "same" and name not in MAY_DIFFER:
            self.note(name, wrong=True)
            raise Unavailable(f"differs from {reference}: {verdict.text}")

    def note_verdict(self, name: str, verdict: Verdict) -> None:
        found = asdict(verdict)
        self.note(name, verdict=found.pop("kind"), said=found.pop("text"), **found)

    def time(self) -> dict[str, Summary]:
        """Time all in turns; one that fails is left out, and the others begin anew."""
        self.tell("timing")
        beside = self.copies()
        while True:
            timed = {name: Turn(name, each) for name, each in {**self.jobs, **beside}.items()}
            try:
                return interleave(timed, self.budget, **self.rounds)
            except TurnFailed as failure:
                if failure.name in beside:
                    beside = {}
                else:
                    self.leave_out(failure.name, failure.reason)

    def copies(self) -> dict[str, Timed]:
        """Copies beside neurons alone, which the memory limits."""
        try:
            return {**copies(self.case)} if self.case.workload == "neuron" else {}
        except torch.OutOfMemoryError:
            return {}

    def after(self, name: str) -> None:
        self.tell(f"{name}: memory")
        memory = self.jobs[name].memory()
        if memory:
            self.note(name, **asdict(memory))

    def release(self, name: str) -> None:
        del self.jobs[name]


def copies(case: Case) -> dict[str, TimedCall]:
    """Copies of the footprint of neurons alone, into memory that exists and into fresh memory.

    The first is what a kernel can be held against, the second what a function can be that returns
    a new tensor.
    """
    dtype = getattr(torch, case.input_dtype)
    source = torch.randn(case.copy_bytes // 2 // dtype.itemsize).to(case.device, dtype)
    target = torch.empty_like(source)
    calls = {"copy": lambda: target.copy_(source), "clone": source.clone}
    for call in calls.values():
        call()
    return {name: TimedCall(call, case.device) for name, call in calls.items()}


def problems(rows: Sequence[Row]) -> Iterator[str]:
    """What was found wrong with contenders that have to give the reference's results."""
    for row in rows:
        if row.get("wrong"):
            yield f"{case_of(row)}: {row['contender']} {row['skipped']}"


def case_of(row: Row) -> Case:
    """The case that a row tells of."""
    return Case(**{**{key: row[key] for key in KEYS}, "shape": tuple(row["shape"])})
