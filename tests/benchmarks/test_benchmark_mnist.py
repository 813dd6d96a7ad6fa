"""The page of the tutorial's network says what the committed runs recorded."""

from __future__ import annotations

import json

import pytest

from benchmarks import mnist
from snnkernels.examples import lif_fc_mnist

pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
pytest.importorskip("tensorboard", reason="the example writes TensorBoard's files")


def test_a_run_is_recorded_with_its_settings_and_every_epoch(tmp_path):
    flags = ["--dataset", "digits", "--epochs", "2", "-T", "3", "--tau", "4"]
    assert lif_fc_mnist.main([*flags, "--log-dir", str(tmp_path / "run")]) == 0
    path = tmp_path / "found.json"
    assert mnist.main(["--record", f"tau=4={tmp_path / 'run'}", "--json", str(path)]) == 0
    run = json.loads(path.read_text())["runs"]["tau=4"]
    assert run["settings"]["tau"] == 4
    assert [epoch["epoch"] for epoch in run["epochs"]] == [1, 2]
    text = mnist.markdown(json.loads(path.read_text()))
    assert f"| 2 | {100 * run['epochs'][1]['test']['accuracy']:.2f} |" in text


def test_the_page_is_what_the_committed_runs_say():
    page = mnist.PAGE.read_text(encoding="utf-8")
    text = mnist.markdown(json.loads(mnist.RESULT.read_text()))
    assert mnist.replace_between(page, mnist.BEGIN, text) == page
