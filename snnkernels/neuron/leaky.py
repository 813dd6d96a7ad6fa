"""Integrate-and-fire, and what leaks: the LIF and its kin."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .._call.equations import Parameter
from .._core import checks
from .base import BaseNode
from .declare import SHARE, TAU, from_charge, from_step


def lif_charge(x, v, tau, v_rest, decay_input):
    """The LIF's charge: towards ``v_rest``, or 0 if that is None."""
    leak = v if v_rest is None else v - v_rest
    return v + (x - leak) / tau if decay_input else v - leak / tau + x


class IFNode(BaseNode):
    """Integrate-and-fire: H = V + X."""

    @from_charge(kernel="IF")
    def equations(x, v):
        return v + x


class MultiStepIFNode(IFNode, step_mode="m"):
    """``IFNode`` on [T, B, ...]."""


class LIFNode(BaseNode):
    """Leaky integrate-and-fire: H = V + (X - (V - Vr)) / tau.

    ``decay_input=False``: H = V - (V - Vr) / tau + X. Vr is ``v_reset``, or 0 with soft reset;
    ``tau`` is the membrane time constant in steps, >= 1. Source: SpikingJelly's clock_driven
    tutorial.
    """

    tau: Parameter
    decay_input: bool

    @from_charge(kernel="LIF", limits=TAU, tau=2.0, decay_input=True)
    def equations(x, v, *, tau, decay_input, v_reset):
        return lif_charge(x, v, tau, v_reset, decay_input)


class MultiStepLIFNode(LIFNode, step_mode="m"):
    """``LIFNode`` on [T, B, ...]."""


def _weight_of_tau(init_tau: float) -> float:
    return -math.log(checks.number("init_tau", init_tau, above=1.0) - 1)


class ParametricLIFNode(BaseNode):
    """LIF whose time constant is learnt: 1/tau = sigmoid(w), w a scalar parameter.

    Args:
        init_tau: tau to start from, a number > 1.

    The other arguments are those of ``LIFNode``. Source: Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    w: nn.Parameter
    decay_input: bool
    _given_by = {"w": ("init_tau", 2.0, _weight_of_tau)}  # noqa: RUF012

    @from_charge(
        kernel="ParametricLIF",
        derived={"w": ("r", torch.sigmoid)},
        learnable=("w",),
        w=0.0,
        decay_input=True,
    )
    def equations(x, v, *, r, decay_input, v_reset):
        leak = v if v_reset is None else v - v_reset
        return v + (x - leak) * r if decay_input else v - leak * r + x

    @property
    def tau(self) -> Tensor:
        """The time constant that ``w`` stands for, a scalar tensor."""
        return 1 / self.w.detach().sigmoid()

    def extra_repr(self) -> str:
        return f"tau={self.tau.item():g}, {super().extra_repr()}"


class MultiStepParametricLIFNode(ParametricLIFNode, step_mode="m"):
    """``ParametricLIFNode`` on [T, B, ...]."""


class CubaLIFNode(BaseNode):
    """LIF driven by a decaying synaptic current: I' = alpha I + X, H = beta V + I'.

    ``alpha`` and ``beta`` are what remains of the current and of the potential after a step, in
    [0, 1]. ``i`` is the current, a number until the first call, then a tensor [B, ...]. Source: the
    current-based neuron of Davies et al., "Loihi", IEEE Micro 2018, as in snnTorch's Synaptic.
    """

    alpha: Parameter
    beta: Parameter
    i: Any

    @from_charge(
        {"i": 0.0}, kernel="CubaLIF", limits={"alpha": SHARE, "beta": SHARE}, alpha=0.5, beta=0.5
    )
    def equations(x, v, i, *, alpha, beta):
        i = alpha * i + x
        return beta * v + i, i


class MultiStepCubaLIFNode(CubaLIFNode, step_mode="m"):
    """``CubaLIFNode`` on [T, B, ...]."""


class LINode(BaseNode):
    """Leaky integrator, a readout: H = V + (X - (V - v_rest)) / tau. It neither fires nor resets.

    The output is H, which is also the next V. ``decay_input=False``: H = V - (V - v_rest)/tau + X.
    """

    @from_step(
        {"v": "v_rest"},
        limits=TAU,
        may_be_none=("v_rest",),
        tau=2.0,
        decay_input=True,
        v_rest=0.0,
    )
    def equations(x, v, *, tau, decay_input, v_rest):
        h = lif_charge(x, v, tau, v_rest, decay_input)
        return h, h


class MultiStepLINode(LINode, step_mode="m"):
    """``LINode`` on [T, B, ...]."""


class KLIFNode(BaseNode):
    """LIF with a learnt scale: F = relu(k H) fires where F >= v_threshold, and F is what is reset.

    H is that of the LIF; ``k`` is a parameter. Source: Jiang and Zhang, 2023 (arXiv 2302.09238).
    """

    @from_charge(learnable=("k",), limits=TAU, tau=2.0, k=1.0, decay_input=True)
    def equations(x, v, *, tau, k, decay_input, v_reset):
        f = k * lif_charge(x, v, tau, v_reset, decay_input)
        return torch.where(f <= 0, 0.0, f)


class MultiStepKLIFNode(KLIFNode, step_mode="m"):
    """``KLIFNode`` on [T, B, ...]."""


class ILIFNode(BaseNode):
    """Integer LIF: H = (1 - 1/tau) V + X, the output C = round(clip(H / v_threshold, 0, D)).

    V' = H - C v_threshold. The gradient passes straight through the rounding, and so it is 1 /
    v_threshold between 0 and D v_threshold; the surrogate has no part in it. ``D``, a whole number,
    is the largest output. Source: Luo et al., ECCV 2024.
    """

    @from_step(
        {"v": 0.0},
        limits={**TAU, "v_threshold": {"above": 0.0}, "D": {"minimum": 1, "whole": True}},
        tau=2.0,
        v_threshold=1.0,
        D=4,
    )
    def equations(x, v, *, tau, v_threshold, D):
        h = (1 - 1 / tau) * v + x
        c = h / v_threshold
        c = torch.where(c < 0, 0.0, torch.where(c > D, D, c))  # at both ends the gradient is whole
        c = c + (torch.round(c) - c).detach()
        return c, h - c * v_threshold


class MultiStepILIFNode(ILIFNode, step_mode="m"):
    """``ILIFNode`` on [T, B, ...]."""
