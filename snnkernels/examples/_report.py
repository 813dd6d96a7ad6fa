"""What the one who waits sees: a progress bar, a line for each epoch, and TensorBoard's curves."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from . import ExampleError, needs
from . import _distributed as distributed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@dataclass(frozen=True)
class Figures:
    """What a pass over samples came to: mean loss, accuracy in [0, 1], and wall-clock seconds."""

    samples: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class EpochResult:
    """An epoch, counted from 1, and what its training and its test came to."""

    epoch: int
    training: Figures
    test: Figures

    def __str__(self) -> str:
        training, test = self.training, self.test
        speed = training.samples / training.seconds
        return (
            f"loss {training.loss:.4f}, accuracy {training.accuracy:.2%} training, "
            f"{test.accuracy:.2%} test; {training.seconds:.1f} s training ({speed:,.0f} images/s), "
            f"{test.seconds:.1f} s test"
        )


class Meter:
    """Sums over the samples seen; they stay on the device, which thus need not wait for a batch."""

    def __init__(self, device: torch.device) -> None:
        self._sums, self._count = torch.zeros(2, device=device), 0
        self._start = time.perf_counter()

    def add(self, loss: Tensor, rates: Tensor, labels: Tensor) -> None:
        """A batch: its mean loss, its firing rates ``[B, classes]`` and its labels ``[B]``."""
        correct = (rates.argmax(1) == labels).sum()
        self._sums += torch.stack([loss.detach() * len(labels), correct])
        self._count += len(labels)

    def figures(self) -> Figures:
        """The figures of all processes; waits for them and for the device."""
        sums = torch.cat([self._sums, self._sums.new_tensor([self._count])])
        loss, correct, count = distributed.total(sums).tolist()
        seconds = time.perf_counter() - self._start
        return Figures(int(count), loss / count, correct / count, seconds)


def progress(batches: tuple[Tensor, ...], label: str) -> Iterable[Tensor]:
    """The batches, under a bar on stderr that is gone at its end; none if that is no terminal."""
    console = Console(stderr=True)
    hidden = not console.is_terminal or distributed.rank() > 0
    return track(batches, label, console=console, transient=True, disable=hidden)


def accuracy_log(folder: str, epochs_done: int) -> SummaryWriter:
    """TensorBoard's writer into ``folder``, where later epochs of an earlier run are purged.

    Raises:
        Missing: TensorBoard does not import.
    """
    with needs("TensorBoard"):
        from torch.utils.tensorboard import SummaryWriter
    return SummaryWriter(folder, purge_step=epochs_done + 1)


@contextmanager
def writing(folder: str) -> Iterator[None]:
    """A block that writes to ``folder``; raises ExampleError, naming it, if it can't."""
    try:
        yield
    except OSError as error:
        raise ExampleError(
            f"checkpoint or curves in {folder} can't be written ({error}): after mending that, "
            "--resume goes on after the last finished epoch"
        ) from error
