"""``gpu-round``: build, gpu tests, peers and benchmark on a machine with a GPU, all into JSON.

Each stage is a process of its own. A failed test or benchmark does not keep the later stages from
running, since time on a GPU is dear; a failed build does. The record is written after every group
of stages, and all that a failed stage said stays beside it.

The round ends within the seconds it is given: a stage may take its share of what is left when it
begins, and is ended there. Benchmarks are told to begin no case late in their share, and write
their JSON after each case. Peers are installed while the tests run; nothing is timed meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path

import torch
from rich.console import Console

from benchmarks import arguments, environment
from benchmarks.case import DEVICES
from benchmarks.results import Results
from snnkernels._build import cache

ROUND_SECONDS = 525.0
LAST_CASE = 0.8
"""The part of its time after which a benchmark begins no case."""
SECONDS = "{seconds}"
TAIL_LINES = 40
NO_TESTS = 5
"""The exit code of pytest where it finds no test to run."""


@dataclass(frozen=True)
class Stage:
    """One command of the round; nothing after it runs if it is ``needed`` and fails.

    ``share`` is the part of the time left that it may take. Once it ran: its exit code, seconds,
    and the end of what it said.
    """

    name: str
    command: Sequence[str]
    share: float = 1.0
    needed: bool = False
    code: int = 0
    seconds: float = 0.0
    tail: Sequence[str] = ()


RUNNING: set[int] = set()
"""The process groups of the stages that run."""
Execute = Callable[[Stage, float, Path], Stage]


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument(
        "--device", choices=DEVICES, default="cuda", help="cpu tries the round's own logic"
    )
    parser.add_argument(
        "--results", type=Path, default=environment.RESULTS, help="where all of it is written"
    )
    parser.add_argument(
        "--seconds", type=arguments.positive, default=ROUND_SECONDS, help="default %(default)g"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """The command: 0 if all stages went well."""
    if options.device == "cuda" and not torch.cuda.is_available():
        console.print("PyTorch sees no CUDA device: try the round's logic with --device cpu")
        return 1
    return take_round(options.device, options.results, options.seconds)


def plan(device: str, results: Path, stem: str) -> list[list[Stage]]:
    """The stages of a round, in groups that run at the same time.

    On the CPU short benchmarks stand in for the full ones.
    """
    gpu = device == "cuda"
    python, on = (sys.executable, "-m"), ("--device", device)
    timed = (*on, "--time-limit", SECONDS, "--budget", "0.8")
    cupy = ("cupy",) if gpu and find_spec("cupy") else ()
    at_once = ("-n", "8") if gpu and find_spec("xdist") else ()
    extent, all_of_it = ((), "--full") if gpu else (("--quick",), "--quick")

    def measured(name: str, *command: str) -> Sequence[str]:
        files = ("--json", str(results / f"{name}.json"), "--plot", str(results / f"{name}.png"))
        return (*python, "benchmarks", *command, *timed, *files)

    tests = ("pytest", "tests", "-m", "gpu", "-q", "-rs", *at_once)
    neurons = ("neurons", all_of_it, "--contenders", "native", "loop", *cupy)
    return [
        [Stage("build", (*python, "snnkernels", "build", *on), 0.4, needed=True)],
        [
            Stage("install peers", (*python, "benchmarks", "install", *on), 0.4),
            Stage("tests", (*python, *tests), 0.4),
        ],
        [Stage("peers", measured(f"{stem}-peers", "peers", *extent), 0.65)],
        [Stage("neurons", measured(stem, *neurons))],
    ]


def take_round(
    device: str,
    results: Path,
    seconds: float,
    execute: Execute | None = None,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """Run the round and write ``<stem>-round.json``; returns the exit code, 0 if all is well."""
    results.mkdir(parents=True, exist_ok=True)
    stem = file_stem(device)
    record = results / f"{stem}-round.json"
    found = Results("gpu-round", environment.describe(device), {"device": device})
    done: list[Stage] = []
    end = now() + seconds
    for group in plan(device, results, stem):
        left = end - now()
        shares = [stage.share * left for stage in group]
        logs = [results / f"{stem}-{stage.name.replace(' ', '-')}.log" for stage in group]
        with ThreadPoolExecutor(len(group)) as pool, _ended_by_interrupt():
            done += pool.map(execute or execute_stage, group, shares, logs)
        found.settings["stages"] = [asdict(stage) for stage in done]
        found.write(record)
        if any(stage.needed and stage.code for stage in done):
            print(f"== stopped: nothing can run without the {done[-1].name}")
            break
    print(f"== written: {record}")
    return 1 if any(stage.code for stage in done) else 0


@contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """The pool would wait for stages that ctrl-C does not reach."""
    try:
        yield
    except KeyboardInterrupt:
        for group in list(RUNNING):
            _end(group)
        raise


def _end(group: int) -> None:
    """End a stage with whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def file_stem(device: str) -> str:
    """Name of the round's files: device and UTC time."""
    name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    return f"{slug}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"


def execute_stage(stage: Stage, limit: float, log: Path) -> Stage:
    """Run a stage into a log, which goes once its end was kept; end it at its limit."""
    told = f"{max(LAST_CASE * limit, 1.0):.0f}"
    stage = replace(stage, command=[part.replace(SECONDS, told) for part in stage.command])
    print(f"== {stage.name}: {' '.join(stage.command)}", flush=True)
    # The tests would keep kernels of their own; one build has to do for all stages.
    variables = {"PYTHONUNBUFFERED": "1", cache.ENVIRONMENT_VARIABLE: str(cache.user_dir())}
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            stage.command,
            cwd=environment.ROOT,
            env={**os.environ, **variables},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        RUNNING.add(process.pid)
        try:
            code = process.wait(max(limit, 0.0))
        except subprocess.TimeoutExpired:
            _end(process.pid)
            code = process.wait()
        RUNNING.discard(process.pid)
    tail = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
    if code == 0:
        log.unlink()
    stage = replace(stage, code=code, seconds=time.monotonic() - start, tail=tail)
    if stage.name == "tests":
        stage = judge_tests(stage)
    print(*tail, sep="\n")
    print(f"== {stage.name}: exit code {stage.code} after {stage.seconds:.0f} s", flush=True)
    return stage


def judge_tests(stage: Stage) -> Stage:
    """A run in which no test ran is a failure; without a GPU there is none to run."""
    if not torch.cuda.is_available():
        return replace(stage, code=0 if stage.code == NO_TESTS else stage.code)
    ran = any(re.search(r"\b\d+ passed", line) for line in stage.tail)
    return stage if ran or stage.code else replace(stage, code=NO_TESTS)
