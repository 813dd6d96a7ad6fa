"""Launch constants against time: ``python -m benchmarks sweep``.

Each combination of values is written into a copy of the package (``launch.h`` is the one place that
holds them), built there and timed by ``python -m benchmarks`` in a process of its own. All
combinations take turns, ``--rounds`` times, and of each case the least median counts, so that what
else the machine did in between weighs little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import environment
from benchmarks.report import digits, write_json

ROOT = Path(__file__).resolve().parent.parent
LINEAR: Mapping[str, tuple[int, ...]] = {
    "SNN_CPU_PANEL": (4, 8, 16),
    "SNN_CPU_LINEAR_ROWS": (64, 128),
}
LAUNCH = Path("csrc", "include", "snnkernels", "launch.h")
SCHEMA = "snnkernels-sweep-1"
COPIED = ("csrc", "snnkernels", "benchmarks")
CONSTANTS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "cpu": {
        "SNN_CPU_CHUNK": (8, 16, 32),
        "SNN_CPU_LANES": (128, 256, 512),
        "SNN_CPU_STREAM_BYTES": (2**20, 2**22, 2**60),
    },
    "cuda": {
        "SNN_CUDA_CHUNK": (4, 8),
        "SNN_CUDA_ACCESS_BYTES": (8, 16),
        "SNN_CUDA_BLOCKS": (4, 5, 6),
    },
}
SHAPES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("16,32,1024", "64,32,1024", "16,32,16384"),
    "cuda": ("4,64,65536", "32,64,65536", "500,16,512"),
}

Setting = dict[str, int]


class SweepFailed(Exception):
    """A combination that could not be built or timed; the message is what it printed."""


@dataclass
class Sweep:
    """Every combination with the least median of each case, in seconds."""

    environment: dict[str, object]
    settings: list[Setting]
    seconds: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"constants": setting, "seconds": seconds}
            for setting, seconds in zip(self.settings, self.seconds, strict=True)
        ]
        return {
            "schema": SCHEMA,
            "environment": self.environment,
            "rows": rows,
            "failures": self.failures,
        }


def main(argv: Sequence[str]) -> int:
    """Sweep, print the table, write the JSON; returns 0, or 1 if nothing could be timed."""
    options = _parse(argv)
    console = Console(highlight=False)
    default = LINEAR if options.linear else CONSTANTS[options.device]
    chosen = dict(options.set) or default
    sweep = Sweep(environment.describe([options.device]), list(combinations(chosen)))
    sweep.seconds = [{} for _ in sweep.settings]
    with tempfile.TemporaryDirectory(prefix="snnkernels-sweep-") as work:
        for turn, (place, setting) in _turns(sweep.settings, options.rounds):
            console.print(f"round {turn + 1} of {options.rounds}: {name(setting)}", style="dim")
            try:
                copy = prepare(Path(work) / str(place), setting)
                measured = measure(copy, options)
            except SweepFailed as error:
                sweep.failures[name(setting)] = str(error)
                continue
            best = sweep.seconds[place]
            for case, seconds in measured.items():
                best[case] = min(seconds, best.get(case, seconds))
            if options.json:
                write_json(sweep, options.json)
    console.print(table(sweep))
    for setting_name, reason in sweep.failures.items():
        console.print(f"{setting_name}: {reason}", style="red", markup=False)
    return 0 if any(sweep.seconds) else 1


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sweep", description=__doc__)
    parser.add_argument("--device", choices=sorted(CONSTANTS), default="cpu")
    parser.add_argument(
        "--set",
        type=_values,
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="a constant of launch.h and its values; default: those that matter on the device",
    )
    parser.add_argument("--linear", action="store_true", help="time linear layers on spikes")
    parser.add_argument("--shapes", nargs="+", metavar="T,B,N")
    parser.add_argument("--dtypes", nargs="+", default=["float32"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    options.shapes = options.shapes or list(SHAPES[options.device])
    if options.rounds < 1:
        parser.error(f"--rounds: got {options.rounds}, expected at least 1")
    return options


def _values(text: str) -> tuple[str, tuple[int, ...]]:
    constant, _, values = text.partition("=")
    if constant not in constants() or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", values):
        known = ", ".join(constants())
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected NAME=VALUE,... with positive integers and one of {known}"
        )
    return constant, tuple(int(value) for value in values.split(","))


def constants(root: Path = ROOT) -> dict[str, int]:
    """The constants of ``launch.h`` with their values."""
    found = re.findall(r"^#define (\w+) (\d+)$", (root / LAUNCH).read_text(), re.MULTILINE)
    return {constant: int(value) for constant, value in found}


def combinations(chosen: Mapping[str, Sequence[int]]) -> Iterator[Setting]:
    """Every combination of the chosen constants' values."""
    for values in itertools.product(*chosen.values()):
        yield dict(zip(chosen, values, strict=True))


def _turns(settings: Sequence[Setting], rounds: int) -> Iterator[tuple[int, tuple[int, Setting]]]:
    return itertools.product(range(rounds), enumerate(settings))


def prepare(folder: Path, setting: Setting) -> Path:
    """A copy of the package in ``folder`` with the constants set; made once."""
    if not folder.exists():
        for name_ in COPIED:
            shutil.copytree(
                ROOT / name_, folder / name_, ignore=shutil.ignore_patterns("__pycache__", "_lib")
            )
        launch = folder / LAUNCH
        text = launch.read_text()
        for constant, value in setting.items():
            text = re.sub(rf"^(#define {constant}) \d+$", rf"\1 {value}", text, flags=re.MULTILINE)
        launch.write_text(text)
    return folder


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median seconds of each case, by the copy of the package in ``folder``.

    Raises:
        SweepFailed: it did not build, or its results are not the reference's.
    """
    if options.linear:
        found = _run(folder, "benchmarks.spikes", "--only", "linear", "--budget", "5")
        return {case: times["ours"] for case, times in found["seconds"].items()}
    measured = _run(
        folder,
        "benchmarks",
        *("--devices", options.device, "--neurons", "lif", "--backends", "native"),
        *("--dtypes", *options.dtypes, "--shapes", *options.shapes, "--check", "--no-startup"),
    )
    return {
        f"{case['case']['mode']} {case['case']['dtype']} {case['case']['shape']}": case[
            "contenders"
        ]["native"]["time"]["median"]
        for case in measured["cases"]
    }


def _run(folder: Path, module: str, *arguments: str) -> dict[str, Any]:
    """What a benchmark of the copy in ``folder`` writes as JSON."""
    result = folder / "result.json"
    command = [sys.executable, "-m", module, *arguments, "--json", str(result)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise SweepFailed((done.stderr or done.stdout).strip()[-2000:])
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def name(setting: Setting) -> str:
    """A combination in one line."""
    return ", ".join(f"{constant} {value}" for constant, value in setting.items())


def table(sweep: Sweep) -> Table:
    """Milliseconds, the least of each case in bold, the constants as they stand marked.

    Of cases and combinations, those that are fewer are the columns.
    """
    cases = list(dict.fromkeys(case for row in sweep.seconds for case in row))
    least = {case: min(row[case] for row in sweep.seconds if case in row) for case in cases}
    rows = [
        [_marked(setting), *(_cell(row.get(case), least[case]) for case in cases)]
        for setting, row in zip(sweep.settings, sweep.seconds, strict=True)
    ]
    lines = [["constants", *cases], *rows]
    if len(cases) > len(rows):
        lines = [list(line) for line in zip(*lines, strict=True)]
    shown = Table(*lines[0], title="milliseconds by launch constants")
    for line in lines[1:]:
        shown.add_row(*line)
    return shown


def _marked(setting: Setting) -> str:
    present = constants()
    now = all(present[constant] == value for constant, value in setting.items())
    return name(setting) + (" (now)" if now else "")


def _cell(seconds: float | None, least: float) -> str:
    if seconds is None:
        return "–"
    text = digits(1e3 * seconds)
    return f"[bold]{text}[/]" if seconds == least else text
