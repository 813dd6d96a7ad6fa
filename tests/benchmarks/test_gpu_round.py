"""The logic of a GPU round, without a GPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch

from benchmarks import gpu_round
from benchmarks.__main__ import main, make_parser
from benchmarks.gpu_round import (
    NO_TESTS,
    SECONDS,
    Stage,
    execute_stage,
    judge_tests,
    plan,
    take_round,
)
from benchmarks.results import read

STAGES = ["build", "install peers", "tests", "peers", "neurons"]


class Recorder:
    """Pretends to run stages, with the exit codes given, and remembers them and their limits."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.limits: dict[str, float] = {}

    def __call__(self, stage: Stage, limit: float, log: Path) -> Stage:
        self.limits[stage.name] = limit
        return replace(stage, code=self.codes.get(stage.name, 0), seconds=1.0, tail=["said"])


def stages_of(device: str, results: Path) -> dict[str, Stage]:
    return {stage.name: stage for group in plan(device, results, "stem") for stage in group}


def record_in(folder: Path) -> dict:
    (path,) = folder.glob("*-round.json")
    found = json.loads(path.read_text())
    return {**found["settings"], "environment": found["environment"]}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_the_round_says_so_and_fails(tmp_path: Path, capsys):
    assert main(["gpu-round", "--results", str(tmp_path)]) == 1
    assert "PyTorch sees no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_round_builds_tests_and_measures_in_this_order_and_records_it(tmp_path: Path):
    assert take_round("cpu", tmp_path, 500.0, Recorder()) == 0
    record = record_in(tmp_path)
    assert [stage["name"] for stage in record["stages"]] == STAGES
    assert [stage["code"] for stage in record["stages"]] == [0] * len(STAGES)
    assert record["device"] == "cpu"
    assert read(next(tmp_path.glob("*-round.json"))).command == "gpu-round"
    assert record["stages"][0]["tail"] == ["said"]
    assert "commit" in record["environment"]


def test_nothing_runs_after_a_failed_build(tmp_path: Path, capsys):
    stages = Recorder(build=1)
    assert take_round("cpu", tmp_path, 500.0, stages) == 1
    assert list(stages.limits) == ["build"]
    assert [stage["name"] for stage in record_in(tmp_path)["stages"]] == ["build"]
    assert "stopped: nothing can run without the build" in capsys.readouterr().out


def test_the_benchmark_runs_after_failed_tests_and_the_round_fails(tmp_path: Path):
    stages = Recorder(tests=1)
    assert take_round("cpu", tmp_path, 500.0, stages) == 1
    assert set(stages.limits) == set(STAGES)


def test_peers_are_installed_while_the_tests_run(tmp_path: Path):
    both = threading.Barrier(2, timeout=20)

    def execute(stage: Stage, limit: float, log: Path) -> Stage:
        if stage.name in ("install peers", "tests"):
            both.wait()
        return stage

    assert take_round("cpu", tmp_path, 500.0, execute) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_a_round_measures_are_commands_that_benchmarks_takes(device, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    parser, stages = make_parser(), stages_of(device, tmp_path)
    for name in ("install peers", "peers", "neurons"):
        command = [part.replace(SECONDS, "80") for part in stages[name].command[3:]]
        options = parser.parse_args(command)
        assert options.device == device
        if name != "install peers":
            assert options.time_limit == 80.0
            assert options.json.parent == options.plot.parent == tmp_path
            assert options.quick is (device == "cpu")


@pytest.mark.parametrize("found", [True, False], ids=["with_cupy", "without"])
def test_on_a_gpu_the_cupy_backend_is_measured_where_there_is_cupy(found, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_round, "find_spec", lambda name: found or None)
    assert ("cupy" in stages_of("cuda", tmp_path)["neurons"].command) is found


@pytest.mark.parametrize("seconds", [gpu_round.ROUND_SECONDS, 300.0])
def test_a_round_hands_each_stage_its_share_of_what_is_left(seconds: float, tmp_path: Path):
    clock, limits = [0.0], {}

    def execute(stage: Stage, limit: float, log: Path) -> Stage:
        limits[stage.name] = limit
        if stage.name != "install peers":  # which takes its time beside the tests
            clock[0] += limit
        return stage

    take_round("cpu", tmp_path, seconds, execute, now=lambda: clock[0])
    assert limits["install peers"] == limits["tests"]
    assert sum(limits.values()) - limits["tests"] == pytest.approx(seconds)
    assert gpu_round.ROUND_SECONDS < 9 * 60
    assert min(limits.values()) > 20


def run_code(code: str, tmp_path: Path, limit: float = 60.0) -> Stage:
    return execute_stage(Stage("stage", (sys.executable, "-c", code)), limit, tmp_path / "log")


def test_a_stage_is_ended_at_its_limit_with_what_it_started(tmp_path: Path):
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid); p.wait()"
    done = run_code(code, tmp_path, limit=5.0)
    assert done.code != 0
    assert done.seconds < 30
    child = int(done.tail[0])
    end = time.monotonic() + 20
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end, "what the stage started lives on"
        time.sleep(0.05)


def test_a_stage_is_told_when_to_begin_no_more_cases(tmp_path: Path):
    done = run_code(f"print('{SECONDS}')", tmp_path, limit=50.0)
    assert done.tail == ["40"]


def test_all_stages_share_one_cache_of_kernels(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("SNNKERNELS_CACHE_DIR", raising=False)
    monkeypatch.setattr(gpu_round.cache, "user_dir", lambda: tmp_path)
    done = run_code("import os; print(os.environ['SNNKERNELS_CACHE_DIR'])", tmp_path)
    assert done.tail == [str(tmp_path)]


def test_the_end_of_what_a_stage_said_is_printed_and_kept(tmp_path: Path, capsys):
    lines = gpu_round.TAIL_LINES + 5
    done = run_code(f"import sys\nfor i in range({lines}): print(i)\nsys.exit(3)", tmp_path)
    assert done.code == 3
    assert done.tail == [str(i) for i in range(5, lines)]
    assert done.tail[-1] in capsys.readouterr().out.splitlines()
    assert len((tmp_path / "log").read_text().splitlines()) == lines


def test_of_a_stage_that_went_well_no_log_stays(tmp_path: Path):
    assert run_code("print('well')", tmp_path).code == 0
    assert not list(tmp_path.iterdir())


def test_an_interrupted_round_ends_its_stages(tmp_path: Path):
    code = (
        "import benchmarks.gpu_round as g, pathlib, sys\n"
        "g.plan = lambda *_: [[g.Stage('sleep', ('sleep', '60'))]]\n"
        "g.take_round('cpu', pathlib.Path(sys.argv[1]), 100.0)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=gpu_round.environment.ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert "== sleep" in process.stdout.readline()
    time.sleep(0.5)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(30)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize(
    ("gpu", "code", "said", "judged"),
    [
        (True, 0, "7 skipped in 2 s", NO_TESTS),
        (True, 0, "5 passed, 2 skipped in 2 s", 0),
        (True, 0, "5 passed in 2 s\nsomething at exit", 0),
        (True, 1, "1 failed, 5 passed in 2 s", 1),
        (False, 0, "7 skipped in 2 s", 0),
        (False, NO_TESTS, "no tests ran", 0),
        (False, 1, "1 failed", 1),
    ],
)
def test_on_a_gpu_a_run_in_which_no_test_ran_fails(gpu, code, said, judged, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    assert (
        judge_tests(Stage("tests", (), code=code, tail=["before", *said.splitlines()])).code
        == judged
    )
