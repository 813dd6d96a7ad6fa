"""The run that all examples share: epochs, precision, checkpoints, logs, starting and resuming."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from snnkernels import functional
from snnkernels._backends import selection
from snnkernels._build import BuildError
from snnkernels.encoding import PoissonEncoder

from . import _distributed as distributed
from ._checkpoint import Checkpoint, EpochResult, Figures
from ._data import BATCH_SIZES, CLASSES, Samples, load_dataset
from ._errors import ExampleError
from ._graph import CapturedStep, TrainingStep
from ._report import accuracy_log, epoch_line, log_accuracy, progress_bar
from ._settings import Settings, ask, read_arguments, resumed

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

CHECKPOINT = "checkpoint.pt"

BuildNet = Callable[[int, Settings], nn.Sequential]
"""The network of an example for a number of pixels, on its device."""


# --- from images to firing rates ------------------------------------------------------------------


class DirectEncoder(nn.Module):
    """No spikes but the image itself in every step; the first LIF layer then does the encoding."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def encode(self, x: Tensor, T: int) -> Tensor:
        return x.expand(T, *x.shape)


ENCODERS = {"poisson": PoissonEncoder, "direct": DirectEncoder}


class Rates(nn.Module):
    """A network as one module from images ``[B, pixels]`` to firing rates ``[B, classes]``."""

    def __init__(self, net: nn.Sequential, settings: Settings) -> None:
        super().__init__()
        self.net = net
        self._settings = settings
        self._device_type = torch.device(settings.device).type

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(self._device_type, torch.bfloat16, enabled=self._settings.amp):
            return firing_rates(self.net, images, self._settings).float()


def firing_rates(net: nn.Sequential, images: Tensor, settings: Settings) -> Tensor:
    """Spikes per step of each output neuron, ``[B, 10]``, for images ``[B, pixels]``."""
    encoder, T = ENCODERS[settings.encoder](), settings.T
    if settings.encoder == "direct":  # the first layer's current is the same in every step
        first, *rest = net
        images, net = first(images), nn.Sequential(*rest)
    if settings.step_mode == "m":
        return net(encoder.encode(images, T)).mean(0)
    return sum(net(encoder(images)) for _ in range(T)) / T


# --- training and testing ------------------------------------------------------------------------


class Step:
    """One step of training: forward, backward, and the optimizer's.

    Args:
        model: from images to firing rates.
        optimizer: moves its parameters.
    """

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer) -> None:
        self.model, self._optimizer = model, optimizer

    def __call__(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and firing rates of a batch.

        Args:
            images: ``[B, pixels]``.
            labels: ``[B]``.
            share: what the loss counts in the average over processes.
        """
        rates = self.model(images)
        loss = firing_loss(rates, labels)
        self._optimizer.zero_grad()
        (loss * share).backward()
        self._optimizer.step()
        functional.reset_net(self.model)  # the next images begin with neurons at rest
        return loss, rates


def train_epoch(
    step: TrainingStep, samples: Samples, settings: Settings, label: str = "training"
) -> Figures:
    """One pass over the training samples, in random order, under a progress bar.

    Of several processes each takes its share of every batch; a last batch with fewer images than
    processes is left out.
    """
    assert settings.batch_size is not None
    step.model.train()
    order = distributed.random_order(len(samples), samples.labels.device)
    with progress_bar(label, len(samples)) as meter:
        for batch in order.split(settings.batch_size):
            if len(batch) < distributed.processes():
                break
            own = distributed.own(batch)
            images, labels = samples.images[own], samples.labels[own]
            loss, rates = step(images, labels, distributed.share(batch))
            meter.add(loss, rates, labels)
        return meter.figures()


@torch.no_grad()
def evaluate(
    model: nn.Module, samples: Samples, settings: Settings, label: str = "test"
) -> Figures:
    """One pass over the test samples, of which each process takes its share."""
    assert settings.batch_size is not None
    model.eval()
    with progress_bar(label, len(samples)) as meter:
        for batch in distributed.own(torch.arange(len(samples))).split(settings.batch_size):
            images, labels = samples.images[batch], samples.labels[batch]
            rates = model(images)
            functional.reset_net(model)
            meter.add(firing_loss(rates, labels), rates, labels)
        return meter.figures()


def firing_loss(rates: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the firing rates ``[B, 10]`` against the one-hot labels ``[B]``."""
    return F.mse_loss(rates, F.one_hot(labels, CLASSES).float())


def train(
    settings: Settings, checkpoint: Checkpoint | None = None, *, build: BuildNet
) -> list[EpochResult]:
    """Train and test for ``settings.epochs`` epochs; writes checkpoint and logs after each.

    Under ``torchrun`` the processes share each batch and the test samples, and the first one
    reports and writes.

    Args:
        settings: what to train on, and how.
        checkpoint: where to go on, instead of from new weights. The epochs that follow are those
            that the run would have had if it had never stopped.
        build: makes the network.

    Returns:
        The result of each epoch, those of the checkpoint included.

    Raises:
        ExampleError: the data, a backend that was asked for by name, or a package is not there,
            settings do not go together, or the checkpoint is another run's or can't be written.
    """
    with distributed.joined(settings.device) as device:
        return _train(replace(settings, device=device), checkpoint, build)


def _train(settings: Settings, checkpoint: Checkpoint | None, build: BuildNet) -> list[EpochResult]:
    device = torch.device(settings.device)
    with distributed.first_alone():
        dataset = load_dataset(settings.dataset, Path(settings.dataset_dir))
    batch_size = settings.batch_size or BATCH_SIZES[dataset.name]
    settings = replace(settings, dataset=dataset.name, batch_size=batch_size)
    _check(settings)
    train_samples = dataset.train.first(settings.train_samples).to(device)
    test_samples = dataset.test.to(device)
    _say(
        f"{dataset.name}: {len(train_samples):,} training and {len(test_samples):,} test images; "
        f"{_manner(settings)}"
    )

    torch.manual_seed(settings.seed)
    net = build(train_samples.images.shape[1], settings)
    optimizer = optim.Adam(
        net.parameters(), lr=settings.learning_rate, capturable=settings.cuda_graph
    )
    results: list[EpochResult] = []
    if checkpoint:
        checkpoint.restore(net, optimizer, device, checkpoint_path(settings))
        results += checkpoint.results
    model = Rates(net, settings)
    step: TrainingStep = Step(distributed.parallel(model), optimizer)
    if settings.cuda_graph:
        first = train_samples.first(batch_size)
        step = CapturedStep(step, optimizer, first.images, first.labels)
    with _log(settings, len(results)) as writer:
        if writer and not checkpoint:
            set_aside(checkpoint_path(settings))
        for epoch in range(len(results) + 1, settings.epochs + 1):
            label = f"epoch {epoch}/{settings.epochs}"
            distributed.seed(settings.seed, epoch)
            training = train_epoch(step, train_samples, settings, f"{label} training")
            test = evaluate(model, test_samples, settings, f"{label} test")
            results.append(EpochResult(epoch, training, test))
            if writer:
                _say(epoch_line(results[-1], settings.epochs))
                log_accuracy(writer, results[-1])
                Checkpoint.of(settings, results, net, optimizer).save(checkpoint_path(settings))
    return results


def _check(settings: Settings) -> None:
    """Raises ExampleError where settings do not go together."""
    assert settings.batch_size is not None
    kind, processes = torch.device(settings.device).type, distributed.processes()
    if settings.cuda_graph and kind != "cuda":
        raise ExampleError(
            f"--cuda-graph needs a GPU, got --device {settings.device}: leave it out, or name a "
            "GPU, e.g. --device cuda:0"
        )
    if settings.cuda_graph and processes > 1:
        raise ExampleError("--cuda-graph runs in one process: leave it out under torchrun")
    if settings.batch_size < processes:
        raise ExampleError(
            f"--batch-size counts the images of all {processes} processes together: got "
            f"{settings.batch_size}, expected at least {processes}"
        )


def _manner(settings: Settings) -> str:
    """How a run computes, for people."""
    parts = [f"{prepare_backend(settings)} backend on {settings.device}"]
    if settings.amp:
        parts.append("autocast to bfloat16")
    if settings.cuda_graph:
        parts.append("a CUDA graph for each step")
    if distributed.processes() > 1:
        parts.append(f"{distributed.processes()} processes")
    return ", ".join(parts)


def _say(text: str) -> None:
    if distributed.rank() == 0:
        print(text, flush=True)


def _log(settings: Settings, epochs_done: int) -> AbstractContextManager[SummaryWriter | None]:
    """TensorBoard's writer in the first process; None in the others."""
    if distributed.rank() > 0:
        return nullcontext()
    return accuracy_log(settings.log_dir, epochs_done)


def prepare_backend(settings: Settings) -> str:
    """The backend that ``settings`` come to, built now if need be: no epoch waits for it."""
    try:
        return selection.resolve(settings.backend, torch.device(settings.device).type).name
    except (BuildError, ValueError) as error:
        raise ExampleError(str(error)) from error


# --- starting, resuming, stopping ----------------------------------------------------------------


def checkpoint_path(settings: Settings) -> Path:
    return Path(settings.log_dir) / CHECKPOINT


def set_aside(path: Path) -> None:
    """Keep the checkpoint of an earlier run from being overwritten by a new one."""
    if path.exists():
        aside = path.with_name(f"{path.name}.previous")
        os.replace(path, aside)
        print(f"The checkpoint of an earlier run is now {aside}", file=sys.stderr)


def resume(given: dict[str, Any], defaults: Settings) -> tuple[Settings, Checkpoint | None]:
    """The run in the log dir, to go on with after its last epoch; a new one if it has none."""
    settings = replace(defaults, **given)
    path = checkpoint_path(settings)
    checkpoint = Checkpoint.load(path)
    if checkpoint is None:
        print(f"There is no {path}: beginning with epoch 1", file=sys.stderr)
        return settings, None
    settings = resumed(checkpoint.settings, {**given, "log_dir": settings.log_dir})
    done = len(checkpoint.results)
    if done >= settings.epochs:
        print(f"All {done} epochs are done: more are trained with --epochs {done + 1} or above")
    else:
        print(f"Going on after epoch {done} of {settings.epochs}")
    return settings, checkpoint


def run(
    argv: Sequence[str] | None,
    description: str,
    example: str,
    build: BuildNet,
    **settings: Any,
) -> int:
    """Run an example that trains the network of ``build``.

    Args:
        argv: the flags; None for those of the command line. Without any, the settings are asked for
            at the prompt, but not under ``torchrun``.
        description: what ``--help`` says.
        example: the command's name, and that of its log dir.
        build: makes the network.
        settings: the example's own defaults.

    Returns:
        The exit status: 0, 1 after an error, 130 if interrupted.
    """
    argv = sys.argv[1:] if argv is None else argv
    defaults = Settings(**{"log_dir": f"runs/{example}", **settings})
    try:
        if argv or distributed.launched():
            given, goes_on = read_arguments(argv, description, example, defaults)
        else:
            given, goes_on = ask(defaults), False
        chosen, checkpoint = (
            resume(given, defaults) if goes_on else (replace(defaults, **given), None)
        )
        train(chosen, checkpoint, build=build)
    except (ExampleError, OSError) as error:
        print(f"{example}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. --resume goes on after the last finished epoch.", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":
        print(f"Curves: tensorboard --logdir {chosen.log_dir}")
    return 0
