"""Integrate-and-fire whose leak is no line: quadratic, exponential, Izhikevich's."""

from __future__ import annotations

import torch

from .._call.equations import reset
from .._core.firing import spike
from .base import BaseNode
from .declare import TAU, from_charge, from_step


class QIFNode(BaseNode):
    """Quadratic integrate-and-fire: H = V + (X + a0 (V - v_rest) (V - v_c)) / tau.

    Source: Gerstner et al., "Neuronal Dynamics", 2014, section 5.3.
    """

    @from_charge(limits=TAU, tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.0, v_reset=-0.1)
    def equations(x, v, *, tau, v_c, a0, v_rest):
        return v + (x + a0 * (v - v_rest) * (v - v_c)) / tau


class MultiStepQIFNode(QIFNode, step_mode="m"):
    """``QIFNode`` on [T, B, ...]."""


class EIFNode(BaseNode):
    """Exponential integrate-and-fire.

    H = V + (X + v_rest - V + delta_T exp((V - theta_rh) / delta_T)) / tau.

    Source: Fourcaud-Trocme et al., Journal of Neuroscience 2003.
    """

    @from_charge(
        limits={**TAU, "delta_T": {"above": 0.0}},
        tau=2.0,
        delta_T=1.0,
        theta_rh=0.8,
        v_threshold=1.0,
        v_rest=0.0,
        v_reset=-0.1,
    )
    def equations(x, v, *, tau, delta_T, theta_rh, v_rest):
        return v + (x + v_rest - v + delta_T * torch.exp((v - theta_rh) / delta_T)) / tau


class MultiStepEIFNode(EIFNode, step_mode="m"):
    """``EIFNode`` on [T, B, ...]."""


class IzhikevichNode(BaseNode):
    """Izhikevich's neuron: quadratic, with a recovery variable W that starts at ``w_rest``.

    H = V + (X + a0 (V - v_rest) (V - v_c) - W) / tau, W' = W + (a (H - v_rest) - W) / tau_w + b S.

    Source: Izhikevich, IEEE Transactions on Neural Networks 2003.
    """

    @from_step(
        {"v": "v_reset", "w": "w_rest"},
        limits={**TAU, "tau_w": {"minimum": 1.0}},
        may_be_none=("v_reset",),
        tau=2.0,
        v_c=0.8,
        a0=1.0,
        v_threshold=1.0,
        v_reset=0.0,
        v_rest=-0.1,
        w_rest=0.0,
        tau_w=2.0,
        a=0.0,
        b=0.0,
        detach_reset=False,
    )
    def equations(
        x, v, w, *, tau, v_c, a0, v_threshold, v_reset, v_rest, w_rest, tau_w, a, b, detach_reset
    ):
        h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
        s = spike(h - v_threshold)
        w = w + (a * (h - v_rest) - w) / tau_w + b * s
        return s, reset(h, s, v_threshold, v_reset, detach_reset), w


class MultiStepIzhikevichNode(IzhikevichNode, step_mode="m"):
    """``IzhikevichNode`` on [T, B, ...]."""
