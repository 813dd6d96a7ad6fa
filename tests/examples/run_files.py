"""Runs of milliseconds on a few of the digits, and what they leave in their log dir."""

from pathlib import Path

import pytest

from snnkernels.examples import _checkpoint

SAMPLES, TEST, BATCH = 40, 360, 30
PASSES = 2 + 12
"""Forward passes of an epoch: batches of 30 and 10 in training, 12 of 30 in its test."""


def flags(log: Path, *argv: str) -> list[str]:
    """The flags of a run of one epoch into ``log``, and others."""
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    pytest.importorskip("tensorboard", reason="the examples write TensorBoard's files")
    size = ["--train-samples", str(SAMPLES), "--batch-size", str(BATCH), "-T", "2"]
    return ["--dataset", "digits", *size, "--epochs", "1", "--log-dir", str(log), *argv]


def saved(log: Path) -> _checkpoint.Checkpoint:
    """The checkpoint in a log dir."""
    checkpoint = _checkpoint.load(Path(log) / "checkpoint.pt")
    assert checkpoint is not None
    return checkpoint
