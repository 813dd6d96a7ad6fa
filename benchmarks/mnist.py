"""``python -m benchmarks.mnist``: accuracy and time of runs of ``lif_fc_mnist``, as a docs page.

    python -m benchmarks.mnist --record "tau 2=DIR" "tau 100=DIR" --json FILE
    python -m benchmarks.mnist

The first reads the checkpoints that finished runs left in their log dirs, and writes what they say
to a file; the second writes table and picture of docs/mnist.md from benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks import environment
from benchmarks.markdown import replace_between, table
from benchmarks.report import write_json

RESULT = environment.ROOT / "benchmarks" / "results" / "mnist-cpu.json"
PAGE = environment.ROOT / "docs" / "mnist.md"
PICTURE = "images/mnist-cpu.png"
BEGIN = "<!-- begin: written by python -m benchmarks.mnist -->"
SCHEMA = 1
HEADINGS = (
    "run",
    "epochs",
    "training, s an epoch",
    "test, s",
    "all epochs, s",
    "best test accuracy",
)
SETTINGS = ("tau", "T", "batch_size", "learning_rate", "seed", "encoder", "step_mode", "backend")


@dataclass(frozen=True)
class Runs:
    """What finished runs recorded, by name, and the machine they ran on."""

    environment: dict[str, object]
    runs: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "environment": self.environment, "runs": self.runs}


def read_run(folder: Path) -> dict[str, Any]:
    """Settings and epochs of the run that left its checkpoint in a folder."""
    content = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    settings = {name: content["settings"][name] for name in SETTINGS}
    return {"settings": settings, "epochs": content["results"]}


def markdown(found: dict[str, Any]) -> str:
    """The file as the page's text."""
    runs: dict[str, dict[str, Any]] = found["runs"]
    epochs = range(max(len(run["epochs"]) for run in runs.values()))
    lines = [
        f"{environment.summary(found['environment'])}.",
        "",
        f"![Accuracy]({PICTURE})",
        "",
        *table(HEADINGS, [_run_cells(name, run["epochs"]) for name, run in runs.items()]),
        "",
        "Test accuracy after each epoch, in percent:",
        "",
        *table(["epoch", *runs], [_epoch_cells(k, runs.values()) for k in epochs]),
    ]
    return "\n".join(lines) + "\n"


def _run_cells(name: str, epochs: Sequence[dict[str, Any]]) -> list[str]:
    training, test = ([epoch[which] for epoch in epochs] for which in ("training", "test"))
    return [
        name,
        str(len(epochs)),
        f"{_median_seconds(training):.1f}",
        f"{_median_seconds(test):.1f}",
        f"{sum(figures['seconds'] for figures in training + test):.0f}",
        f"{max(figures['accuracy'] for figures in test):.2%}",
    ]


def _epoch_cells(k: int, runs: Iterable[dict[str, Any]]) -> list[str]:
    """The accuracy of each run after epoch k, counted from 0."""
    epochs = (run["epochs"][k : k + 1] for run in runs)
    found = [f"{100 * each[0]['test']['accuracy']:.2f}" if each else "" for each in epochs]
    return [str(k + 1), *found]


def _median_seconds(figures: Sequence[dict[str, float]]) -> float:
    return statistics.median(each["seconds"] for each in figures)


def draw(found: dict[str, Any], path: Path) -> None:
    """Test accuracy over the epochs, a line for each run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, run in found["runs"].items():
        accuracy = [100 * epoch["test"]["accuracy"] for epoch in run["epochs"]]
        axes.plot(range(1, len(accuracy) + 1), accuracy, marker=".", label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Record or write; returns 0."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mnist",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", nargs="+", metavar="NAME=DIR", help="runs to read")
    parser.add_argument("--json", type=Path, default=RESULT, help="the file to write or read")
    options = parser.parse_args(argv)
    if options.record:
        pairs = [text.rpartition("=") for text in options.record]
        runs = {name: read_run(Path(folder)) for name, _, folder in pairs}
        write_json(Runs(environment.describe(["cpu"]), runs), options.json)
        return 0
    found = json.loads(options.json.read_text())
    text = replace_between(PAGE.read_text(encoding="utf-8"), BEGIN, markdown(found))
    PAGE.write_text(text, encoding="utf-8")
    draw(found, PAGE.parent / PICTURE)
    print(f"written: {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
