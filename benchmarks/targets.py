"""``targets``: the package's own aims, met or missed on this machine; reported, never enforced.

They hold for LIF with ATan, float32, training, on 2 CPU cores. Two cases of which one is judged
against the other are timed in turns: in rows of their own, minutes apart, they would see different
moods of the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import pandas as pd
import torch
from rich.console import Console
from torch import Tensor

from benchmarks import arguments, environment, startup, tables
from benchmarks.case import Case, Job, Shape
from benchmarks.measure import Row
from benchmarks.networks import NetworkJob, Result, TorchJob
from benchmarks.run import attempt, finish, measure_suite, new_results
from benchmarks.suites import CONTENDERS, SHAPES, Contenders, Suite, neurons, on_engines
from benchmarks.tables import by_case, digits, ratio, share
from snnkernels import neuron, surrogate

NATIVE = "native"
PAIR = "pair"
HOST = Case("host", (4, 1, 16))
"""A layer so small that nothing but the way to its kernel takes time."""
RATIOS: Mapping[Shape, float] = {(16, 32, 1024): 25.0, (64, 32, 1024): 40.0}
PAIRS: Mapping[str, Mapping[str, str]] = {
    "Sigmoid over ATan": {"fire": "Sigmoid"},
    "bfloat16 over float32": {"dtype": "bfloat16"},
}
WITHIN = 1.5
TRAINING_OVER_EMPTY = 1.6
INFERENCE_SECONDS = 15e-6
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


def cases(options: argparse.Namespace) -> list[Case]:
    """The rows that the targets speak of, then the pairs."""
    pairs = [Case(PAIR, shape, variant=what) for what in PAIRS for shape in RATIOS]
    return [*(neurons(shape) for shape in SHAPES), *pairs, HOST]


def contenders(case: Case, options: argparse.Namespace) -> Contenders:
    """The kernels and plain PyTorch; of a pair the kernels on both, ATan in float32 first."""
    if case == HOST:
        return {name: partial(_small_job, call) for name, call in _SMALL.items()}
    if case.workload != PAIR:
        return on_engines(case, [CONTENDERS["native"], CONTENDERS["loop"]])
    both = {"base": {}, "other": PAIRS[case.variant]}
    return {name: partial(_one_of_pair, case.shape, changes) for name, changes in both.items()}


def _one_of_pair(shape: Shape, changes: Mapping[str, Any]) -> Job:
    case = neurons(shape, **changes)
    (prepare,) = on_engines(case, [CONTENDERS["native"]]).values()
    job = cast(NetworkJob, prepare())
    return TorchJob(job.device, job.call)  # the two are not to be compared


class _Empty(torch.autograd.Function):
    """As much as a layer of neurons hands to autograd, and nothing done."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x)
        return torch.empty_like(x), torch.empty_like(x[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, grad_state: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.empty_like(x)


def _empty(node: neuron.LIFNode, x: Tensor, upstream: Tensor) -> Result:
    out, _ = _Empty.apply(x)
    return Result(out, torch.autograd.grad(out, x, upstream))


def _training(node: neuron.LIFNode, x: Tensor, upstream: Tensor) -> Result:
    node.reset()
    out = node(x)
    return Result(out, torch.autograd.grad(out, x, upstream))


@torch.no_grad()
def _inference(node: neuron.LIFNode, x: Tensor, upstream: Tensor) -> Result:
    node.reset()
    return Result(node(x))


_SMALL = {"empty": _empty, "training": _training, "inference": _inference}


def _small_job(call: Callable[[neuron.LIFNode, Tensor, Tensor], Result]) -> Job:
    node = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m", backend=NATIVE)
    x, upstream = torch.rand(HOST.shape, requires_grad=True), torch.rand(HOST.shape)
    return TorchJob(HOST.device, partial(call, node, x, upstream))


SUITE = Suite("targets", "this package's own aims, met or missed", cases, contenders)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=["cpu"], default="cpu", help="they are set for CPUs")
    parser.add_argument("--threads", type=arguments.positive_integer, help="default: torch's")
    arguments.add_measuring(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """The command: measures, and says what was met."""
    results = new_results(options)
    ended = measure_suite(results, SUITE, options, console)
    if not ended:
        ended = attempt(console, lambda: results.startup.extend(startup.measure("cpu")))
    found = evaluate(results.rows, results.startup)
    results.targets = [asdict(target) for target in found]
    code = finish(results, options, console)
    title = "targets (cpu, lif, ATan, float32, training; set for 2 cores)"
    tables.show(console, title, table(found))
    return ended or code


def evaluate(rows: list[Row], started: list[dict[str, Any]]) -> list[Target]:
    """Every target with what the run found."""
    found = dict(by_case(rows))
    return [
        *_ratios(found),
        *_pairs(found),
        *_host(found),
        *_copy_shares(found),
        _saved(found),
        *_startup(started),
    ]


def table(targets: list[Target]) -> pd.DataFrame:
    """Those that were measured, for a terminal."""
    rows = [
        (t.what, t.wanted, t.found, "met" if t.met else "missed")
        for t in targets
        if t.met is not None
    ]
    return pd.DataFrame(rows, columns=["what", "wanted", "found", ""])


def leaves_caches(case: Case) -> bool:
    """Whether a case's footprint is well beyond the last-level cache of this machine."""
    return case.copy_bytes >= CACHES_LEFT * (environment.last_level_cache() or UNKNOWN_CACHE)


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


Found = Mapping[Case, dict[str, Row]]


def _ratios(found: Found) -> Iterator[Target]:
    for shape, limit in RATIOS.items():
        value = ratio(found.get(neurons(shape), {}), NATIVE, "loop")
        what = f"times plain PyTorch at {list(shape)}"
        yield _judge(what, value, limit, lambda v: f"{v:.1f}x", at_least=True)


def _pairs(found: Found) -> Iterator[Target]:
    for what in PAIRS:
        for shape in RATIOS:
            value = ratio(found.get(Case(PAIR, shape, variant=what), {}), "base", "other")
            yield _judge(f"{what} at {list(shape)}", value, WITHIN, lambda v: f"{v:.2f}x")


def _host(found: Found) -> Iterator[Target]:
    rows = found.get(HOST, {})
    over, size = ratio(rows, "empty", "training"), list(HOST.shape)
    what = f"training at {size} over an empty autograd.Function"
    yield _judge(what, over, TRAINING_OVER_EMPTY, lambda v: f"{v:.2f}x")
    seconds = rows.get("inference", {}).get("median")
    yield _judge(f"inference at {size}", seconds, INFERENCE_SECONDS, lambda v: f"{v * 1e6:.1f} µs")


def _main(found: Found) -> dict[Case, dict[str, Row]]:
    return {case: rows for case, rows in found.items() if case == neurons(case.shape)}


def _copy_shares(found: Found) -> Iterator[Target]:
    for case, rows in _main(found).items():
        if leaves_caches(case):
            of_copy, of_clone = (share(case, rows, NATIVE, copy) for copy in ("copy", "clone"))
            note = "" if of_clone is None else f" (of a copy into fresh memory: {of_clone:.0%})"
            what = f"share of the copy bandwidth at {list(case.shape)}"
            yield _judge(what, of_copy, COPY_SHARE, "{:.0%}".format, at_least=True, note=note)


def _saved(found: Found) -> Target:
    kept = [
        (rows[NATIVE]["saved"] / case.input_bytes, case)
        for case, rows in _main(found).items()
        if rows.get(NATIVE, {}).get("saved") is not None
    ]
    worst, where = max(kept, key=lambda each: each[0], default=(None, None))
    note = f" at {list(where.shape)}" if where else ""
    what = "kept for backward beside x, over x, worst shape"
    return _judge(what, worst, SAVED_PER_INPUT, "{:.3f}".format, note=note)


def _startup(started: list[dict[str, Any]]) -> Iterator[Target]:
    seconds = {each["what"]: each["seconds"] for each in started if each["origin"] in ("", "jit")}
    for what, limit in (
        (startup.build_name("cpu"), BUILD_SECONDS),
        (startup.IMPORT, IMPORT_SECONDS),
    ):
        yield _judge(what, seconds.get(what), limit, lambda v: f"{digits(v)} s")
