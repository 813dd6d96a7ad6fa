"""Runs of milliseconds on a few of the digits, and what they leave in their log dir."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from snnkernels.examples import _checkpoint, _training

SAMPLES, TEST, BATCH = 40, 360, 30
PASSES = 2 + 12
"""Forward passes of an epoch: batches of 30 and 10 in training, 12 of 30 in its test."""


def flags(log: Path, *argv: str) -> list[str]:
    """The flags of a run of one epoch into ``log``, and others."""
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    pytest.importorskip("tensorboard", reason="the examples write TensorBoard's files")
    size = ["--train-samples", str(SAMPLES), "--batch-size", str(BATCH), "-T", "2"]
    return ["--dataset", "digits", *size, "--epochs", "1", "--log-dir", str(log), *argv]


def saved(log: Path, name: str = "checkpoint.pt") -> SimpleNamespace:
    """A checkpoint in a log dir: its settings, its results as objects, and all of it."""
    content = _checkpoint.load(Path(log) / name)
    assert content is not None
    results = [
        SimpleNamespace(
            epoch=each["epoch"],
            training=_training.Figures(**each["training"]),
            test=_training.Figures(**each["test"]),
        )
        for each in content["results"]
    ]
    return SimpleNamespace(settings=content["settings"], results=results, content=content)
