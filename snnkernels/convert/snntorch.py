"""snnTorch's Leaky and Synaptic, step by step as it has them, and called as it calls them.

R is what the potential of the step before says: a reset comes one step after its spike, and lets no
gradient through. ``reset_mechanism`` and ``reset_delay`` are options of the step.

    Leaky      U = beta U + X - R threshold                fires where U > threshold
    Synaptic   I = alpha I + X;  U = beta U + I - R threshold
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .. import surrogate
from .._call.equations import Equations
from ..neuron.base import BaseNode
from ._rules import CannotConvert, ForeignLibrary, along_last, fire_above, floating

PACKAGE = "snntorch"

_PARAMS: dict[str, Any] = {
    "beta": 0.9,
    "threshold": 1.0,
    "graded_spikes_factor": 1.0,
    "reset_mechanism": "subtract",
    "reset_delay": True,
    "gives_state": True,
}


def _fire(
    mem: Tensor, reset: Tensor, threshold: Tensor, factor: Tensor, mechanism: str, delay: bool
) -> tuple[Tensor, Tensor]:
    """The spikes and, where the reset is not delayed, the potential after it."""
    out = fire_above(mem - threshold) * factor
    if not delay:
        now = out / factor - reset
        if mechanism == "subtract":
            mem = mem - now * threshold
        elif mechanism == "zero":
            mem = mem - now * mem
    return out, mem


def _leaky(
    x: Tensor,
    mem: Tensor,
    *,
    beta: Tensor,
    threshold: Tensor,
    graded_spikes_factor: Tensor,
    reset_mechanism: str,
    reset_delay: bool,
    gives_state: bool,
) -> tuple[Tensor, ...]:
    reset = (mem - threshold > 0).to(mem)
    if reset_mechanism == "zero":
        mem = (1 - reset) * mem
    mem = beta.clamp(0, 1) * mem + x
    if reset_mechanism == "subtract":
        mem = mem - reset * threshold
    out, mem = _fire(mem, reset, threshold, graded_spikes_factor, reset_mechanism, reset_delay)
    return (out, mem, mem) if gives_state else (out, mem)


def _synaptic(
    x: Tensor,
    mem: Tensor,
    syn: Tensor,
    *,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    graded_spikes_factor: Tensor,
    reset_mechanism: str,
    reset_delay: bool,
    gives_state: bool,
) -> tuple[Tensor, ...]:
    reset = (mem - threshold > 0).to(mem)
    syn = alpha.clamp(0, 1) * syn + x
    mem = beta.clamp(0, 1) * mem + syn
    if reset_mechanism == "subtract":
        mem = mem - reset * threshold
    elif reset_mechanism == "zero":
        mem = mem - mem * reset
    out, mem = _fire(mem, reset, threshold, graded_spikes_factor, reset_mechanism, reset_delay)
    return (out, syn, mem, mem, syn) if gives_state else (out, mem, syn)


class _Neuron(BaseNode):
    """What both have: states as arguments, and states that begin anew where the shape changes."""

    def _call(self, x: Tensor, given: dict[str, Tensor | None]) -> Any:
        if not self.gives_state and any(state is not None for state in given.values()):
            raise TypeError(f"{' and '.join(given)} must not be given where init_hidden=True was")
        shape = x.shape[1:] if self.step_mode == "m" else x.shape
        for name, state in given.items():
            state = getattr(self, name) if state is None else state
            fits = isinstance(state, Tensor) and state.shape == shape
            setattr(self, name, state if fits else 0.0)
        return BaseNode.forward(self, x)

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        return along_last(super()._taken(x_seq), x_seq)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A checkpoint of snnTorch's module fits."""
        state_dict.pop(f"{prefix}reset_mechanism_val", None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class Leaky(_Neuron):
    """snnTorch's Leaky: ``spk, mem = node(x, mem)``, or spk alone where it hid its state.

    In step mode "m", x [T, B, ...] gives spk and mem of all steps.
    """

    equations = Equations({"mem": 0.0}, _PARAMS, step=_leaky)

    def forward(self, x: Tensor, mem: Tensor | None = None) -> Any:
        return self._call(x, {"mem": mem})

    def reset_mem(self) -> Tensor:
        """Back to the initial state, which is returned."""
        self.reset()
        return torch.zeros(0)

    init_leaky = reset_mem


class Synaptic(_Neuron):
    """snnTorch's Synaptic: ``spk, syn, mem = node(x, syn, mem)``; else as ``Leaky``."""

    equations = Equations({"mem": 0.0, "syn": 0.0}, {"alpha": 0.9, **_PARAMS}, step=_synaptic)

    def forward(self, x: Tensor, syn: Tensor | None = None, mem: Tensor | None = None) -> Any:
        return self._call(x, {"syn": syn, "mem": mem})

    def reset_mem(self) -> tuple[Tensor, Tensor]:
        """Back to the initial states, which are returned."""
        self.reset()
        return torch.zeros(0), torch.zeros(0)

    init_synaptic = reset_mem


def _heaviside(x: Tensor) -> Tensor:
    return (x > 0).to(x)


def _one(x: Tensor) -> Tensor:
    return torch.ones_like(x)


def _triangular(x: Tensor, threshold: float) -> Tensor:
    return threshold * (1 - 2 * (x >= 0).to(x))


def _sparse(x: Tensor, slope: float, B: float) -> Tensor:
    return (slope * x.abs() + 1).square().reciprocal() * (x > B).to(x)


_SURROGATES: dict[str, Callable[..., surrogate.SurrogateFunction]] = {
    "atan": lambda alpha: surrogate.ATan(alpha),
    "fast_sigmoid": lambda slope: surrogate.FastSigmoid(slope),
    "sigmoid": lambda slope: surrogate.Sigmoid(slope),
    "straight_through_estimator": lambda: surrogate.custom(_one),
    "heaviside": lambda: surrogate.custom(_heaviside),
    "triangular": lambda threshold: surrogate.custom(_triangular, threshold=threshold),
    "SFS": lambda slope, B: surrogate.custom(_sparse, slope=slope, B=B),
}


def _surrogate(function: Any) -> surrogate.SurrogateFunction:
    """Ours for the function that one of snnTorch's makers returned; its values are closed over."""
    maker, _, rest = getattr(function, "__qualname__", "").partition(".")
    known = getattr(function, "__module__", "") == f"{PACKAGE}.surrogate" and rest
    if not known or maker not in _SURROGATES:
        raise CannotConvert(f"its spike_grad {maker or function} is not among those that are known")
    return _SURROGATES[maker](**inspect.getclosurevars(function).nonlocals)


def _rule(
    cls: type[Any], states: tuple[str, ...], own: tuple[str, ...]
) -> Callable[[Any], BaseNode]:
    def make(old: Any) -> BaseNode:
        for name in ("inhibition", "state_quant", "surrogate_disable"):
            if getattr(old, name):
                raise CannotConvert(f"{name} is set")
        tensors = {n: floating(getattr(old, n)) for n in (*own, "threshold")}
        node: BaseNode = cls(
            **tensors,
            graded_spikes_factor=floating(old.graded_spikes_factor),
            reset_mechanism=old.reset_mechanism,
            reset_delay=old.reset_delay,
            gives_state=old.output or not old.init_hidden,
            surrogate_function=_surrogate(old.spike_grad),
        )
        for name in states:
            if getattr(old, name).numel():
                setattr(node, name, getattr(old, name))
        return node

    return make


LIBRARY = ForeignLibrary(
    PACKAGE,
    bases=("SpikingNeuron",),
    rules={
        "Leaky": _rule(Leaky, ("mem",), ("beta",)),
        "Synaptic": _rule(Synaptic, ("syn", "mem"), ("alpha", "beta")),
    },
)
