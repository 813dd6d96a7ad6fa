"""Fashion-MNIST with two convolutions and ParametricLIF neurons, T = 4 steps.

An image is shown as it is: the first convolution and its batch norm turn it into a current, the
same in every step, which the first neurons encode into spikes. All else sees spikes alone.

    python -m snnkernels.examples.conv_fashion_mnist --dataset-dir data --epochs 5

The network follows Fang et al., "Incorporating learnable membrane time constant to enhance learning
of spiking neural networks", ICCV 2021, with fewer channels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from snnkernels import functional, layer, neuron, surrogate

from . import ExampleError, _training
from ._data import CLASSES
from ._settings import Settings

CHANNELS = 32
HIDDEN = 128


def build_net(pixels: int, settings: Settings) -> nn.Sequential:
    """(Conv-BN-PLIF-MaxPool) x 2, Linear-PLIF, Linear-PLIF; the first Conv-BN is one module.

    Raises:
        ExampleError: the encoder is not "direct".
    """
    if settings.encoder != "direct":
        raise ExampleError(
            f"the first convolution encodes: expected --encoder direct, got {settings.encoder}"
        )
    side = round(pixels**0.5)

    atan = surrogate.ATan()
    plif = partial(
        neuron.ParametricLIFNode, settings.tau, detach_reset=True, surrogate_function=atan
    )
    net = nn.Sequential(
        nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
        ),
        plif(),
        layer.MaxPool2d(2),
        layer.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        layer.BatchNorm2d(CHANNELS),
        plif(),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(CHANNELS * (side // 4) ** 2, HIDDEN, bias=False),
        plif(),
        layer.Linear(HIDDEN, CLASSES, bias=False),
        plif(),
    )
    functional.set_step_mode(net, settings.step_mode)
    functional.set_backend(net, settings.backend)
    net.to(settings.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


_run = partial(_training.run, dataset="fashion-mnist", encoder="direct", T=4, epochs=5)
main = partial(_run, "conv_fashion_mnist", __doc__, build_net)
"""Run the example with flags, those of the command line by default; gives the exit status."""

if __name__ == "__main__":
    raise SystemExit(main())
