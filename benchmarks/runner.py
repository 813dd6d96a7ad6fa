"""Measures cases: prepares the contenders, checks them, times them in turns, measures memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch

from benchmarks import traffic
from benchmarks.cases import Case
from benchmarks.check import Agreement, CheckFailed, compare, difference
from benchmarks.contenders import (
    Contender,
    Role,
    Run,
    Unavailable,
    Workload,
    bind,
    make_forward,
    make_workload,
)
from benchmarks.memory import Memory
from benchmarks.timing import Summary, interleave

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How to measure: seconds of timing per case, whether to compare results first.

    With ``keep_going`` a difference is noted in the result instead of raised.
    """

    budget: float
    check: bool = False
    keep_going: bool = False


@dataclass(frozen=True)
class Measurement:
    """What was found for one contender in one case; ``skipped`` is the reason if it did not run."""

    role: Role
    time: Summary | None = None
    memory: Memory | None = None
    compile_seconds: float | None = None
    agreement: Agreement | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class Figures:
    """What follows from the measurements of one contender in one case.

    ``ratio`` is the reference's median over the contender's, ``ratio_low`` and ``ratio_high`` the
    extremes of the same within single rounds. Shares are of the bandwidth of the two copies;
    ``saved_per_input`` is bytes saved for backward over bytes of x. None where not measured.
    """

    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    bytes_per_second: float
    share_of_copy: float | None
    share_of_clone: float | None
    saved_per_input: float | None


@dataclass(frozen=True)
class CaseResult:
    """One case with the measurement of every contender, by name."""

    case: Case
    measurements: dict[str, Measurement] = field(default_factory=dict)

    def named(self, *roles: Role) -> list[str]:
        """Names of the contenders in these roles."""
        return [name for name, m in self.measurements.items() if m.role in roles]

    def contestants(self) -> list[str]:
        """Names of the contenders that get a row; the reference if it ran alone."""
        return self.named("fused", "other") or self.named("reference")

    def reference(self) -> Measurement | None:
        names = self.named("reference")
        return self.measurements[names[0]] if names else None

    def figures(self, name: str) -> Figures | None:
        """The derived figures of a contender; None if it was not timed."""
        measured = self.measurements.get(name)
        if measured is None or measured.time is None:
            return None
        reference = self.reference()
        ratio = low = high = None
        if reference and reference.time and measured.role != "reference":
            ratio = reference.time.median / measured.time.median
            pairs = zip(reference.time.round_medians, measured.time.round_medians, strict=True)
            by_round = [theirs / ours for theirs, ours in pairs]
            low, high = min(by_round), max(by_round)
        saved = measured.memory.saved if measured.memory else None
        return Figures(
            ratio=ratio,
            ratio_low=low,
            ratio_high=high,
            bytes_per_second=traffic.traffic_bytes(self.case) / measured.time.median,
            share_of_copy=self._share(measured.time, "copy"),
            share_of_clone=self._share(measured.time, "clone"),
            saved_per_input=None if saved is None else saved / self.case.input_bytes,
        )

    def _share(self, measured: Summary, copy: str) -> float | None:
        copied = self.measurements.get(copy)
        if copied is None or copied.time is None:
            return None
        return traffic.share(
            traffic.traffic_bytes(self.case),
            measured.median,
            traffic.copy_bytes(self.case),
            copied.time.median,
        )

    def problems(self) -> list[str]:
        """What ``--check`` found wrong with the fused contenders."""
        return [
            difference(self.case, name, m.agreement.problem)
            for name, m in self.measurements.items()
            if m.role == "fused" and m.agreement and m.agreement.problem
        ]

    def to_json(self) -> dict[str, object]:
        contenders = {}
        for name, measured in self.measurements.items():
            compute = measured.role != "copy"
            figures = self.figures(name) if compute else None
            contenders[name] = {
                **asdict(measured),
                "figures": asdict(figures) if figures else None,
            }
        return {
            "case": self.case.to_json(),
            "traffic_bytes": traffic.traffic_bytes(self.case),
            "copy_bytes": traffic.copy_bytes(self.case),
            "input_bytes": self.case.input_bytes,
            "contenders": contenders,
        }


def run_case(
    case: Case, contenders: Sequence[Contender], settings: Settings, tell: Tell = lambda text: None
) -> CaseResult:
    """Measure one case.

    Raises:
        CheckFailed: ``settings.check`` is set and a fused contender differs from the reference.
    """
    workload = make_workload(case)
    runs: dict[str, Run] = {}
    skipped: dict[str, str] = {}
    for contender in contenders:
        tell(f"{contender.name}: first call")
        try:
            runs[contender.name] = contender.prepare(workload)
        except Unavailable as reason:
            skipped[contender.name] = str(reason)
        except torch.OutOfMemoryError:
            skipped[contender.name] = "out of memory"
    roles = {contender.name: contender.role for contender in contenders}
    agreements: dict[str, Agreement] = {}
    if settings.check:
        tell("comparing results")
        agreements = _check(workload, runs, roles, settings.keep_going)
    tell("timing")
    times = interleave(runs, settings.budget)
    tell("measuring memory")
    return CaseResult(
        case,
        {
            name: Measurement(
                role=roles[name],
                time=times.get(name),
                memory=runs[name].memory() if name in runs else None,
                compile_seconds=runs[name].compile_seconds if name in runs else None,
                agreement=agreements.get(name),
                skipped=skipped.get(name),
            )
            for name in roles
        },
    )


def run_cases(
    cases: Sequence[Case],
    contenders: Sequence[Contender],
    settings: Settings,
    *,
    begin: Callable[[Case], None] = lambda case: None,
    tell: Tell = lambda text: None,
    time_limit: float | None = None,
) -> Iterator[CaseResult]:
    """Measure cases one by one; none is begun once ``time_limit`` seconds have passed.

    ``begin`` hears of each case, ``tell`` of each stage of it.
    """
    start = time.monotonic()
    for case in cases:
        if time_limit is not None and time.monotonic() - start > time_limit:
            return
        begin(case)
        yield run_case(case, contenders, settings, tell)


def _check(
    workload: Workload, runs: Mapping[str, Run], roles: Mapping[str, Role], keep_going: bool
) -> dict[str, Agreement]:
    """Compare every run that gives an outcome with the reference; a fused one has to agree."""
    reference = bind(make_forward(workload.case, "torch"), workload)()
    agreements = {}
    for name, run in runs.items():
        outcome = None if roles[name] == "reference" else run.outcome()
        if outcome is not None:
            agreements[name] = compare(workload, reference, outcome)
            problem = agreements[name].problem
            if problem and roles[name] == "fused" and not keep_going:
                raise CheckFailed(difference(workload.case, name, problem))
    return agreements
