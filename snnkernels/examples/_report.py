"""What the one who waits sees: a progress bar, a line for each epoch, and TensorBoard's curves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from . import _distributed as distributed
from ._checkpoint import EpochResult, Figures
from ._errors import ExampleError, needs_extra

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_REFRESH_S = 0.1


class Meter:
    """Mean loss and accuracy over the samples seen, shown in a progress bar.

    The sums stay on the device and are fetched only when the bar is drawn, so that a GPU need not
    wait for each batch.
    """

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self._loss: Tensor | float = 0.0
        self._correct: Tensor | int = 0
        self._count = 0
        self._start = self._drawn = time.perf_counter()

    def add(self, loss: Tensor, rates: Tensor, labels: Tensor) -> None:
        """A batch: its mean loss, its firing rates ``[B, classes]`` and its labels ``[B]``."""
        self._loss = self._loss + loss.detach() * len(labels)
        self._correct = self._correct + (rates.argmax(1) == labels).sum()
        self._count += len(labels)
        if not self._progress.disable and time.perf_counter() - self._drawn > _REFRESH_S:
            self._draw()

    def figures(self) -> Figures:
        """The figures of all processes at the end; waits for them and for the device."""
        return self._figures(distributed.total(self._sums()))

    def _sums(self) -> Tensor:
        loss = torch.as_tensor(self._loss, dtype=torch.float32)
        rest = (torch.as_tensor(n, device=loss.device) for n in (self._correct, self._count))
        return torch.stack([loss, *rest])

    def _figures(self, sums: Tensor) -> Figures:
        loss, correct, count = sums.tolist()
        seconds = time.perf_counter() - self._start
        return Figures(int(count), loss / count, correct / count, seconds)

    def _draw(self) -> None:
        now = self._figures(self._sums())
        self._drawn = time.perf_counter()
        text = f"loss {now.loss:.4f}, accuracy {now.accuracy:.1%}, {_speed(now)}"
        completed = now.samples * distributed.processes()
        self._progress.update(self._task, completed=completed, figures=text, refresh=True)


@contextmanager
def progress_bar(label: str, samples: int) -> Iterator[Meter]:
    """A bar on stderr over ``samples`` samples, gone at its end; none if that is no terminal."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        auto_refresh=False,
        disable=not console.is_terminal or distributed.rank() > 0,
    )
    with progress:
        yield Meter(progress, progress.add_task(label, total=samples, figures=""))


def epoch_line(result: EpochResult, epochs: int) -> str:
    """The report of an epoch, in one line."""
    training, test = result.training, result.test
    return (
        f"epoch {result.epoch}/{epochs}: loss {training.loss:.4f}, accuracy "
        f"{training.accuracy:.2%} training, {test.accuracy:.2%} test; "
        f"{training.seconds:.1f} s training ({_speed(training)}), {test.seconds:.1f} s test"
    )


def _speed(figures: Figures) -> str:
    return f"{figures.samples / figures.seconds:,.0f} images/s"


@contextmanager
def accuracy_log(folder: str, epochs_done: int) -> Iterator[SummaryWriter]:
    """A TensorBoard writer into ``folder``, where later epochs of an earlier run are purged."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise needs_extra("TensorBoard", error) from error
    with _curves_in(folder):
        writer = SummaryWriter(folder, purge_step=epochs_done + 1)
    try:
        yield writer
    except BaseException:
        with suppress(OSError):  # what ended the run says more
            writer.close()
        raise
    with _curves_in(folder):
        writer.close()


def log_accuracy(writer: SummaryWriter, result: EpochResult) -> None:
    """Add the accuracies of an epoch to TensorBoard's scalars, on disk at once.

    Raises:
        ExampleError: they can't be written.
    """
    with _curves_in(writer.log_dir):
        writer.add_scalar("train_accuracy", result.training.accuracy, result.epoch)
        writer.add_scalar("test_accuracy", result.test.accuracy, result.epoch)
        writer.flush()


@contextmanager
def _curves_in(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExampleError(
            f"TensorBoard's curves in {folder} can't be written ({error}): after mending that, "
            "--resume goes on after the last finished epoch"
        ) from error
