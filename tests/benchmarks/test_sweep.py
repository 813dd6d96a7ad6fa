"""Sweeping the launch constants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import sweep
from benchmarks.__main__ import main, make_parser
from benchmarks.environment import ROOT
from benchmarks.results import Results, read
from snnkernels._backends import headers

CONSTANTS = "import snnkernels; from snnkernels._backends import headers; print(headers.LAUNCH)"
FLAGS = """
from snnkernels._build.archs import parse_archs
from snnkernels._build.specification import cpu_library, csrc_dir, cuda_library
from snnkernels._backends.nvrtc import programs
cuda = cuda_library(csrc_dir(), archs=parse_archs("90"))
for flags in (cpu_library(csrc_dir(), target=()).cxx_flags, cuda.cxx_flags, cuda.cuda_flags,
              programs.FLAGS):
    print([flag for flag in flags if flag.startswith("-DSNN_")])
"""


def python(code: str, launch: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SNNKERNELS_LAUNCH": launch, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def test_the_constants_that_are_swept_exist_and_stand_as_they_are_among_the_values():
    for device in sweep.VALUES.values():
        for constant, values in device.items():
            assert headers.LAUNCH[constant] in values


def test_every_combination_is_tried_once():
    chosen = {"SNN_CPU_CHUNK": (8, 16), "SNN_CPU_LANES": (128, 256)}
    tried = [tuple(setting.values()) for setting in sweep.combinations(chosen)]
    assert tried == [(8, 128), (8, 256), (16, 128), (16, 256)]


def test_the_package_takes_the_constants_that_the_variable_sets():
    done = python(CONSTANTS, sweep.name({"SNN_CPU_CHUNK": 4, "SNN_CPU_LANES": 64}))
    assert done.returncode == 0, done.stderr
    assert eval(done.stdout) == {**headers.LAUNCH, "SNN_CPU_CHUNK": 4, "SNN_CPU_LANES": 64}


def test_every_compiler_is_told_of_them_and_of_one_value_each():
    done = python(FLAGS, "SNN_CPU_CHUNK=4, SNN_CUDA_CHUNK=2,SNN_CPU_CHUNK=8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(["-DSNN_CPU_CHUNK=8", "-DSNN_CUDA_CHUNK=2"])] * 4


@pytest.mark.parametrize("launch", ["NOTHING=4", "SNN_CPU_CHUNK=", "SNN_CPU_CHUNK=0"])
def test_a_variable_that_says_something_else_is_refused_by_name(launch):
    done = python(CONSTANTS, launch)
    assert f"SNNKERNELS_LAUNCH: got {launch}, expected NAME=VALUE, a positive" in done.stderr


def test_a_wheel_is_not_built_with_other_constants():
    code = "from snnkernels._build.ahead import plans_ahead; plans_ahead('cpu')"
    assert "unset SNNKERNELS_LAUNCH" in python(code, "SNN_CPU_CHUNK=4").stderr


@pytest.mark.parametrize(
    "text", ["SNN_CPU_CHUNK", "SNN_CPU_CHUNK=0", "NOTHING=4", "SNN_CPU_LANES=a"]
)
def test_a_bad_setting_is_refused_by_name(text, capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--set", text])
    message = " ".join(capsys.readouterr().err.split())
    assert f"got {text!r}, expected NAME=VALUE,... with positive integers" in message
    assert "SNN_CPU_CHUNK" in message


@pytest.mark.slow
def test_a_sweep_builds_checks_and_times_each_combination(tmp_path: Path, capsys):
    file = tmp_path / "sweep.json"
    settings = ["--set", "SNN_CPU_CHUNK=3", "--set", "SNN_CPU_PANEL=4"]
    command = ["--time", "neurons --shapes 7,2,40 --budget 0.01"]
    assert main(["sweep", "--device", "cpu", *settings, *command, "--json", str(file)]) == 0
    rows = read(file).rows
    assert [row["contender"] for row in rows] == ["SNN_CPU_CHUNK=3, SNN_CPU_PANEL=4"] * 2
    assert all(row["verdict"] == "same" for row in rows)
    assert "SNN_CPU_CHUNK=3" in capsys.readouterr().out


def test_of_all_rounds_the_least_median_counts(tmp_path: Path, monkeypatch):
    from benchmarks.case import Case

    seconds = iter([3.0, 5.0, 4.0, 1.0])

    def measure(setting, options):
        return [{**Case("neuron", (4, 2, 8)).columns(), "contender": "x", "median": next(seconds)}]

    monkeypatch.setattr(sweep, "measure", measure)
    file = tmp_path / "sweep.json"
    arguments = ["--set", "SNN_CPU_CHUNK=4,8", "--rounds", "2", "--json", str(file)]
    assert main(["sweep", "--device", "cpu", *arguments]) == 0
    found = {row["contender"]: row["median"] for row in read(file).rows}
    assert found == {"SNN_CPU_CHUNK=4": 3.0, "SNN_CPU_CHUNK=8": 1.0}


def test_a_combination_whose_results_were_not_compared_does_not_count(monkeypatch):
    from benchmarks.case import Case

    row = {**Case("neuron", (4, 2, 8)).columns(), "contender": "native", "median": 1.0}
    monkeypatch.setattr(sweep, "read", lambda file: Results("neurons", {}, rows=[row]))
    monkeypatch.setattr(
        sweep.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, "", "")
    )
    options = make_parser().parse_args(["sweep", "--device", "cpu"])
    with pytest.raises(sweep.SweepFailed, match="not compared with plain PyTorch: cpu neuron"):
        sweep.measure({"SNN_CPU_CHUNK": 4}, options)


def test_a_combination_that_fails_is_named_with_its_reason(monkeypatch, capsys):
    def fail(setting, options):
        raise sweep.SweepFailed("no compiler")

    monkeypatch.setattr(sweep, "measure", fail)
    assert main(["sweep", "--device", "cpu", "--set", "SNN_CPU_CHUNK=4"]) == 1
    assert "SNN_CPU_CHUNK=4: no compiler" in capsys.readouterr().out
