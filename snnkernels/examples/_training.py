"""The run that all examples share: epochs, precision, checkpoints, logs, starting and resuming."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn, optim

from snnkernels import functional
from snnkernels._backends import selection
from snnkernels._build import BuildError
from snnkernels.encoding import PoissonEncoder

from . import ExampleError, needs
from . import _checkpoint as checkpoints
from . import _distributed as distributed
from ._data import BATCH_SIZES, Dataset, Samples, load_dataset
from ._settings import Parser, Settings
from ._step import CapturedStep, TrainingStep, firing_loss

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

BuildNet = Callable[[int, Settings], nn.Sequential]
"""The network of an example for a number of pixels, on its device."""


@dataclass(frozen=True)
class Figures:
    """What a pass over samples came to: mean loss, accuracy in [0, 1], and wall-clock seconds."""

    samples: int
    loss: float
    accuracy: float
    seconds: float


class Rates(nn.Module):
    """A network as one module from images ``[B, pixels]`` to firing rates ``[B, classes]``."""

    def __init__(self, net: nn.Sequential, settings: Settings) -> None:
        super().__init__()
        self.net, self._settings = net, settings
        self._device_type = torch.device(settings.device).type

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._settings.amp):
            return firing_rates(self.net, images, self._settings).float()


def firing_rates(net: nn.Sequential, images: Tensor, settings: Settings) -> Tensor:
    """Spikes per step of each output neuron, ``[B, 10]``, for images ``[B, pixels]``."""
    T, encoder = settings.T, PoissonEncoder()
    direct = settings.encoder == "direct"
    if direct:  # the first layer's current is the same in every step
        images, net = net[0](images), nn.Sequential(*list(net)[1:])
    if settings.step_mode == "m":
        x_seq = images.expand(T, *images.shape) if direct else encoder.encode(images, T)
        return net(x_seq).mean(0)
    return sum(net(images if direct else encoder(images)) for _ in range(T)) / T


def train_epoch(
    step: TrainingStep, samples: Samples, settings: Settings, label: str = "training"
) -> Figures:
    """One pass over the training samples, in random order, under a progress bar.

    Of several processes each takes its share of every batch; a last batch with fewer images than
    processes is left out.
    """
    assert settings.batch_size is not None
    step.model.train()
    processes = distributed.processes()
    order = torch.randperm(len(samples)).to(samples.labels.device)
    if processes > 1:
        dist.broadcast(order, src=0)
    batches = [each for each in order.split(settings.batch_size) if len(each) >= processes]
    return _pass(step, batches, samples, label)


@torch.no_grad()
def evaluate(
    model: nn.Module, samples: Samples, settings: Settings, label: str = "test"
) -> Figures:
    """One pass over the test samples, of which each process takes its share."""
    assert settings.batch_size is not None
    model.eval()

    def step(images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
        rates = model(images)
        functional.reset_net(model)
        return firing_loss(rates, labels), rates

    batches = torch.arange(len(samples)).split(settings.batch_size * distributed.processes())
    return _pass(step, batches, samples, label)


def _pass(
    step: Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]],
    batches: Sequence[Tensor],
    samples: Samples,
    label: str,
) -> Figures:
    """Let ``step`` see this process's images of each batch; a bar on a terminal shows it.

    The sums stay on the device, which thus need not wait for a batch.
    """
    processes, console = distributed.processes(), Console(stderr=True)
    hidden = not console.is_terminal or distributed.rank() > 0
    start, sums = time.perf_counter(), torch.zeros(2, device=samples.labels.device)
    for batch in track(batches, label, console=console, transient=True, disable=hidden):
        if len(own := batch[distributed.rank() :: processes]):
            labels = samples.labels[own]
            loss, rates = step(samples.images[own], labels, len(own) * processes / len(batch))
            sums += torch.stack([loss.detach() * len(own), (rates.argmax(1) == labels).sum()])
    if processes > 1:
        dist.all_reduce(sums)
    count = sum(map(len, batches))
    loss_sum, correct = sums.tolist()
    return Figures(count, loss_sum / count, correct / count, time.perf_counter() - start)


def train(
    settings: Settings, checkpoint: dict[str, Any] | None = None, *, build: BuildNet
) -> list[dict[str, Any]]:
    """Train and test for ``settings.epochs`` epochs; writes checkpoint and logs after each.

    Processes that have joined share each batch and the test samples; the first reports and writes.

    Args:
        settings: what to train on, and how.
        checkpoint: where to go on, as if the run had never stopped; None for new weights.
        build: makes the network.

    Returns:
        For each epoch, those of the checkpoint included, its number as ``"epoch"``, counted from 1,
        and the fields of its ``Figures`` as ``"training"`` and ``"test"``.

    Raises:
        ExampleError: the data, a backend that was asked for by name, or a package is not there,
            settings do not go together, or the checkpoint is another run's or can't be written.
        BuildError: kernels that were asked for can't be built.
    """
    settings, dataset = _prepare(settings)
    torch.manual_seed(settings.seed)
    net = build(dataset.train.images.shape[1], settings)
    optimizer = optim.Adam(
        net.parameters(), lr=settings.learning_rate, capturable=settings.cuda_graph
    )
    results: list[dict[str, Any]] = []
    if checkpoint:
        checkpoints.restore(checkpoint, settings, net, optimizer)
        results += checkpoint["results"]
    model = Rates(net, settings)
    if settings.cuda_graph:
        step: TrainingStep = CapturedStep(
            model, optimizer, dataset.train.first(settings.batch_size)
        )
    else:
        parallel = distributed.processes() > 1
        step = TrainingStep(
            nn.parallel.DistributedDataParallel(model) if parallel else model, optimizer
        )
    writer = _writer(settings, checkpoint) if distributed.rank() == 0 else None
    for epoch in range(len(results) + 1, settings.epochs + 1):
        label = f"epoch {epoch}/{settings.epochs}"
        distributed.seed(settings.seed, epoch)
        training = train_epoch(step, dataset.train, settings, f"{label} training")
        test = evaluate(model, dataset.test, settings, f"{label} test")
        results.append({"epoch": epoch, "training": asdict(training), "test": asdict(test)})
        if writer:
            _say(
                f"{label}: loss {training.loss:.4f}, accuracy {training.accuracy:.2%} training, "
                f"{test.accuracy:.2%} test; {training.seconds:.1f} s training "
                f"({training.samples / training.seconds:,.0f} images/s), {test.seconds:.1f} s test"
            )
            with _writing(settings.log_dir):
                writer.add_scalar("train_accuracy", training.accuracy, epoch)
                writer.add_scalar("test_accuracy", test.accuracy, epoch)
                writer.flush()
                checkpoints.save(settings, results, net, optimizer)
    if writer:
        writer.close()
    return results


def _prepare(settings: Settings) -> tuple[Settings, Dataset]:
    """The data on the device, and the settings with what depended on it; says how a run computes.

    The backend is built here, so that no epoch waits for it.
    """
    with distributed.first_alone():
        found = load_dataset(settings.dataset, Path(settings.dataset_dir))
    batch_size = settings.batch_size or BATCH_SIZES[found.name]
    settings = replace(settings, dataset=found.name, batch_size=batch_size)
    device, train = torch.device(settings.device), found.train.first(settings.train_samples)
    processes = distributed.processes()
    _check(settings, min(batch_size, len(train)))
    try:
        backend = selection.resolve(settings.backend, device.type).name
    except ValueError as error:
        raise ExampleError(str(error)) from error
    _say(
        f"{found.name}: {len(train):,} training and {len(found.test):,} test images; "
        f"{backend} backend on {device}"
        + ", autocast to bfloat16" * settings.amp
        + ", a CUDA graph for each step" * settings.cuda_graph
        + f", {processes} processes" * (processes > 1)
    )
    return settings, Dataset(found.name, train.to(device), found.test.to(device))


def _check(settings: Settings, images: int) -> None:
    """Raises ExampleError where settings do not go together."""
    processes = distributed.processes()
    if settings.cuda_graph and (torch.device(settings.device).type != "cuda" or processes > 1):
        raise ExampleError(
            f"--cuda-graph: got --device {settings.device} and {processes} processes, expected a "
            "GPU, e.g. --device cuda:0, and one process"
        )
    if images < processes:
        raise ExampleError(
            f"--batch-size and --train-samples count the images of all {processes} processes "
            f"together: got {images}, expected at least {processes}"
        )


def _writer(settings: Settings, checkpoint: dict[str, Any] | None) -> SummaryWriter:
    """TensorBoard's, which purges later epochs of an earlier run.

    A new run keeps the checkpoint of an earlier one under another name.
    """
    with needs("TensorBoard"):
        from torch.utils.tensorboard import SummaryWriter
    path, done = settings.checkpoint, len(checkpoint["results"]) if checkpoint else 0
    with _writing(settings.log_dir):
        writer = SummaryWriter(settings.log_dir, purge_step=done + 1)
        if not checkpoint and path.exists():
            aside = path.with_name(f"{path.name}.previous")
            os.replace(path, aside)
            print(f"The checkpoint of an earlier run is now {aside}", file=sys.stderr)
    return writer


@contextmanager
def _writing(folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExampleError(
            f"checkpoint or curves in {folder} can't be written ({error}): after mending that, "
            "--resume goes on after the last finished epoch"
        ) from error


def _say(text: str) -> None:
    if distributed.rank() == 0:
        print(text, flush=True)


def run(
    example: str,
    document: str | None,
    build: BuildNet,
    argv: Sequence[str] | None = None,
    **settings: Any,
) -> int:
    """Run an example that trains the network of ``build``.

    Args:
        example: the command's name, and that of its log dir.
        document: the example's docstring, whose first line ``--help`` shows.
        build: makes the network.
        argv: the flags; None for those of the command line. Without any, the settings are asked for
            at the prompt, but not under ``torchrun``.
        settings: the example's own defaults.

    Returns:
        The exit status: 0, 1 after an error, 130 if interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    defaults = Settings(**{"log_dir": f"runs/{example}", **settings})
    parser = Parser(example, (document or "").partition("\n")[0], defaults)
    try:
        if not argv and not distributed.launched():
            argv = parser.ask()
        chosen, resume = parser.read(argv)
        checkpoint = checkpoints.load(chosen.checkpoint) if resume else None
        if checkpoint:
            done = len(checkpoint["results"])
            chosen = parser.read_resumed(argv, checkpoint["settings"])
            more = f"All epochs are done: more are trained with --epochs {done + 1} or above"
            _say(f"Going on after epoch {done}" if done < chosen.epochs else more)
        elif resume and distributed.rank() == 0:
            print(f"There is no {chosen.checkpoint}: beginning with epoch 1", file=sys.stderr)
        with distributed.joined(chosen.device) as device:
            train(replace(chosen, device=device), checkpoint, build=build)
    except (ExampleError, BuildError, OSError) as error:
        print(f"{example}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. --resume goes on after the last finished epoch.", file=sys.stderr)
        return 130
    _say(f"Curves: tensorboard --logdir {chosen.log_dir}")
    return 0
