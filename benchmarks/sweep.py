"""``sweep``: launch constants against time.

Each combination of values is built and timed by a command of ``python -m benchmarks`` in a process
of its own, to which SNNKERNELS_LAUNCH gives the values. All combinations take turns, ``--rounds``
times, and of each case the least median counts, so that what else the machine did in between weighs
little.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import arguments, tables
from benchmarks.environment import ROOT
from benchmarks.measure import Row, case_of
from benchmarks.results import read
from benchmarks.run import new_results
from snnkernels._backends import headers
from snnkernels._build.specification import LAUNCH_VARIABLE

NATIVE = "native"
VALUES: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "cpu": {
        "SNN_CPU_CHUNK": (8, 16, 32),
        "SNN_CPU_LANES": (128, 256, 512),
        "SNN_CPU_STREAM_BYTES": (2**20, 2**22, 2**60),
    },
    "cuda": {
        "SNN_CUDA_CHUNK": (4, 8),
        "SNN_CUDA_FORWARD_BYTES": (8, 16),
        "SNN_CUDA_BACKWARD_BYTES": (8, 16),
        "SNN_CUDA_BLOCKS": (2, 3, 4),
    },
}
"""What is tried where the command line names no values."""
TIMED: Mapping[str, str] = {
    "cpu": "neurons --contenders native --shapes 16,32,1024 64,32,1024 16,32,16384",
    "cuda": "neurons --contenders native --shapes 4,64,65536 32,64,65536 500,16,512",
}
"""The command that times a combination."""

Setting = dict[str, int]


class SweepFailed(Exception):
    """A combination that could not be built or timed; the message is what it printed."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    arguments.add_device(parser)
    parser.add_argument(
        "--set",
        type=_values,
        action="append",
        default=[],
        metavar="NAME=VALUE,...",
        help="a constant and what it is to be, once for each constant; default: some that matter",
    )
    parser.add_argument(
        "--time",
        metavar="COMMAND",
        help=f"what times them: products, or the default, on a CPU {TIMED['cpu']!r}",
    )
    parser.add_argument("--rounds", type=arguments.positive_integer, default=2)
    parser.add_argument("--json", type=arguments.file, metavar="FILE", help="what was found")


def run(options: argparse.Namespace, console: Console) -> int:
    """Sweep, print the table, write the JSON; returns 0, or 1 if nothing could be timed."""
    settings = list(combinations(dict(options.set) or VALUES[options.device]))
    results, failures = new_results(options), dict[str, str]()
    least: dict[tuple[str, str], Row] = {}
    code = 0
    for turn, setting in itertools.product(range(options.rounds), settings):
        console.print(f"round {turn + 1} of {options.rounds}: {name(setting)}", style="dim")
        try:
            rows = measure(setting, options)
        except KeyboardInterrupt:
            console.print("interrupted; this is what was measured until then")
            code = 130
            break
        except SweepFailed as error:
            failures[name(setting)] = str(error)
            continue
        for row in rows:
            key = (name(setting), str(case_of(row)))
            if key not in least or row["median"] < least[key]["median"]:
                least[key] = {**row, "contender": name(setting)}
        results.rows = list(least.values())
        results.settings["failures"] = failures
        if options.json:
            results.write(options.json)
    for title, frame in tables.tables(results):
        tables.show(console, title, frame)
    for setting_name, reason in failures.items():
        console.print(f"{setting_name}: {reason}", style="red", markup=False)
    return code if results.rows else code or 1


def _values(text: str) -> tuple[str, tuple[int, ...]]:
    constant, _, values = text.partition("=")
    if constant not in headers.LAUNCH or not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", values):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected NAME=VALUE,... with positive integers and one of "
            f"{', '.join(headers.LAUNCH)}"
        )
    return constant, tuple(int(value) for value in values.split(","))


def combinations(chosen: Mapping[str, Sequence[int]]) -> Iterator[Setting]:
    """Every combination of the chosen constants' values."""
    for values in itertools.product(*chosen.values()):
        yield dict(zip(chosen, values, strict=True))


def name(setting: Setting) -> str:
    """A combination in one line, as SNNKERNELS_LAUNCH takes it."""
    return ", ".join(f"{constant}={value}" for constant, value in setting.items())


def measure(setting: Setting, options: argparse.Namespace) -> list[Row]:
    """What the kernels took with these constants, a row for each case.

    Raises:
        SweepFailed: they did not build, or their results are not the reference's.
    """
    timed = (options.time or TIMED[options.device]).split()
    threads = ["--threads", str(options.threads)] if options.threads else []
    with tempfile.TemporaryDirectory(prefix="snnkernels-sweep-") as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks", *timed, "--device", options.device, *threads]
        done = subprocess.run(
            [*command, "--json", str(file)],
            cwd=ROOT,
            env={**os.environ, LAUNCH_VARIABLE: name(setting)},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise SweepFailed((done.stderr or done.stdout).strip()[-2000:])
        rows = [row for row in read(file).rows if row["contender"] == NATIVE and "median" in row]
    unchecked = [str(case_of(row)) for row in rows if row.get("verdict") != "same"]
    if unchecked:
        raise SweepFailed(f"not compared with plain PyTorch: {', '.join(unchecked)}")
    return rows
