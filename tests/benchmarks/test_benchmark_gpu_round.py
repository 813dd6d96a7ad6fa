"""The logic of a GPU round, without a GPU."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest

from benchmarks import arguments, gpu_round
from benchmarks.__main__ import main
from benchmarks.gpu_round import Finished, Step, execute_step, judge_tests, plan

STEPS = ["build", "install peers", "tests", "peers", "benchmark"]
XML = '<testsuites><testsuite tests="{}" skipped="{}"/></testsuites>'


class Recorder:
    """Pretends to run steps, with the exit codes given, and remembers them."""

    def __init__(self, **codes: int) -> None:
        self.codes = codes
        self.ran: list[str] = []

    def __call__(self, step: Step) -> Finished:
        self.ran.append(step.name)
        return Finished(step.name, step.command, self.codes.get(step.name, 0), 1.0, ("said",))


def steps_of(device: str, results: Path, *peers: gpu_round.Peers) -> list[Step]:
    return [step for group in plan(device, results, "stem", *peers) for step in group]


def record_in(folder: Path) -> dict:
    (path,) = folder.glob("*-round.json")
    return json.loads(path.read_text())


def test_without_a_gpu_the_round_says_so_and_fails(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(gpu_round, "device_present", lambda device: False)
    assert main(["--gpu-round", "--results", str(tmp_path)]) == 1
    assert "PyTorch sees no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_round_builds_tests_and_measures_in_this_order_and_records_it(tmp_path: Path):
    steps = Recorder()
    assert gpu_round.run("cpu", tmp_path, execute=steps, say=lambda text: None) == 0
    assert sorted(steps.ran[1:3]) == STEPS[1:3]
    assert [*steps.ran[:1], *STEPS[1:3], *steps.ran[3:]] == STEPS
    record = record_in(tmp_path)
    assert [step["name"] for step in record["steps"]] == STEPS
    assert record["device"] == "cpu"
    assert [step["code"] for step in record["steps"]] == [0] * len(STEPS)
    assert record["steps"][0]["tail"] == ["said"]
    assert "commit" in record["environment"]


@pytest.mark.parametrize("found", [True, False], ids=["with_cupy", "without"])
def test_on_a_gpu_the_cupy_backend_is_measured_where_there_is_cupy(found, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_round, "find_spec", lambda name: found or None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    benchmark = steps_of("cuda", tmp_path)[-1].within(100.0)
    options = arguments.parse(list(benchmark.command[3:]))
    assert options.backends == (["native", "cupy", "torch"] if found else ["native", "torch"])


def test_nothing_runs_after_a_failed_build(tmp_path: Path):
    steps = Recorder(build=1)
    assert gpu_round.run("cpu", tmp_path, execute=steps, say=lambda text: None) == 1
    assert steps.ran == ["build"]
    assert [step["name"] for step in record_in(tmp_path)["steps"]] == ["build"]


def test_the_benchmark_runs_after_failed_tests_and_the_round_fails(tmp_path: Path):
    steps = Recorder(tests=1)
    assert gpu_round.run("cpu", tmp_path, execute=steps, say=lambda text: None) == 1
    assert sorted(steps.ran) == sorted(STEPS)


def test_peers_are_installed_while_the_tests_run(tmp_path: Path):
    both = threading.Barrier(2, timeout=20)

    def execute(step: Step) -> Finished:
        if step.name in ("install peers", "tests"):
            both.wait()
        return Finished(step.name, step.command, 0, 1.0, ())

    assert gpu_round.run("cpu", tmp_path, execute=execute, say=lambda text: None) == 0


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_benchmark_of_a_round_is_a_command_that_benchmarks_takes(
    device: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    *_, benchmark = steps_of(device, tmp_path)
    options = arguments.parse(list(benchmark.within(100.0).command[3:]))
    assert options.devices == [device]
    assert options.check and options.keep_going
    assert options.full is (device == "cuda")
    assert options.time_limit == 80.0
    assert options.json == tmp_path / "stem.json"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_peers_are_installed_and_measured_by_commands_that_benchmarks_takes(
    device: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    places = gpu_round.Peers(wheels=tmp_path, folder=tmp_path / "environments")
    _, install, _, peers, _ = steps_of(device, tmp_path, places)
    options = arguments.parse(list(install.within(100.0).command[3:]))
    assert options.install_peers == [] and options.devices == [device]
    assert options.peer_wheels == tmp_path and options.peers_dir == places.folder
    options = arguments.parse(list(peers.within(100.0).command[3:]))
    assert options.peers == [] and options.devices == [device]
    assert options.peers_dir == places.folder
    assert options.time_limit == 52.0
    assert options.json == tmp_path / "stem-peers.json"


@pytest.mark.parametrize("seconds", [gpu_round.ROUND_SECONDS, 300.0])
def test_a_round_hands_each_step_its_share_of_what_is_left(seconds: float, tmp_path: Path):
    clock = [0.0]
    limits = {}

    def execute(step: Step) -> Finished:
        limits[step.name] = step.limit
        if step.name != "install peers":  # which takes its time beside the tests
            clock[0] += step.limit
        return Finished(step.name, step.command, 0, step.limit, ())

    gpu_round.run(
        "cpu",
        tmp_path,
        seconds=seconds,
        execute=execute,
        say=lambda text: None,
        now=lambda: clock[0],
    )
    assert limits["install peers"] == limits["tests"]
    assert sum(limits.values()) - limits["tests"] == pytest.approx(seconds)
    assert gpu_round.ROUND_SECONDS < 9 * 60
    assert min(limits.values()) > 20


def test_the_seconds_of_a_round_can_be_given_and_belong_to_it(monkeypatch, capsys):
    given = {}
    monkeypatch.setattr(gpu_round, "run", lambda *_, **named: given.update(named) or 0)
    assert main(["--gpu-round", "--device", "cpu", "--round-seconds", "300"]) == 0
    assert given["seconds"] == 300.0
    with pytest.raises(SystemExit):
        main(["--round-seconds", "300"])
    assert "--round-seconds belongs to --gpu-round" in capsys.readouterr().err


def test_a_step_is_ended_at_its_limit_with_what_it_started():
    code = "import subprocess; subprocess.run(['sleep', '60'])"
    done = execute_step(Step("sleep", (sys.executable, "-c", code), limit=1.0))
    assert not done.ok
    assert done.seconds < 30
    assert done.remark == "ended after 1 s"


def finished(code: int) -> Finished:
    return Finished("tests", (), code, 1.0, ())


def test_on_a_gpu_a_run_in_which_every_test_was_skipped_fails(tmp_path: Path):
    xml = tmp_path / "tests.xml"
    xml.write_text(XML.format(7, 7))
    judged = judge_tests(finished(0), xml, "cuda")
    assert judged.code == 1
    assert judged.remark == "0 ran, 7 skipped: no gpu test ran"
    assert not xml.exists()


def test_on_a_gpu_tests_that_ran_pass_and_failed_ones_stay_failed(tmp_path: Path):
    xml = tmp_path / "tests.xml"
    xml.write_text(XML.format(7, 2))
    assert judge_tests(finished(0), xml, "cuda") == Finished(
        "tests", (), 0, 1.0, (), "5 ran, 2 skipped"
    )
    xml.write_text(XML.format(7, 2))
    assert judge_tests(finished(1), xml, "cuda").code == 1


@pytest.mark.parametrize(("code", "judged"), [(0, 0), (5, 0), (1, 1), (2, 2)])
def test_on_the_cpu_it_is_no_failure_that_there_are_no_gpu_tests(code, judged, tmp_path: Path):
    assert judge_tests(finished(code), tmp_path / "none.xml", "cpu").code == judged


def test_all_steps_share_one_cache_of_kernels(monkeypatch, tmp_path: Path):
    monkeypatch.delenv("SNNKERNELS_CACHE_DIR", raising=False)
    monkeypatch.setattr(gpu_round.cache, "user_dir", lambda: tmp_path)
    code = "import os; print(os.environ['SNNKERNELS_CACHE_DIR'])"
    assert execute_step(Step("say", (sys.executable, "-c", code))).tail == (str(tmp_path),)


def test_a_step_s_output_is_passed_on_and_its_end_kept(capsys):
    lines = gpu_round.TAIL_LINES + 5
    code = f"import sys\nfor i in range({lines}): print(i)\nsys.exit(3)"
    done = execute_step(Step("count", (sys.executable, "-c", code)))
    assert done.code == 3
    assert done.tail == tuple(str(i) for i in range(5, lines))
    assert capsys.readouterr().out.splitlines() == [f"count: {i}" for i in range(lines)]
