"""A whole round on a machine with a GPU: build, peers, gpu tests, benchmarks, all into JSON.

Each step is a process of its own. A failed test or benchmark does not keep the later steps from
running, since time on a GPU is dear; a failed build does. The record is written after every step.

The round ends within the seconds it is given: a step may take its share of what is left when it
begins, and is ended there. Benchmarks are told to begin no case late in their share, and write
their JSON after each case. Peers are installed while the tests run; nothing is timed meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import environment
from snnkernels._build import cache

RESULTS = Path(__file__).resolve().parent / "results"
ROUND_SECONDS = 525.0
LAST_CASE = 0.8
"""The part of its time after which a benchmark begins no case."""
CASE_BUDGET = 0.8
TEST_PROCESSES = 8
PEER_LIMIT = 20.0
SECONDS = "{seconds}"
TAIL_LINES = 40


@dataclass(frozen=True)
class Step:
    """One command of the round; nothing after it runs if it is ``needed`` and fails.

    ``share`` is the part of the time left that it may take, ``limit`` that time in seconds.
    """

    name: str
    command: tuple[str, ...]
    share: float = 1.0
    needed: bool = False
    limit: float = math.inf

    def within(self, left: float) -> Step:
        """The step with its limit, given the seconds that are left, and told of it if need be."""
        limit = self.share * left
        told = f"{max(LAST_CASE * limit, 1.0):.0f}"
        command = tuple(part.replace(SECONDS, told) for part in self.command)
        return replace(self, command=command, limit=limit)


@dataclass(frozen=True)
class Finished:
    """A step that ran: exit code, seconds, the end of what it said, a remark on its result."""

    name: str
    command: tuple[str, ...]
    code: int
    seconds: float
    tail: tuple[str, ...]
    remark: str = ""

    @property
    def ok(self) -> bool:
        return self.code == 0


Execute = Callable[[Step], Finished]


@dataclass(frozen=True)
class Peers:
    """Where the packages of peers come from and their environments go; None for the usual."""

    wheels: Path | None = None
    folder: Path | None = None

    def options(self) -> tuple[str, ...]:
        return ("--peers-dir", str(self.folder)) if self.folder else ()

    def install_options(self) -> tuple[str, ...]:
        return (*self.options(), *(("--peer-wheels", str(self.wheels)) if self.wheels else ()))


def plan(device: str, results: Path, stem: str, peers: Peers = Peers()) -> list[tuple[Step, ...]]:
    """The steps of a round, in groups that run at the same time.

    On the CPU short benchmarks stand in for the full ones.
    """
    python = (sys.executable, "-m")
    benchmarks = (*python, "benchmarks", "--devices", device)
    timed = ("--time-limit", SECONDS, "--budget", f"{CASE_BUDGET:g}")
    extent = ("--quick",) if device == "cpu" else ("--full",)
    peer_extent = ("--quick",) if device == "cpu" else ("--peer-limit", f"{PEER_LIMIT:g}")
    cupy = ("cupy",) if device == "cuda" and find_spec("cupy") else ()
    backends = ("--backends", "native", *cupy, "torch")
    side_by_side = ("-n", str(TEST_PROCESSES)) if device == "cuda" and find_spec("xdist") else ()
    tests = ("pytest", "tests", "-m", "gpu", "-q", "-rs", *side_by_side)

    def output(name: str) -> tuple[str, ...]:
        return ("--json", str(results / f"{name}.json"), "--plot", str(results / f"{name}.png"))

    build = (*python, "snnkernels", "build", "--device", device)
    return [
        (Step("build", build, share=0.4, needed=True),),
        (
            Step("install peers", (*benchmarks, "--install-peers", *peers.install_options()), 0.4),
            Step("tests", (*python, *tests, f"--junitxml={results / f'{stem}-tests.xml'}"), 0.4),
        ),
        (
            Step(
                "peers",
                (*benchmarks, "--peers", *peers.options(), *peer_extent, *timed, "--no-startup",
                 *output(f"{stem}-peers")),
                share=0.65,
            ),
        ),
        (
            Step(
                "benchmark",
                (*benchmarks, *extent, *backends, *timed, "--check", "--keep-going", *output(stem)),
            ),
        ),
    ]  # fmt: skip


def run(
    device: str,
    results: Path = RESULTS,
    *,
    peers: Peers = Peers(),
    seconds: float = ROUND_SECONDS,
    execute: Execute | None = None,
    say: Callable[[str], None] = print,
    now: Callable[[], float] = time.monotonic,
) -> int:
    """Run the round and write ``<stem>-round.json``; returns the exit code, 0 if all is well.

    Args:
        device: "cuda"; "cpu" tries the round's own logic.
        results: the folder for all that the round writes.
        peers: where peers come from and go.
        seconds: how long the round may take.
        execute: runs a step.
        say: prints a line.
        now: the seconds of a clock.
    """
    if not device_present(device):
        say(
            "--gpu-round: PyTorch sees no CUDA device. Run it on a machine with a GPU, "
            "or try its logic with --device cpu."
        )
        return 1
    results.mkdir(parents=True, exist_ok=True)
    stem = file_stem(device)
    record = results / f"{stem}-round.json"
    steps = plan(device, results, stem, peers)
    order = [step.name for group in steps for step in group]
    done: list[Finished] = []
    recording = threading.Lock()
    end = now() + seconds

    def take(step: Step) -> Finished:
        say(f"== {step.name}: {' '.join(step.command)}")
        finished = (execute or execute_step)(step)
        if step.name == "tests":
            finished = judge_tests(finished, results / f"{stem}-tests.xml", device)
        with recording:
            done.append(finished)
            done.sort(key=lambda step: order.index(step.name))
            record.write_text(json.dumps(to_json(device, done), indent=1) + "\n")
        say(
            f"== {step.name}: {'ok' if finished.ok else 'FAILED'} in {finished.seconds:.0f} s"
            f"{' (' + finished.remark + ')' if finished.remark else ''}"
        )
        return finished

    for group in steps:
        left = end - now()
        with ThreadPoolExecutor(len(group)) as pool:
            taken = list(pool.map(take, [step.within(left) for step in group]))
        needed = [
            step.name
            for step, found in zip(group, taken, strict=True)
            if step.needed and not found.ok
        ]
        if needed:
            say(f"== stopped: nothing can run without the {needed[0]}")
            break
    say(f"== written: {record}")
    return 0 if all(finished.ok for finished in done) else 1


def device_present(device: str) -> bool:
    """Whether the round can run on this machine."""
    import torch

    return device == "cpu" or torch.cuda.is_available()


def file_stem(device: str) -> str:
    """Name of the round's files: device and UTC time."""
    import torch

    name = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    slug = "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    return f"{slug}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}"


def to_json(device: str, done: Sequence[Finished]) -> dict[str, object]:
    """The record of a round."""
    return {
        "device": device,
        "environment": environment.describe([device]),
        "steps": [asdict(finished) for finished in done],
    }


def execute_step(step: Step) -> Finished:
    """Run a step, passing on what it prints, by the step's name, and keeping the end of it."""
    start = time.monotonic()
    lines: list[str] = []
    process = subprocess.Popen(
        step.command,
        cwd=environment.ROOT,
        env={
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # The tests would keep kernels of their own; one build has to do for all steps.
            cache.ENVIRONMENT_VARIABLE: str(cache.user_dir()),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    ended = threading.Timer(min(step.limit, threading.TIMEOUT_MAX), _end, [process])
    ended.start()
    for line in process.stdout:
        print(f"{step.name}: {line}", end="", flush=True)
        lines = [*lines[-TAIL_LINES + 1 :], line.rstrip()]
    code = process.wait()
    seconds = time.monotonic() - start
    ended.cancel()
    remark = f"ended after {step.limit:.0f} s" if seconds >= step.limit else ""
    return Finished(step.name, step.command, code, seconds, tuple(lines), remark)


def _end(process: subprocess.Popen[str]) -> None:
    """End a step with whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def judge_tests(finished: Finished, xml: Path, device: str) -> Finished:
    """Add the counts of a pytest run; on a GPU a run in which nothing ran is a failure."""
    total, skipped = _test_counts(xml)
    remark = f"{total - skipped} ran, {skipped} skipped"
    xml.unlink(missing_ok=True)
    if device == "cpu":
        nothing_to_run = finished.code == 5
        return replace(finished, remark=remark, code=0 if nothing_to_run else finished.code)
    if finished.ok and total == skipped:
        return replace(finished, remark=f"{remark}: no gpu test ran", code=1)
    return replace(finished, remark=remark)


def _test_counts(xml: Path) -> tuple[int, int]:
    if not xml.is_file():
        return 0, 0
    suites = list(ElementTree.parse(xml).getroot().iter("testsuite"))
    total = sum(int(suite.get("tests", 0)) for suite in suites)
    return total, sum(int(suite.get("skipped", 0)) for suite in suites)
