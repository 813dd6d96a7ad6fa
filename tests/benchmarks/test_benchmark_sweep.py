"""Sweeping the launch constants."""

import json
import re

import pytest

from benchmarks import sweep


def test_the_constants_are_those_of_the_launch_header():
    found = sweep.constants()
    for device in (*sweep.CONSTANTS.values(), sweep.LINEAR):
        for constant, values in device.items():
            assert found[constant] in values


def test_every_combination_is_tried_once():
    chosen = {"SNN_CPU_CHUNK": (8, 16), "SNN_CPU_LANES": (128, 256)}
    tried = [tuple(setting.values()) for setting in sweep.combinations(chosen)]
    assert tried == [(8, 128), (8, 256), (16, 128), (16, 256)]


def test_a_copy_holds_the_constants_and_leaves_the_source_alone(tmp_path):
    before = sweep.constants()
    copy = sweep.prepare(tmp_path / "copy", {"SNN_CPU_CHUNK": 4, "SNN_CPU_LANES": 64})
    assert sweep.constants(copy) == {**before, "SNN_CPU_CHUNK": 4, "SNN_CPU_LANES": 64}
    assert sweep.constants() == before


@pytest.mark.parametrize(
    "text", ["SNN_CPU_CHUNK", "SNN_CPU_CHUNK=0", "NOTHING=4", "SNN_CPU_LANES=a"]
)
def test_a_bad_setting_is_refused_by_name(text, capsys):
    with pytest.raises(SystemExit):
        sweep.main(["--set", text])
    message = " ".join(capsys.readouterr().err.split())
    assert f"got {text!r}, expected NAME=VALUE,... with positive integers" in message
    assert "SNN_CPU_CHUNK" in message


@pytest.mark.slow
def test_a_sweep_builds_checks_and_times_each_combination(tmp_path, capsys):
    file = tmp_path / "sweep.json"
    arguments = ["--set", "SNN_CPU_CHUNK=3", "--shapes", "7,2,40", "--rounds", "1"]
    assert sweep.main([*arguments, "--json", str(file)]) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert row["constants"] == {"SNN_CPU_CHUNK": 3}
    assert set(row["seconds"]) == {"training float32 [7, 2, 40]", "inference float32 [7, 2, 40]"}
    assert re.search(r"SNN_CPU_CHUNK\s+3", capsys.readouterr().out)


@pytest.mark.slow
def test_linear_layers_can_be_swept_too(tmp_path):
    file = tmp_path / "sweep.json"
    arguments = ["--linear", "--set", "SNN_CPU_PANEL=4", "--rounds", "1", "--json", str(file)]
    assert sweep.main(arguments) == 0
    (row,) = json.loads(file.read_text())["rows"]
    assert row["constants"] == {"SNN_CPU_PANEL": 4}
    assert "Linear layer, [6400, 784] to 196, 5% fired" in row["seconds"]


def test_a_combination_that_fails_is_named_with_its_reason(monkeypatch, capsys):
    def fail(folder, options):
        raise sweep.SweepFailed("no compiler")

    monkeypatch.setattr(sweep, "measure", fail)
    assert sweep.main(["--set", "SNN_CPU_CHUNK=4", "--rounds", "1"]) == 1
    assert "SNN_CPU_CHUNK 4: no compiler" in capsys.readouterr().out
