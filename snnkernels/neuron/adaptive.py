"""Neurons whose firing changes how they fire next."""

from __future__ import annotations

import torch

from .._call.equations import reset
from .._core.firing import spike
from .base import BaseNode
from .declare import FIRING, SHARE, TAU, from_step
from .leaky import lif_charge


class ALIFNode(BaseNode):
    """LIF with an adaptive threshold: it fires where H >= v_threshold + kappa A; A' = rho A + S.

    H is that of the LIF: V + (X - (V - v_reset)) / tau. Source: Bellec et al., NeurIPS 2018.
    """

    @from_step(
        {"v": "v_reset", "a": 0.0},
        limits={**TAU, "rho": SHARE},
        may_be_none=("v_reset",),
        tau=2.0,
        kappa=0.2,
        rho=0.9,
        decay_input=True,
        **FIRING,
    )
    def equations(x, v, a, *, tau, kappa, rho, decay_input, v_threshold, v_reset, detach_reset):
        h = lif_charge(x, v, tau, v_reset, decay_input)
        s = spike(h - (v_threshold + kappa * a))
        return s, reset(h, s, v_threshold, v_reset, detach_reset), rho * a + s


class MultiStepALIFNode(ALIFNode, step_mode="m"):
    """``ALIFNode`` on [T, B, ...]."""


class CLIFNode(BaseNode):
    """Complementary LIF, with a complementary potential M and soft reset.

    H = V - V / tau + X, M' = M sigmoid(H / tau) + S, V' = H - S (v_threshold + sigmoid(M')).

    Source: Huang et al., ICML 2024.
    """

    @from_step({"v": 0.0, "m": 0.0}, limits=TAU, tau=2.0, v_threshold=1.0, detach_reset=False)
    def equations(x, v, m, *, tau, v_threshold, detach_reset):
        h = v - v / tau + x
        s = spike(h - v_threshold)
        m = m * torch.sigmoid(h / tau) + s
        r = s.detach() if detach_reset else s
        return s, h - r * (v_threshold + torch.sigmoid(m)), m


class MultiStepCLIFNode(CLIFNode, step_mode="m"):
    """``CLIFNode`` on [T, B, ...]."""
