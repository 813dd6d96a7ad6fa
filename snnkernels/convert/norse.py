"""Norse's LIF, with and without a synaptic current, step by step as it has them.

    LIFBoxCell      V + (dt tau_mem_inv) ((X + v_leak) - V)
    LIFCell, LIF    J = I + X;  V + (dt tau_mem_inv) ((v_leak - V) + J);  I = J - (dt tau_syn_inv) J

They fire where V > v_th and return (spikes, state): the state is an argument, and a call without
one begins anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import surrogate
from .._call.equations import Equations
from ..neuron.base import BaseNode
from ._rules import CannotConvert, ForeignLibrary, along_last, fire_above

PACKAGE = "norse"

_PARAMS: dict[str, Any] = {
    "dt": 0.001,
    "tau_mem_inv": 100.0,
    "v_leak": 0.0,
    "v_th": 1.0,
    "v_reset": 0.0,
}


class LIFState(NamedTuple):
    """Potential v and synaptic current i after the last step, each [B, ...]."""

    v: Tensor
    i: Tensor


class LIFBoxState(NamedTuple):
    """Potential v after the last step, [B, ...]."""

    v: Tensor


def _lif_box(
    x: Tensor,
    v: Tensor,
    *,
    dt: Tensor,
    tau_mem_inv: Tensor,
    v_leak: Tensor,
    v_th: Tensor,
    v_reset: Tensor,
    subtract: bool,
) -> tuple[Tensor, ...]:
    v = v + dt * tau_mem_inv * (x + v_leak - v)
    z = fire_above(v - v_th)
    return z, (1 - z) * v + z * ((v - v_th) if subtract else v_reset)


def _lif(
    x: Tensor,
    v: Tensor,
    i: Tensor,
    *,
    dt: Tensor,
    tau_mem_inv: Tensor,
    tau_syn_inv: Tensor,
    v_leak: Tensor,
    v_th: Tensor,
    v_reset: Tensor,
) -> tuple[Tensor, ...]:
    i = i + x
    v = v + dt * tau_mem_inv * ((v_leak - v) + i)
    z = fire_above(v - v_th)
    return z, (1 - z) * v + z * v_reset, i - dt * tau_syn_inv * i


class _Neuron(BaseNode):
    """What both have: the state goes in and comes out, and the node keeps none."""

    state_type: type[Any]

    def forward(self, x: Tensor, state: Any = None) -> Any:
        """Spikes in the shape of x [B, ...], or [T, B, ...] in step mode "m", and the state.

        Args:
            state: a tuple with the fields of the one returned; None for the initial state.
        """
        self.reset()
        if state is not None:
            shape = x.shape[1:] if self.step_mode == "m" else x.shape
            for name in self.equations.states:
                setattr(self, name, torch.as_tensor(getattr(state, name)).expand(shape))
        spikes = super().forward(x)
        after = self.state_type(**{name: getattr(self, name) for name in self.equations.states})
        self.reset()
        return spikes, after

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        return along_last(super()._taken(x_seq), x_seq)


class LIFBoxCell(_Neuron):
    """Norse's LIFBoxCell: ``spikes, state = node(x, state)``; all steps at once in mode "m"."""

    equations = Equations({"v": "v_leak"}, {**_PARAMS, "subtract": False}, step=_lif_box)
    state_type = LIFBoxState


class LIF(_Neuron):
    """Norse's LIFCell in step mode "s", its LIF in "m": ``spikes, state = node(x, state)``."""

    equations = Equations({"v": "v_leak", "i": 0.0}, {**_PARAMS, "tau_syn_inv": 200.0}, step=_lif)
    state_type = LIFState


def _tanh(x: Tensor, alpha: float) -> Tensor:
    return 1 - torch.tanh(x * alpha).square()


def _triangle(x: Tensor, alpha: float) -> Tensor:
    return alpha * torch.relu(1 - x.abs())


def _circ(x: Tensor, alpha: float) -> Tensor:
    square = alpha * alpha + x.square()
    root = square.sqrt()
    return (1 / (2 * root) - x.square() / (2 * square * root)) * 2 * alpha


def _erfc(x: Tensor, alpha: float) -> Tensor:
    return 1.1283791670955126 * torch.exp(-(alpha * x).square())


_SURROGATES: dict[str, Callable[[float], surrogate.SurrogateFunction]] = {
    "super": lambda alpha: surrogate.FastSigmoid(1.0),  # Norse's does not heed alpha
    "tanh": lambda alpha: surrogate.custom(_tanh, alpha=alpha),
    "triangle": lambda alpha: surrogate.custom(_triangle, alpha=alpha),
    "circ": lambda alpha: surrogate.custom(_circ, alpha=alpha),
    "heavi_erfc": lambda alpha: surrogate.custom(_erfc, alpha=alpha),
}


def _rule(
    cls: type[Any], own: tuple[str, ...], activation: str, step_mode: str
) -> Callable[[Any], BaseNode]:
    def make(old: Any) -> BaseNode:
        p = old.p
        if getattr(old, "record_states", False):
            raise CannotConvert("record_states is set")
        if getattr(old.activation, "__name__", "") != activation:
            raise CannotConvert("its activation is not Norse's own step, or is the adjoint one")
        if p.method not in _SURROGATES:
            raise CannotConvert(f"its method {p.method!r} is not one of {', '.join(_SURROGATES)}")
        values = {name: _value(getattr(p, name)) for name in own}
        node: BaseNode = cls(
            dt=float(old.dt),
            **values,
            **_reset_of(p),
            surrogate_function=_SURROGATES[p.method](float(p.alpha)),
            step_mode=step_mode,
        )
        return node

    return make


def _reset_of(p: Any) -> dict[str, bool]:
    """LIFBox has a choice of two, by functions."""
    if not hasattr(p, "reset_method"):
        return {}
    name = getattr(p.reset_method, "__name__", "")
    if name not in ("reset_value", "reset_subtract"):
        raise CannotConvert(f"its reset_method {name or p.reset_method} is not known")
    return {"subtract": name == "reset_subtract"}


def _value(value: Any) -> Any:
    """A number where nothing is learnt: Norse's parameters are in no ``state_dict``."""
    if isinstance(value, Tensor) and (value.requires_grad or value.numel() > 1):
        return value
    return float(value)


_BOX = ("tau_mem_inv", "v_leak", "v_th", "v_reset")
_LIF = (*_BOX, "tau_syn_inv")

LIBRARY = ForeignLibrary(
    PACKAGE,
    bases=("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"),
    rules={
        "LIFBoxCell": _rule(LIFBoxCell, _BOX, "lif_box_feed_forward_step", "s"),
        "LIFCell": _rule(LIF, _LIF, "lif_feed_forward_step", "s"),
        "LIF": _rule(LIF, _LIF, "lif_feed_forward_step", "m"),
    },
)
