"""``mnist``: accuracy and time of finished runs of ``lif_fc_mnist``, for docs/mnist.md.

    python -m benchmarks mnist "tau 2=DIR" "tau 100=DIR" --json FILE

reads the checkpoints that the runs left in their log dirs; ``report`` writes the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from benchmarks import arguments, environment
from benchmarks.results import Results

RESULT = environment.RESULTS / "mnist-cpu.json"
SETTINGS = ("tau", "T", "batch_size", "learning_rate", "seed", "encoder", "step_mode", "backend")


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="NAME=DIR", help="a run's name and log dir")
    parser.add_argument("--json", type=arguments.file, default=RESULT, help="default %(default)s")


def run(options: argparse.Namespace, console: Console) -> int:
    """Read the runs' checkpoints, a row for each epoch."""
    results = Results("mnist", environment.describe("cpu"))
    for text in options.runs:
        name, _, folder = text.rpartition("=")
        settings, rows = read_run(name, Path(folder))
        results.settings[name] = settings
        results.rows += rows
    results.write(options.json)
    console.print(f"written: {options.json}", markup=False)
    return 0


def read_run(name: str, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Settings and epochs of the run that left its checkpoint in a folder."""
    content = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    settings = {each: content["settings"][each] for each in SETTINGS}
    rows = [
        {
            "run": name,
            "epoch": epoch["epoch"],
            "training_seconds": epoch["training"]["seconds"],
            "test_seconds": epoch["test"]["seconds"],
            "accuracy": epoch["test"]["accuracy"],
        }
        for epoch in content["results"]
    ]
    return settings, rows


def runs_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run."""
    grouped = frame.groupby("run", sort=False)
    seconds = frame["training_seconds"] + frame["test_seconds"]
    return pd.DataFrame(
        {
            "epochs": grouped.size(),
            "training, s an epoch": grouped["training_seconds"].median().map("{:.1f}".format),
            "test, s": grouped["test_seconds"].median().map("{:.1f}".format),
            "all epochs, s": seconds.groupby(frame["run"], sort=False).sum().map("{:.0f}".format),
            "best test accuracy": grouped["accuracy"].max().map("{:.2%}".format),
        }
    ).reset_index()


def accuracies(frame: pd.DataFrame) -> pd.DataFrame:
    """Percent by epoch and run, the runs in their order."""
    wide = frame.pivot(index="epoch", columns="run", values="accuracy")
    return 100 * wide[frame["run"].unique()]


def draw(frame: pd.DataFrame, path: Path) -> None:
    """Test accuracy over the epochs, a line for each run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, percent in accuracies(frame).items():
        axes.plot(percent.index, percent, marker=".", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
