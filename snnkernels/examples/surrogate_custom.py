"""Digits with a surrogate of one's own: its gradient is a Laplace distribution.

The network and the flags of ``lif_fc_mnist``. The surrogate is one line of PyTorch, compiled into
the neurons' kernels at the first batch. ``TutorialSurrogate`` says the same as the Clock_driven
tutorial does, by a ``torch.autograd.Function``; neurons take it as well, step by step in PyTorch.

    python -m snnkernels.examples.surrogate_custom --dataset-dir data --epochs 3
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from snnkernels import neuron, surrogate

from . import _training, lif_fc_mnist

ALPHA = 2.0


def laplace(x: Tensor, alpha: float) -> Tensor:
    """The gradient: alpha / 2 exp(-alpha abs(x))."""
    return alpha / 2 * torch.exp(-alpha * x.abs())


class LaplaceSpike(torch.autograd.Function):
    """The step forward, ``laplace`` backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * laplace(x, ALPHA)


class TutorialSurrogate(nn.Module):
    """The same surrogate as a module of the tutorial's kind."""

    def forward(self, x: Tensor) -> Tensor:
        spikes: Tensor = LaplaceSpike.apply(x)
        return spikes


LaplaceNode = partial(neuron.LIFNode, surrogate_function=surrogate.custom(laplace, alpha=ALPHA))
build_net = partial(lif_fc_mnist.build_net, make_neuron=LaplaceNode)
main = partial(_training.run, "surrogate_custom", __doc__, build_net)
"""Run the example with flags, those of the command line by default; gives the exit status."""

if __name__ == "__main__":
    raise SystemExit(main())
