"""A whole round on a machine with a GPU: build, gpu tests, benchmark, all into JSON.

Each step is a process of its own. A failed test or benchmark does not keep the later steps from
running, since time on a GPU is dear; a failed build does. The record is written after every step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

from benchmarks import environment
from snnkernels.build import cache

RESULTS = Path(__file__).resolve().parent / "results"
BENCHMARK_SECONDS = 360.0
CASE_BUDGET = 0.8
TAIL_LINES = 40


@dataclass(frozen=True)
class Step:
    """One command of the round; nothing after it runs if it is ``needed`` and fails."""

    name: str
    command: tuple[str, ...]
    needed: bool = False


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


def plan(device: str, results: Path, stem: str) -> list[Step]:
    """The steps of a round; on the CPU a short benchmark stands in for the full one."""
    python = (sys.executable, "-m")
    limits = ("--time-limit", f"{BENCHMARK_SECONDS:g}", "--budget", f"{CASE_BUDGET:g}")
    extent = ("--quick",) if device == "cpu" else ("--full", *limits)
    checked = ("--devices", device, "--check", "--keep-going")
    output = ("--json", str(results / f"{stem}.json"), "--plot", str(results / f"{stem}.png"))
    tests = ("pytest", "tests", "-m", "gpu", "-q", "-rs")
    return [
        Step("build", (*python, "snnkernels", "build", "--device", device), needed=True),
        Step("tests", (*python, *tests, f"--junitxml={results / f'{stem}-tests.xml'}")),
        Step(
            "benchmark",
            (*python, "benchmarks", *extent, *checked, *output),
        ),
    ]


def run(
    device: str,
    results: Path = RESULTS,
    *,
    execute: Execute | None = None,
    say: Callable[[str], None] = print,
) -> int:
    """Run the round and write ``<stem>-round.json``; returns the exit code, 0 if all is well."""
    if not device_present(device):
        say(
            "--gpu-round: PyTorch sees no CUDA device. Run it on a machine with a GPU, "
            "or try its logic with --device cpu."
        )
        return 1
    results.mkdir(parents=True, exist_ok=True)
    stem = file_stem(device)
    record = results / f"{stem}-round.json"
    done: list[Finished] = []
    for step in plan(device, results, stem):
        say(f"== {step.name}: {' '.join(step.command)}")
        finished = (execute or execute_step)(step)
        if step.name == "tests":
            finished = judge_tests(finished, results / f"{stem}-tests.xml", device)
        done.append(finished)
        record.write_text(json.dumps(to_json(device, done), indent=1) + "\n")
        say(
            f"== {step.name}: {'ok' if finished.ok else 'FAILED'} in {finished.seconds:.0f} s"
            f"{' (' + finished.remark + ')' if finished.remark else ''}"
        )
        if step.needed and not finished.ok:
            say(f"== stopped: nothing can run without the {step.name}")
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
    """Run a step, passing on what it prints and keeping the end of it."""
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
    )
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        lines = [*lines[-TAIL_LINES + 1 :], line.rstrip()]
    code = process.wait()
    return Finished(step.name, step.command, code, time.monotonic() - start, tuple(lines))


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
