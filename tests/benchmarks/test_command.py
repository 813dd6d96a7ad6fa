"""``python -m benchmarks`` end to end on tiny shapes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import environment, results, run, startup, suites
from benchmarks.__main__ import COMMANDS, main
from benchmarks.case import Case, Unavailable
from benchmarks.measure import Measurement, problems
from benchmarks.networks import NetworkJob
from benchmarks.timing import summarize

SHAPE = ["--shapes", "4,2,8"]
LABEL = "lif ATan [4, 2, 8] float32"


class FakeJob:
    """Spikes that are given, with one flipped if asked for."""

    def __init__(self, wrong: bool = False) -> None:
        self.output = np.ones((4, 2, 8), np.float32)
        self.output[0, 0, 0] = not wrong

    def samples(self, count: int) -> list[float]:
        return [0.001] * count

    def outcome(self):
        return {"output": self.output}

    def memory(self):
        return None


def rows_of(**contenders) -> dict[str, dict]:
    rows = Measurement(Case("pair", (4, 2, 8)), contenders, budget=0.0).run()
    return {row["contender"]: row for row in rows}


def test_neurons_are_compared_timed_shown_written_and_drawn(measured, tmp_path: Path, capsys):
    picture = tmp_path / "found.png"
    code, found = measured("neurons", "--quick", *SHAPE, "--plot", str(picture))
    assert code == 0
    said = capsys.readouterr().out
    for title in ("milliseconds", "share of the copy bandwidth", "peak memory"):
        assert f"neuron: {title}" in " ".join(said.split())
    assert said.count(f" {LABEL} training") == 4  # a line of progress, and a row of each table
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert found["schema"] == results.SCHEMA
    assert found["environment"]["torch"] == torch.__version__
    assert {"cpu", "gpu", "driver", "commit", "dirty", "threads"} <= set(found["environment"])
    assert found["settings"]["quick"] is True
    rows = {row["contender"]: row for row in found["rows"] if row["variant"] == "lif ATan"
            and row["mode"] == "training" and row["dtype"] == "float32"}  # fmt: skip
    assert list(rows) == ["native", "loop", "copy", "clone"]
    assert rows["native"]["verdict"] == "same" and rows["native"]["output_error"] == 0
    assert rows["native"]["saved"] < rows["loop"]["saved"]
    for row in rows.values():
        assert row["q1"] <= row["median"] <= row["q3"] and row["count"] >= row["rounds"]


def test_a_contender_alone_has_no_ratio(measured, capsys):
    code, found = measured("neurons", *SHAPE, "--contenders", "loop", "--modes", "training")
    assert code == 0
    assert [row["contender"] for row in found["rows"]] == ["loop", "copy", "clone"]
    assert "×" not in capsys.readouterr().out


def test_what_differs_from_the_reference_is_named_and_not_timed(monkeypatch):
    found = rows_of(native=lambda: FakeJob(wrong=True), loop=FakeJob)
    assert "median" not in found["native"]
    assert found["loop"]["median"] == 0.001
    (problem,) = problems(list(found.values()))
    assert problem.startswith("cpu pair [4, 2, 8] float32 training: native differs from loop: ")
    assert "0.016 of the spikes" in problem


@pytest.mark.parametrize(
    ("name", "said"),
    [("output", "of the spikes"), ("gradient", "gradient"), ("state 0", "gradient")],
)
def test_a_kernel_that_is_wrong_anywhere_is_named_and_the_command_ends_with_1(
    name, said, measured, monkeypatch, capsys
):
    """In the last spike of the last sample, in its gradient, in a last state."""

    class Wrong(NetworkJob):
        def outcome(self):
            found = {key: value.clone() for key, value in super().outcome().items()}
            found[name].view(-1)[-1] = 1 - found[name].view(-1)[-1]
            return found

    prepare = suites.TorchEngine.prepare

    def prepared(self, task, arrays):
        job = prepare(self, task, arrays)
        if self.provider(task) == "native":
            job.__class__ = Wrong
        return job

    monkeypatch.setattr(suites.TorchEngine, "prepare", prepared)
    code, found = measured("neurons", *SHAPE, "--modes", "training")
    assert code == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count("check failed: ") == 1
    assert "native differs from loop: " in printed and said in printed
    timed = {row["contender"] for row in found["rows"] if "median" in row}
    assert timed == {"loop", "copy", "clone"}


def test_a_contender_is_checked_even_if_the_reference_is_not_timed(measured):
    code, found = measured("neurons", *SHAPE, "--contenders", "native")
    assert code == 0
    assert [row["contender"] for row in found["rows"][:3]] == ["native", "copy", "clone"]
    assert found["rows"][0]["verdict"] == "same"


def test_a_compiler_may_round_otherwise_and_is_timed():
    found = rows_of(native=FakeJob, compile=lambda: FakeJob(wrong=True), loop=FakeJob)
    assert found["compile"]["verdict"] == "close" or found["compile"]["verdict"] == "different"
    assert found["compile"]["median"] == 0.001
    assert not list(problems(list(found.values())))


@pytest.mark.parametrize(
    ("error", "reason"),
    [(Unavailable("no [fit] here"), "no [fit] here"), (torch.OutOfMemoryError(), "out of memory")],
)
def test_a_contender_that_cannot_do_a_case_is_left_out_with_the_reason(error, reason):
    def fail():
        raise error

    found = rows_of(native=fail, loop=FakeJob)
    assert found["native"]["skipped"] == reason
    assert found["loop"]["median"] == 0.001


def test_one_that_fails_while_it_is_timed_is_left_out_and_the_others_begin_anew():
    class Bursting(FakeJob):
        calls = 0

        def samples(self, count: int) -> list[float]:
            self.calls += count
            if self.calls > 3:
                raise torch.OutOfMemoryError
            return super().samples(count)

    found = rows_of(native=FakeJob, other=Bursting, loop=FakeJob)
    assert found["other"]["skipped"] == "out of memory" and "median" not in found["other"]
    assert found["native"]["median"] == found["loop"]["median"] == 0.001


def test_what_could_not_be_compared_is_told():
    def fail():
        raise torch.OutOfMemoryError

    contenders = {"native": lambda: FakeJob(wrong=True), "loop": fail}
    case = Case("pair", (4, 2, 8))
    native, loop = Measurement(case, contenders, budget=0.0, timed=["native"]).run()
    assert native["said"] == "not compared: loop was left out" and "verdict" not in native
    assert loop["skipped"] == "out of memory"


def test_one_that_fails_after_it_was_timed_has_no_times():
    job = FakeJob()
    job.memory = lambda: (_ for _ in ()).throw(Unavailable("died"))
    found = rows_of(native=lambda: job, loop=FakeJob)
    assert found["native"]["skipped"] == "died"
    assert "median" not in found["native"] and "count" not in found["native"]


def test_cases_after_the_time_limit_are_named_and_not_measured(measured, capsys):
    code, found = measured("neurons", *SHAPE, "--time-limit", "1e-9")
    assert code == 0
    assert found["rows"] == []
    assert found["not_measured"] == [f"cpu neuron {LABEL} {m}" for m in ("training", "inference")]
    assert "not measured: 2" in capsys.readouterr().out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_an_interrupted_run_keeps_what_it_has(how: signal.Signals, measured, monkeypatch):
    # A shell starts what runs in its background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    measuring = run.Measurement.run

    def interrupted(self):
        if self.case.mode == "inference":
            signal.raise_signal(how)
        return measuring(self)

    monkeypatch.setattr(run.Measurement, "run", interrupted)
    try:
        code, found = measured("neurons", *SHAPE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert {row["mode"] for row in found["rows"]} == {"training"}
    assert len(found["not_measured"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "invalid choice: 'nothing'"),
        (["neurons", "--neurons", "foo"], "--neurons: invalid choice: 'foo'"),
        (["neurons", "--shapes", "3"], "--shapes: got '3', expected T,B,..."),
        (["neurons", "--surrogate", "Foo"], "--surrogate: invalid choice: 'Foo'"),
        (["neurons", "--full", "--quick"], "not allowed with argument"),
        (["storage", "--budget", "0"], "--budget: got '0', expected a number of seconds above 0"),
        (["storage", "--budget", "nan"], "--budget: got 'nan', expected a number"),
        (["storage", "--threads", "1.5"], "--threads: got '1.5', expected a whole number above 0"),
        (["storage", "--json", "/does/not/exist.json"], "--json: the folder /does/not does not"),
        (["storage", "--json", "."], "which is a folder, expected a file name"),
        (["storage", "--plot", "picture.xyz"], "expected a suffix out of"),
        (["peers", "nobody"], "got 'nobody', expected one of native,"),
        (["peers", "--dataset-dir", "/does/not"], "the folder /does/not does not exist"),
        (["targets", "--device", "cuda"], "--device: invalid choice: 'cuda'"),
        (["sweep", "--set", "NOTHING=4"], "got 'NOTHING=4', expected NAME=VALUE,..."),
    ],
)
def test_a_bad_argument_is_named_with_what_was_expected(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_cuda_where_there_is_none_is_an_error(capsys):
    with pytest.raises(SystemExit):
        main(["storage", "--device", "cuda"])
    assert "--device: invalid choice: 'cuda'" in capsys.readouterr().err


def test_without_a_command_all_of_them_are_listed(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    for command in COMMANDS:
        assert command.name in said and command.title in said


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"python -m benchmarks {command}" in capsys.readouterr().out


def test_the_command_runs_from_a_checkout_and_says_nothing_on_stderr():
    command = ["neurons", *SHAPE, "--neurons", "plif", "--device", "cpu", "--budget", "0.001"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *command],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "plif ATan [4, 2, 8] float32 training" in done.stdout


def test_a_failed_build_is_told_without_a_traceback(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "neurons", *SHAPE, "--device", "cpu"],
        cwd=environment.ROOT,
        env={**os.environ, "CXX": "/nowhere/c++", "SNNKERNELS_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 1
    assert "error:" in done.stdout and "/nowhere/c++" in done.stdout
    assert "Traceback" not in done.stderr


def test_the_import_is_timed_in_processes_of_its_own(monkeypatch):
    monkeypatch.setattr(startup, "IMPORT_REPEATS", 1)
    assert startup.measure_import()["seconds"] > 0


def test_a_process_that_fails_hands_over_what_it_said():
    with pytest.raises(startup.StartupFailed, match="got 'nothing'"):
        startup.measure_cold_build("nothing")


@pytest.mark.slow
def test_torch_compile_is_timed_with_its_first_call(measured, capsys):
    pytest.importorskip("torch._inductor")
    arguments = ["--contenders", "compile", "loop", "--modes", "training"]
    code, _ = measured("neurons", "--shapes", "1,2,8", "65,2,8", *arguments)
    assert code == 0
    said = capsys.readouterr().out
    assert "first call, seconds" in said
    assert "T=65: compiling the unrolled loop takes minutes" in said


def test_a_record_tells_the_compiler_that_was_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    plain = environment.compiler()
    assert plain and "CXX" not in plain
    monkeypatch.setenv("CXX", "g++ -mno-avx512f")
    assert environment.compiler() == f"{plain} (CXX=g++ -mno-avx512f)"
    monkeypatch.setenv("CXX", "/nowhere/at/all/g++-99")
    assert environment.compiler() is None


def test_the_summary_of_the_environment_names_cpu_threads_torch_and_commit():
    about = environment.describe("cpu")
    line = environment.summary({**about, "commit": "0123456789abcdef", "dirty": True})
    assert str(about["cpu"]) in line
    assert f"{about['threads']} threads" in line
    assert "commit 0123456789+changes" in line


def test_the_command_is_recorded_without_the_folders_of_this_machine(monkeypatch, tmp_path):
    arguments = ["benchmarks", "--json", str(tmp_path / "mine.json"), "--plot", "here/lif.png"]
    monkeypatch.setattr("sys.argv", arguments)
    found = environment.describe("cpu")["command"]
    assert found == ["--json", "mine.json", "--plot", "here/lif.png"]


def test_json_is_replaced_only_by_a_whole_file(tmp_path: Path, monkeypatch):
    path = tmp_path / "found.json"
    found = results.Results("neurons", {}, rows=[{"median": summarize([[1.0]]).median}])
    found.write(path)
    before = path.read_text()
    assert json.loads(before)["rows"]
    monkeypatch.setattr(results.os, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        found.write(path)
    assert path.read_text() == before
