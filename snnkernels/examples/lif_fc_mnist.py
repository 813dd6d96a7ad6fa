"""Digits with two layers of LIF neurons: the network of the Clock_driven tutorial.

An image is shown for T steps, as random spikes whose rate follows the intensity of each pixel. They
pass two fully connected layers, each followed by LIF neurons. The last layer has a neuron for each
digit, and the one that fires most names the digit: training brings the firing rates near to the
one-hot label.

    python -m snnkernels.examples.lif_fc_mnist --dataset-dir data --epochs 3

Without any flag it asks for the settings at the prompt; at the end of input the rest keeps its
defaults. A run that was killed goes on with ``--resume`` after its last finished epoch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from snnkernels import backend, functional, neuron
from snnkernels.build import BuildError
from snnkernels.encoding import PoissonEncoder

from ._checkpoint import Checkpoint, EpochResult, Figures
from ._data import BATCH_SIZES, CLASSES, Samples, load_dataset
from ._errors import ExampleError
from ._report import accuracy_log, epoch_line, log_accuracy, progress_bar
from ._settings import Settings, read_arguments, resumed

HIDDEN = 196
CHECKPOINT = "checkpoint.pt"


# --- the network ---------------------------------------------------------------------------------

BuildNet = Callable[[int, Settings], nn.Sequential]
"""The network for a number of pixels; other examples have their own."""


def build_net(pixels: int, settings: Settings) -> nn.Sequential:
    """The network, pixels - 196 - 10 with LIF neurons after each layer, as ``settings`` say."""
    return build_with(pixels, settings, lambda: neuron.LIFNode(tau=settings.tau))


def build_with(
    pixels: int, settings: Settings, make_neuron: Callable[[], nn.Module]
) -> nn.Sequential:
    """The network with a neuron of the caller's after each layer."""
    net = nn.Sequential(
        nn.Linear(pixels, HIDDEN, bias=False),
        make_neuron(),
        nn.Linear(HIDDEN, CLASSES, bias=False),
        make_neuron(),
    )
    functional.set_step_mode(net, settings.step_mode)
    functional.set_backend(net, settings.backend)
    return net.to(settings.device)


class DirectEncoder(nn.Module):
    """No spikes but the image itself in every step; the first LIF layer then does the encoding."""

    def forward(self, x: Tensor) -> Tensor:
        return x

    def encode(self, x: Tensor, T: int) -> Tensor:
        return x.expand(T, *x.shape)


ENCODERS = {"poisson": PoissonEncoder, "direct": DirectEncoder}


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


def train_epoch(
    net: nn.Sequential,
    samples: Samples,
    optimizer: optim.Optimizer,
    settings: Settings,
    label: str = "training",
) -> Figures:
    """One pass over the training samples, in random order, under a progress bar."""
    net.train()
    order = torch.randperm(len(samples)).to(samples.labels.device)
    with progress_bar(label, len(samples)) as meter:
        for batch in order.split(settings.batch_size):
            images, labels = samples.images[batch], samples.labels[batch]
            rates = firing_rates(net, images, settings)
            loss = firing_loss(rates, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            functional.reset_net(net)  # the next images begin with neurons at rest
            meter.add(loss, rates, labels)
        return meter.figures()


@torch.no_grad()
def evaluate(
    net: nn.Sequential, samples: Samples, settings: Settings, label: str = "test"
) -> Figures:
    """One pass over the test samples, under a progress bar."""
    net.eval()
    with progress_bar(label, len(samples)) as meter:
        for batch in torch.arange(len(samples)).split(settings.batch_size):
            images, labels = samples.images[batch], samples.labels[batch]
            rates = firing_rates(net, images, settings)
            functional.reset_net(net)
            meter.add(firing_loss(rates, labels), rates, labels)
        return meter.figures()


def firing_loss(rates: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the firing rates ``[B, 10]`` against the one-hot labels ``[B]``."""
    return F.mse_loss(rates, F.one_hot(labels, CLASSES).float())


def train(
    settings: Settings, checkpoint: Checkpoint | None = None, build: BuildNet = build_net
) -> list[EpochResult]:
    """Train and test for ``settings.epochs`` epochs; writes checkpoint and logs after each.

    Args:
        settings: what to train on, and how.
        checkpoint: where to go on, instead of from new weights. The epochs that follow are those
            that the run would have had if it had never stopped.
        build: makes the network.

    Returns:
        The result of each epoch, those of the checkpoint included.

    Raises:
        ExampleError: the data, a backend that was asked for by name, or a package is not there.
    """
    device = torch.device(settings.device)
    dataset = load_dataset(settings.dataset, Path(settings.dataset_dir))
    batch_size = settings.batch_size or BATCH_SIZES[dataset.name]
    settings = replace(settings, dataset=dataset.name, batch_size=batch_size)
    train_samples = dataset.train.first(settings.train_samples).to(device)
    test_samples = dataset.test.to(device)
    print(
        f"{dataset.name}: {len(train_samples):,} training and {len(test_samples):,} test images; "
        f"{prepare_backend(settings)} backend on {settings.device}"
    )

    torch.manual_seed(settings.seed)
    net = build(train_samples.images.shape[1], settings)
    optimizer = optim.Adam(net.parameters(), lr=settings.learning_rate)
    results: list[EpochResult] = []
    if checkpoint:
        checkpoint.restore(net, optimizer, device)
        results += checkpoint.results
    with accuracy_log(settings.log_dir, len(results)) as writer:
        if not checkpoint:
            set_aside(checkpoint_path(settings))
        for epoch in range(len(results) + 1, settings.epochs + 1):
            label = f"epoch {epoch}/{settings.epochs}"
            training = train_epoch(net, train_samples, optimizer, settings, f"{label} training")
            test = evaluate(net, test_samples, settings, f"{label} test")
            results.append(EpochResult(epoch, training, test))
            print(epoch_line(results[-1], settings.epochs), flush=True)
            log_accuracy(writer, results[-1])
            Checkpoint.of(settings, results, net, optimizer).save(checkpoint_path(settings))
    return results


def prepare_backend(settings: Settings) -> str:
    """The backend that ``settings`` come to, built now if need be: no epoch waits for it."""
    try:
        return backend.resolve(settings.backend, torch.device(settings.device).type).name
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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit status.

    Args:
        argv: the flags; None for those of the command line. Without any, the settings are asked for
            at the prompt.
    """
    return run(argv, (__doc__ or "").partition("\n")[0], "lif_fc_mnist", build_net)


def run(
    argv: Sequence[str] | None,
    description: str,
    example: str,
    build: BuildNet,
    **settings: Any,
) -> int:
    """Run an example that trains the network of ``build``; its flags are :func:`main`'s.

    Args:
        argv: as for :func:`main`.
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
        given, goes_on = read_arguments(argv, description, example, defaults)
        chosen, checkpoint = (
            resume(given, defaults) if goes_on else (replace(defaults, **given), None)
        )
        train(chosen, checkpoint, build)
    except (ExampleError, OSError) as error:
        print(f"{example}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. --resume goes on after the last finished epoch.", file=sys.stderr)
        return 130
    print(f"Curves: tensorboard --logdir {chosen.log_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
