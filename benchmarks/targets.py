"""The package's targets, met or missed by the rows of a run: reported, never enforced.

They hold for LIF with ATan, float32, training, on 2 CPU cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

from benchmarks import environment, traffic
from benchmarks.cases import SHAPES, Case, Shape, main_case
from benchmarks.pairs import PairResult, target_pairs
from benchmarks.runner import CaseResult
from benchmarks.startup import Startup

RATIOS: dict[Shape, float] = {(16, 32, 1024): 25.0, (64, 32, 1024): 40.0}
WITHIN = 1.5
COPY_SHARE = 0.5
SAVED_PER_INPUT = 1 / 8
BUILD_SECONDS = 10.0
IMPORT_SECONDS = 0.2
CACHES_LEFT = 2
"""A shape leaves the caches when its footprint is this many times the last-level cache."""
UNKNOWN_CACHE = 64 * 1024**2


@dataclass(frozen=True)
class Target:
    """One figure against what it should be; ``met`` is None if the run did not measure it."""

    what: str
    wanted: str
    found: str
    met: bool | None

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def evaluate(
    results: Sequence[CaseResult],
    startup: Startup,
    pairs: Sequence[PairResult] = (),
    *,
    contender: str = "native",
) -> list[Target]:
    """Every target with what the run found."""
    by_case = {result.case: result for result in results}
    return [
        *_ratios(by_case, contender),
        *_pairs(pairs),
        *_copy_shares(by_case, contender),
        _saved(by_case, contender),
        *_startup(startup),
    ]


def leaves_caches(case: Case) -> bool:
    """Whether a case's footprint is well beyond the last-level cache of this machine."""
    cache = environment.last_level_cache() or UNKNOWN_CACHE
    return traffic.footprint_bytes(case) >= CACHES_LEFT * cache


def _judge(
    what: str,
    value: float | None,
    limit: float,
    show: Callable[[float], str],
    *,
    at_least: bool = False,
    note: str = "",
) -> Target:
    wanted = f"{'>=' if at_least else '<='} {show(limit)}"
    if value is None:
        return Target(what, wanted, "not measured", None)
    met = value >= limit if at_least else value <= limit
    return Target(what, wanted, show(value) + note, met)


def _ratios(by_case: dict[Case, CaseResult], contender: str) -> Iterator[Target]:
    for shape, limit in RATIOS.items():
        case = main_case(shape)
        result = by_case.get(case)
        figures = result.figures(contender) if result else None
        value = figures.ratio if figures else None
        yield _judge(
            f"times the reference at {case.shape_text}",
            value,
            limit,
            lambda v: f"{v:.1f}x",
            at_least=True,
        )


def _pairs(measured: Sequence[PairResult]) -> Iterator[Target]:
    factors = {result.pair: result.factor for result in measured}
    for pair in target_pairs():
        yield _judge(pair.what, factors.get(pair), WITHIN, lambda v: f"{v:.2f}x")


def _copy_shares(by_case: dict[Case, CaseResult], contender: str) -> Iterator[Target]:
    rows = [
        (case, result)
        for case, result in by_case.items()
        if case == main_case(case.shape) and leaves_caches(case)
    ]
    if not rows:
        title = "share of the copy bandwidth beyond the caches"
        yield _judge(title, None, COPY_SHARE, lambda v: f"{v:.0%}", at_least=True)
    for case, result in rows:
        figures = result.figures(contender)
        clone = figures.share_of_clone if figures else None
        yield _judge(
            f"share of the copy bandwidth at {case.shape_text}",
            figures.share_of_copy if figures else None,
            COPY_SHARE,
            lambda v: f"{v:.0%}",
            at_least=True,
            note="" if clone is None else f" (of clone into fresh memory: {clone:.0%})",
        )


def _saved(by_case: dict[Case, CaseResult], contender: str) -> Target:
    found: list[tuple[float, Case]] = []
    for case, result in by_case.items():
        judged = case == main_case(case.shape) and case.shape in SHAPES
        figures = result.figures(contender) if judged else None
        if figures and figures.saved_per_input is not None:
            found.append((figures.saved_per_input, case))
    worst = max(found, key=lambda pair: pair[0], default=None)
    return _judge(
        "saved for backward beside x, over x, worst shape",
        worst[0] if worst else None,
        SAVED_PER_INPUT,
        lambda v: f"{v:.3f}",
        note=f" at {worst[1].shape_text}" if worst else "",
    )


def _startup(startup: Startup) -> Iterator[Target]:
    builds = {build.device: build for build in startup.builds}
    cpu = builds.get("cpu")
    built = cpu.seconds if cpu and cpu.origin == "jit" else None
    yield _judge("cold CPU build", built, BUILD_SECONDS, lambda v: f"{v:.1f} s")
    imported = startup.import_time.median if startup.import_time else None
    yield _judge("import snnkernels after torch", imported, IMPORT_SECONDS, lambda v: f"{v:.3f} s")
