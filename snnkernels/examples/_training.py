"""The run that all examples share: epochs, precision, checkpoints, logs, starting and resuming."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn, optim

from snnkernels import functional
from snnkernels._backends import selection
from snnkernels._build import BuildError
from snnkernels.encoding import PoissonEncoder

from . import ExampleError
from . import _checkpoint as checkpoints
from . import _distributed as distributed
from ._checkpoint import Checkpoint
from ._data import BATCH_SIZES, Dataset, Samples, load_dataset
from ._report import EpochResult, Figures, Meter, accuracy_log, progress, writing
from ._settings import Parser, Settings
from ._step import CapturedStep, Step, firing_loss

BuildNet = Callable[[int, Settings], nn.Sequential]
"""The network of an example for a number of pixels, on its device."""


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
        first, *rest = net
        images, net = first(images), nn.Sequential(*rest)
    if settings.step_mode == "m":
        x_seq = images.expand(T, *images.shape) if direct else encoder.encode(images, T)
        return net(x_seq).mean(0)
    return sum(net(images if direct else encoder(images)) for _ in range(T)) / T


def train_epoch(
    step: Step, samples: Samples, settings: Settings, label: str = "training"
) -> Figures:
    """One pass over the training samples, in random order, under a progress bar.

    Of several processes each takes its share of every batch; a last batch with fewer images than
    processes is left out.
    """
    assert settings.batch_size is not None
    step.model.train()
    processes, meter = distributed.processes(), Meter(samples.labels.device)
    order = distributed.random_order(len(samples), samples.labels.device)
    for batch in progress(order.split(settings.batch_size), label):
        if len(batch) < processes:
            break
        own = distributed.own(batch)
        images, labels = samples.images[own], samples.labels[own]
        loss, rates = step(images, labels, len(own) * processes / len(batch))
        meter.add(loss, rates, labels)
    return meter.figures()


@torch.no_grad()
def evaluate(
    model: nn.Module, samples: Samples, settings: Settings, label: str = "test"
) -> Figures:
    """One pass over the test samples, of which each process takes its share."""
    assert settings.batch_size is not None
    model.eval()
    meter, own = Meter(samples.labels.device), distributed.own(torch.arange(len(samples)))
    for batch in progress(own.split(settings.batch_size), label):
        images, labels = samples.images[batch], samples.labels[batch]
        rates = model(images)
        functional.reset_net(model)
        meter.add(firing_loss(rates, labels), rates, labels)
    return meter.figures()


def train(
    settings: Settings, checkpoint: Checkpoint | None = None, *, build: BuildNet
) -> list[EpochResult]:
    """Train and test for ``settings.epochs`` epochs; writes checkpoint and logs after each.

    Under ``torchrun`` the processes share each batch and the test samples, and the first one
    reports and writes.

    Args:
        settings: what to train on, and how.
        checkpoint: where to go on, as if the run had never stopped; None for new weights.
        build: makes the network.

    Returns:
        The result of each epoch, those of the checkpoint included.

    Raises:
        ExampleError: the data, a backend that was asked for by name, or a package is not there,
            settings do not go together, or the checkpoint is another run's or can't be written.
        BuildError: kernels that were asked for can't be built.
    """
    with distributed.joined(settings.device) as device:
        return _train(replace(settings, device=device), checkpoint, build)


def _train(settings: Settings, checkpoint: Checkpoint | None, build: BuildNet) -> list[EpochResult]:
    settings, dataset = _prepare(settings)
    torch.manual_seed(settings.seed)
    net = build(dataset.train.images.shape[1], settings)
    optimizer = optim.Adam(
        net.parameters(), lr=settings.learning_rate, capturable=settings.cuda_graph
    )
    if checkpoint:
        checkpoint.restore(settings, net, optimizer)
    results = list(checkpoint.results) if checkpoint else []
    model = Rates(net, settings)
    step = _step(model, optimizer, dataset.train.first(settings.batch_size), settings)
    first = distributed.rank() == 0
    with writing(settings.log_dir):
        writer = accuracy_log(settings.log_dir, len(results)) if first else None
    if writer and not checkpoint:
        _set_aside(settings.checkpoint)
    for epoch in range(len(results) + 1, settings.epochs + 1):
        results.append(_epoch(epoch, step, model, dataset, settings))
        if writer:
            _say(f"epoch {epoch}/{settings.epochs}: {results[-1]}")
            with writing(settings.log_dir):
                writer.add_scalar("train_accuracy", results[-1].training.accuracy, epoch)
                writer.add_scalar("test_accuracy", results[-1].test.accuracy, epoch)
                writer.flush()
                checkpoints.save(settings, results, net, optimizer)
    if writer:
        with writing(settings.log_dir):
            writer.close()
    return results


def _prepare(settings: Settings) -> tuple[Settings, Dataset]:
    """The data on the device, and the settings with what depended on it."""
    with distributed.first_alone():
        found = load_dataset(settings.dataset, Path(settings.dataset_dir))
    batch_size = settings.batch_size or BATCH_SIZES[found.name]
    settings = replace(settings, dataset=found.name, batch_size=batch_size)
    _check(settings, min(batch_size, settings.train_samples or batch_size))
    device, train = torch.device(settings.device), found.train.first(settings.train_samples)
    _say(
        f"{found.name}: {len(train):,} training and {len(found.test):,} test images; "
        f"{_manner(settings)}"
    )
    return settings, Dataset(found.name, train.to(device), found.test.to(device))


def _step(model: Rates, optimizer: optim.Optimizer, first: Samples, settings: Settings) -> Step:
    if settings.cuda_graph:
        return CapturedStep(model, optimizer, first.images, first.labels)
    shared = distributed.processes() > 1
    return Step(nn.parallel.DistributedDataParallel(model) if shared else model, optimizer)


def _epoch(
    epoch: int, step: Step, model: Rates, dataset: Dataset, settings: Settings
) -> EpochResult:
    label = f"epoch {epoch}/{settings.epochs}"
    distributed.seed(settings.seed, epoch)
    training = train_epoch(step, dataset.train, settings, f"{label} training")
    return EpochResult(epoch, training, evaluate(model, dataset.test, settings, f"{label} test"))


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


def _manner(settings: Settings) -> str:
    """How a run computes, for people; builds the backend, so that no epoch waits for it."""
    try:
        backend = selection.resolve(settings.backend, torch.device(settings.device).type).name
    except ValueError as error:
        raise ExampleError(str(error)) from error
    processes = distributed.processes()
    return (
        f"{backend} backend on {settings.device}"
        + ", autocast to bfloat16" * settings.amp
        + ", a CUDA graph for each step" * settings.cuda_graph
        + f", {processes} processes" * (processes > 1)
    )


def _say(text: str) -> None:
    if distributed.rank() == 0:
        print(text, flush=True)


def _set_aside(path: Path) -> None:
    """Keep the checkpoint of an earlier run from being overwritten by a new one."""
    if path.exists():
        aside = path.with_name(f"{path.name}.previous")
        os.replace(path, aside)
        print(f"The checkpoint of an earlier run is now {aside}", file=sys.stderr)


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
            chosen = parser.read_resumed(argv, checkpoint.settings)
            done = len(checkpoint.results)
            more = f"All epochs are done: more are trained with --epochs {done + 1} or above"
            _say(f"Going on after epoch {done}" if done < chosen.epochs else more)
        elif resume:
            print(f"There is no {chosen.checkpoint}: beginning with epoch 1", file=sys.stderr)
        train(chosen, checkpoint, build=build)
    except (ExampleError, BuildError, OSError) as error:
        print(f"{example}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. --resume goes on after the last finished epoch.", file=sys.stderr)
        return 130
    _say(f"Curves: tensorboard --logdir {chosen.log_dir}")
    return 0
