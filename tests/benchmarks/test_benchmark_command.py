"""``python -m benchmarks`` end to end on tiny shapes, with a stand-in for the kernels."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmark_doubles import altered, flip_one_spike

import benchmarks.__main__ as command
from benchmarks import contenders, environment, pairs, report, runner, startup
from benchmarks.__main__ import main
from benchmarks.cases import Case
from benchmarks.contenders import Contender, Unavailable

TINY = ["--shapes", "4,2,8", "--budget", "0.01", "--no-startup"]
Install = Callable[[Contender], None]
faithful = altered(lambda outcome: outcome)


@pytest.fixture
def without_subprocesses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(command, "measure_import", lambda: startup.summarize([[0.1, 0.2, 0.3]]))
    monkeypatch.setattr(
        command, "measure_cold_build", lambda device: startup.ColdBuild(device, 4.0, "jit")
    )


def test_a_quick_run_prints_a_table_for_each_mode_and_writes_json_and_picture(
    native_is: Install, without_subprocesses, tmp_path: Path, capsys
):
    native_is(faithful)
    found, picture = tmp_path / "found.json", tmp_path / "found.png"
    arguments = ["--quick", "--shapes", "4,2,8", "--budget", "0.01", "--check"]
    assert main([*arguments, "--json", str(found), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "cpu · training: forward + backward" in said
    assert "cpu · inference: forward" in said
    assert said.count("lif ATan float32 [4,2,8]") == 4  # a line of progress and a row, twice
    assert "import snnkernels adds 0.200 s to import torch" in said
    assert "cold build and load, cpu: 4.0 s" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert json.loads(found.read_text())["schema"] == report.SCHEMA


def test_the_json_holds_machine_settings_figures_and_targets(native_is: Install, tmp_path: Path):
    native_is(faithful)
    path = tmp_path / "found.json"
    assert main([*TINY, "--check", "--modes", "training", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert set(found) == {
        "schema", "written", "environment", "settings", "startup", "cases", "pairs", "targets",
        "not_measured",
    }  # fmt: skip
    assert found["environment"]["torch"] == torch.__version__
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert {"cpu", "gpu", "driver", "commit", "dirty"} <= set(found["environment"])
    (case,) = found["cases"]
    assert case["case"] == {
        "neuron": "lif", "dtype": "float32", "shape": [4, 2, 8], "mode": "training",
        "device": "cpu", "surrogate": "ATan",
    }  # fmt: skip
    assert case["traffic_bytes"] == 20 * 64
    assert set(case["contenders"]) == {"native", "torch", "copy", "clone"}
    native = case["contenders"]["native"]
    assert native["time"]["median"] > 0
    assert native["memory"]["saved"] > 0
    assert native["agreement"]["spikes_differing"] == 0
    reference = case["contenders"]["torch"]["time"]["median"]
    assert native["figures"]["ratio"] == pytest.approx(reference / native["time"]["median"])
    assert {target["what"] for target in found["targets"]} >= {"cold CPU build"}


def test_a_wrong_kernel_stops_the_run_before_timing_with_the_case_named(
    native_is: Install, monkeypatch, tmp_path: Path, capsys
):
    native_is(altered(flip_one_spike))
    monkeypatch.setattr(runner, "interleave", lambda *_: pytest.fail("timed a wrong kernel"))
    assert main([*TINY, "--check"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "check failed: cpu training lif ATan float32 [4,2,8]: native differs" in said
    assert "1 of 64 spikes differ" in said


def test_keep_going_lists_every_difference_and_still_fails(native_is: Install, capsys):
    native_is(altered(flip_one_spike))
    assert main([*TINY, "--check", "--keep-going"]) == 1
    assert capsys.readouterr().out.count("check failed:") == 2


def test_the_reference_alone_gets_rows_without_a_ratio(capsys):
    assert main([*TINY, "--backends", "torch"]) == 0
    said = capsys.readouterr().out
    assert "lif ATan float32 [4,2,8]" in said
    assert "x the reference" not in said


def test_cases_after_the_time_limit_are_named_and_not_measured(
    native_is: Install, tmp_path: Path, capsys
):
    native_is(faithful)
    path = tmp_path / "found.json"
    assert main([*TINY, "--time-limit", "1e-9", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert found["cases"] == []
    assert found["not_measured"] == [
        "cpu training lif ATan float32 [4,2,8]",
        "cpu inference lif ATan float32 [4,2,8]",
    ]
    assert "not measured: 2" in capsys.readouterr().out


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=lambda how: how.name)
def test_an_interrupted_run_keeps_what_it_has(
    how: signal.Signals, native_is: Install, monkeypatch, tmp_path: Path
):
    native_is(faithful)
    measured = runner.run_case
    # A shell starts what runs in its background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(case, *rest):
        if case.mode == "inference":
            signal.raise_signal(how)
        return measured(case, *rest)

    monkeypatch.setattr(runner, "run_case", interrupted)
    path = tmp_path / "found.json"
    try:
        assert main([*TINY, "--json", str(path)]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    found = json.loads(path.read_text())
    assert [case["case"]["mode"] for case in found["cases"]] == ["training"]
    assert len(found["not_measured"]) == 1


def test_pairs_of_the_targets_are_timed_where_both_of_their_cases_are(
    native_is: Install, monkeypatch, tmp_path: Path
):
    native_is(faithful)
    small = Case("lif", "float32", (4, 2, 8), "training", "cpu")
    pair = pairs.Pair("float64 over float32", small, replace(small, dtype="float64"))
    monkeypatch.setattr(pairs, "target_pairs", lambda: [pair])
    path = tmp_path / "found.json"
    for dtypes, expected in ((["float32"], []), (["float32", "float64"], [pair.what])):
        main([*TINY, "--modes", "training", "--dtypes", *dtypes, "--json", str(path)])
        assert [each["what"] for each in json.loads(path.read_text())["pairs"]] == expected


def test_a_contender_that_cannot_run_a_case_says_why_in_the_table(native_is: Install, capsys):
    def refuse(workload):
        raise Unavailable("no [fit] here")

    native_is(Contender("native", "fused", refuse))
    assert main(TINY) == 0
    assert "no [fit] here" in capsys.readouterr().out


def test_running_out_of_memory_skips_a_contender(tiny_case):
    def burst(workload):
        raise torch.OutOfMemoryError

    result = runner.run_case(
        tiny_case(), [faithful, Contender("torch", "reference", burst)], runner.Settings(0.0)
    )
    assert result.measurements["torch"].skipped == "out of memory"
    figures = result.figures("native")
    assert figures is not None and figures.ratio is None


def test_a_failed_build_is_told_without_a_traceback(monkeypatch, capsys):
    def fail(backend, device):
        raise command.BuildError("the kernels did not build: [no compiler]")

    monkeypatch.setattr(command, "resolve", fail)
    assert main(TINY) == 1
    assert "error: the kernels did not build: [no compiler]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--neurons", "foo"], "--neurons: invalid choice: 'foo'"),
        (["--shapes", "3"], "shape: got '3', expected T,B,..."),
        (["--surrogate", "Foo"], "--surrogate: invalid choice: 'Foo'"),
        (["--budget", "0"], "--budget: got '0', expected a number of seconds above 0"),
        (["--budget", "nan"], "--budget: got 'nan', expected a number"),
        (["--threads", "1.5"], "--threads: got '1.5', expected a whole number above 0"),
        (["--full", "--quick"], "not allowed with argument"),
        (["--targets", "--dtypes", "float64"], "--targets chooses its own rows"),
        (["--keep-going"], "--keep-going needs --check"),
        (["--json", "/does/not/exist.json"], "--json: the folder /does/not does not exist"),
        (["--json", "."], "which is a folder, expected a file name"),
        (["--plot", "picture.xyz"], "expected a suffix out of"),
        (["--device", "cpu"], "--device belongs to --gpu-round"),
        (["--results", "x"], "--results belongs to --gpu-round"),
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
        main(["--devices", "cuda"])
    assert "--devices: got cuda, but PyTorch sees no CUDA device" in capsys.readouterr().err


def test_every_surrogate_can_be_asked_for(tiny_case):
    for name in contenders.surrogate_names():
        case = tiny_case(surrogate=name)
        workload = contenders.make_workload(case)
        outcome = contenders.bind(contenders.make_forward(case, "torch"), workload)()
        assert outcome.gradients[0].isfinite().all()


def test_the_command_runs_from_a_checkout():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *TINY, "--backends", "torch", "--neurons", "plif"],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "plif ATan float32 [4,2,8]" in done.stdout


def test_the_import_is_timed_in_processes_of_its_own():
    summary = startup.measure_import(repeats=1)
    assert summary.count == 1
    assert summary.median > 0


def test_a_process_that_fails_hands_over_what_it_said():
    with pytest.raises(startup.StartupFailed, match="got 'nothing'"):
        startup.measure_cold_build("nothing")


@pytest.mark.slow
def test_torch_compile_runs_as_a_contender_with_its_compile_time(capsys):
    pytest.importorskip("torch._inductor")
    arguments = [*TINY, "--backends", "torch", "--compile", "--compile-max-steps", "1"]
    assert main([*arguments, "--shapes", "1,2,8", "2,2,8", "--modes", "training"]) == 0
    said = capsys.readouterr().out
    assert "compile s" in said
    assert "T=2 is over --compile-max-steps 1" in said


def test_a_record_tells_the_compiler_that_was_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    plain = environment.compiler()
    assert plain and "CXX" not in plain
    monkeypatch.setenv("CXX", "g++ -mno-avx512f")
    assert environment.compiler() == f"{plain} (CXX=g++ -mno-avx512f)"
    monkeypatch.setenv("CXX", "/nowhere/at/all/g++-99")
    assert environment.compiler() is None
