"""``python -m benchmarks.compiled``: neurons compiled from a step against what they stand for.

The four built-in neurons against twins whose step is written here, and a threshold-adaptive neuron
(ALIF, a learnt rho for each neuron) against its own step in PyTorch. Forward and backward of
[T, B, N], float32, ATan. The files of ``--json`` in benchmarks/results/ are the table of
docs/your-own-neuron.md, which ``--page`` writes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks import environment
from benchmarks.markdown import replace_between, table
from benchmarks.report import digits, write_json
from benchmarks.timing import Summary, time_calls
from snnkernels import compile_neuron, functional, neuron, spike, surrogate

SHAPES = ((16, 32, 1024), (64, 32, 256), (64, 32, 1024))
RESULT = environment.ROOT / "benchmarks" / "results" / "compiled-cpu.json"
PAGE = environment.ROOT / "docs" / "your-own-neuron.md"
BEGIN = "<!-- begin: written by python -m benchmarks.compiled --page -->"
HEADINGS = ("neuron, shape [T, B, N]", "compiled, ms", "compared with, ms", "times as fast")
SCHEMA = 1

_RESET = {"v_threshold": 1.0, "v_reset": 0.0}


def _fire(h: Tensor, v_threshold: Tensor, v_reset: Tensor) -> tuple[Tensor, Tensor]:
    s = spike(h - v_threshold)
    return s, (1 - s) * h + s * v_reset


def _if(x, v, *, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + x, v_threshold, v_reset)


def _lif(x, v, *, tau, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + (x - (v - v_reset)) / tau, v_threshold, v_reset)


def _plif(x, v, *, r, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + (x - (v - v_reset)) * r, v_threshold, v_reset)


def _cuba_lif(x, v, i, *, alpha, beta, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    i = alpha * i + x
    s, v = _fire(beta * v + i, v_threshold, v_reset)
    return s, v, i


IFTwin = compile_neuron(_if, {"v": 0.0}, _RESET)
LIFTwin = compile_neuron(_lif, {"v": 0.0}, {"tau": 2.0, **_RESET})
PLIFTwin = compile_neuron(_plif, {"v": 0.0}, {"r": 0.5, **_RESET}, ("r",))
CubaLIFTwin = compile_neuron(_cuba_lif, {"v": 0.0, "i": 0.0}, {"alpha": 0.5, "beta": 0.5, **_RESET})

Build = Callable[[int], nn.Module]


def _shared(**own: Any) -> dict[str, Any]:
    return {"surrogate_function": surrogate.ATan(), "step_mode": "m", **own}


def _alif(neurons: int, backend: str) -> nn.Module:
    rho = nn.Parameter(torch.full((neurons,), 0.9))
    return neuron.ALIFNode(**_shared(rho=rho, backend=backend))


@dataclass(frozen=True)
class Pair:
    """A compiled neuron and what it is compared with, each made for N neurons."""

    name: str
    compiled: Build
    other_name: str
    other: Build


PAIRS = (
    Pair("IF", lambda _: IFTwin(**_shared()), "built in", lambda _: neuron.IFNode(**_shared())),
    Pair("LIF", lambda _: LIFTwin(**_shared()), "built in", lambda _: neuron.LIFNode(**_shared())),
    Pair(
        "ParametricLIF",
        lambda _: PLIFTwin(**_shared()),
        "built in",
        lambda _: neuron.ParametricLIFNode(**_shared()),
    ),
    Pair(
        "CubaLIF",
        lambda _: CubaLIFTwin(**_shared()),
        "built in",
        lambda _: neuron.CubaLIFNode(0.5, 0.5, **_shared()),
    ),
    Pair(
        "ALIF, a learnt rho per neuron",
        lambda n: _alif(n, "auto"),
        "its step in PyTorch",
        lambda n: _alif(n, "torch"),
    ),
)


@dataclass(frozen=True)
class Row:
    """What a pair took at a shape."""

    neuron: str
    shape: tuple[int, ...]
    other: str
    compiled_time: Summary
    other_time: Summary

    @property
    def ratio(self) -> float:
        return self.other_time.median / self.compiled_time.median


class Training:
    """Forward and backward of a neuron on x_seq [T, B, N] with a given gradient."""

    def __init__(self, node: nn.Module, x_seq: Tensor) -> None:
        self.node = node
        self.x_seq = x_seq.clone().requires_grad_()
        self.grad = torch.rand_like(x_seq)

    def __call__(self) -> tuple[Tensor, ...]:
        functional.reset_net(self.node)
        wanted = [self.x_seq, *self.node.parameters()]
        return torch.autograd.grad(self.node(self.x_seq), wanted, self.grad)


def measure(pair: Pair, shape: tuple[int, ...], device: str, budget: float) -> Row:
    """Time a pair in turns."""
    torch.manual_seed(0)
    x_seq = 1.5 * torch.rand(shape, device=device)
    steps = {
        "compiled": Training(pair.compiled(shape[-1]).to(device), x_seq),
        "other": Training(pair.other(shape[-1]).to(device), x_seq),
    }
    timed = time_calls(steps, device, budget)
    return Row(pair.name, shape, pair.other_name, timed["compiled"], timed["other"])


@dataclass(frozen=True)
class Found:
    """All rows and where they were measured."""

    environment: dict[str, object]
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [{**asdict(row), "times_as_fast": row.ratio} for row in self.rows]
        return {"schema": SCHEMA, "environment": self.environment, "rows": rows}


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the JSON as text."""
    compiled, other = (1e3 * row[f"{which}_time"]["median"] for which in ("compiled", "other"))
    return (
        f"{row['neuron']}, {list(row['shape'])}",
        digits(compiled),
        f"{digits(other)}, {row['other']}",
        digits(row["times_as_fast"]),
    )


def markdown(found: dict[str, Any]) -> str:
    """The JSON as the page's table."""
    lines = [
        f"{environment.summary(found['environment'])}, medians:",
        "",
        *table(HEADINGS, [cells(row) for row in found["rows"]]),
    ]
    return "\n".join(lines) + "\n"


def _show(found: dict[str, Any]) -> None:
    shown = Table(*HEADINGS)
    for row in found["rows"]:
        shown.add_row(*cells(row))
    Console().print(shown)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compiled", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU")
    parser.add_argument("--budget", type=float, default=4.0, help="seconds for each comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    parser.add_argument("--page", action="store_true", help="write the table of the docs only")
    options = parser.parse_args(argv)
    if options.page:
        text = markdown(json.loads(RESULT.read_text()))
        PAGE.write_text(replace_between(PAGE.read_text(encoding="utf-8"), BEGIN, text))
        print(f"written: {PAGE}")
        return 0
    if options.threads:
        torch.set_num_threads(options.threads)
    rows = [
        measure(pair, shape, options.device, options.budget) for pair in PAIRS for shape in SHAPES
    ]
    found = Found(environment.describe([options.device]), tuple(rows))
    _show(found.to_json())
    if options.json:
        write_json(found, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
