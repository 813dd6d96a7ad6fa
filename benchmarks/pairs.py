"""Two cases of the same contender timed in turns, where a target speaks of one over the other.

In rows of their own, minutes apart, the two would see different moods of the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.cases import TARGET_SHAPES, Case, main_case
from benchmarks.contenders import Contender, make_workload
from benchmarks.timing import Summary, interleave


@dataclass(frozen=True)
class Pair:
    """``other`` is to be judged against ``base``."""

    what: str
    base: Case
    other: Case


@dataclass(frozen=True)
class PairResult:
    """The times of both cases, taken in turns."""

    pair: Pair
    base: Summary
    other: Summary

    @property
    def factor(self) -> float:
        """The other's median over the base's."""
        return self.other.median / self.base.median

    def to_json(self) -> dict[str, object]:
        return {
            "what": self.pair.what,
            "base": {"case": self.pair.base.to_json(), "time": asdict(self.base)},
            "other": {"case": self.pair.other.to_json(), "time": asdict(self.other)},
            "factor": self.factor,
        }


def target_pairs() -> list[Pair]:
    """The pairs that the package's targets speak of."""
    changes = {
        "Sigmoid over ATan": {"surrogate": "Sigmoid"},
        "bfloat16 over float32": {"dtype": "bfloat16"},
    }
    return [
        Pair(f"{what} at {main_case(shape).shape_text}", main_case(shape), main_case(shape, **each))
        for what, each in changes.items()
        for shape in TARGET_SHAPES
    ]


def among(cases: Sequence[Case]) -> list[Pair]:
    """The targets' pairs of which both cases are in a selection."""
    return [pair for pair in target_pairs() if {pair.base, pair.other} <= set(cases)]


def measure(pair: Pair, contender: Contender, budget: float) -> PairResult:
    """Time both cases of a pair in turns for about ``budget`` seconds."""
    runs = {str(case): contender.prepare(make_workload(case)) for case in (pair.base, pair.other)}
    times = interleave(runs, budget)
    return PairResult(pair, times[str(pair.base)], times[str(pair.other)])
