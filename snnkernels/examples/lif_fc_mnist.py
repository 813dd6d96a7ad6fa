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

from collections.abc import Callable
from functools import partial

from torch import nn

from snnkernels import functional, layer, neuron

from . import _training
from ._data import CLASSES
from ._settings import Settings

HIDDEN = 196


def build_net(
    pixels: int, settings: Settings, make_neuron: Callable[..., nn.Module] = neuron.LIFNode
) -> nn.Sequential:
    """The network, pixels - 196 - 10 with neurons after each layer, as ``settings`` say."""
    net = nn.Sequential(
        layer.Linear(pixels, HIDDEN, bias=False),
        make_neuron(tau=settings.tau),
        layer.Linear(HIDDEN, CLASSES, bias=False),
        make_neuron(tau=settings.tau),
    )
    functional.set_step_mode(net, settings.step_mode)
    if settings.encoder == "direct":
        functional.set_step_mode(net[0], "s")  # the same current in every step is computed once
    functional.set_backend(net, settings.backend)
    return net.to(settings.device)


main = partial(_training.run, "lif_fc_mnist", __doc__, build_net)
"""Run the example with flags, those of the command line by default; gives the exit status."""

if __name__ == "__main__":
    raise SystemExit(main())
