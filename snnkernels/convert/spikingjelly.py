"""SpikingJelly: its IF, LIF and ParametricLIF are ours, equation by equation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .. import neuron
from ._rules import CannotConvert, ForeignLibrary, Rule, surrogate_of

PACKAGE = "spikingjelly"


def _rule(cls: type[neuron.BaseNode], *own: str) -> Rule:
    """What makes a ``cls`` of a neuron, given the names of its own arguments."""

    def make(old: nn.Module) -> neuron.BaseNode:
        arguments = {name: getattr(old, name) for name in own if hasattr(old, name)}
        node = cls(**arguments, **_shared(old))
        if hasattr(old, "w"):
            node.w = old.w
        state: Any = old.v
        if isinstance(state, Tensor):
            node.v = state
        return node

    return make


def _shared(old: Any) -> dict[str, Any]:
    if getattr(old, "lava_s_cale", None) and getattr(old, "backend", "") == "lava":
        raise CannotConvert("backend='lava' computes in fixed point")
    return {
        "v_threshold": old.v_threshold,
        "v_reset": old.v_reset,
        "surrogate_function": surrogate_of(old.surrogate_function, PACKAGE),
        "detach_reset": old.detach_reset,
        "step_mode": _step_mode(old),
        "store_v_seq": getattr(old, "store_v_seq", False),
    }


def _step_mode(old: nn.Module) -> str:
    """clock_driven has classes rather than a mode."""
    multi = type(old).__name__.startswith("MultiStep")
    mode: str = getattr(old, "step_mode", "m" if multi else "s")
    return mode


_RULES = {
    "IFNode": _rule(neuron.IFNode),
    "LIFNode": _rule(neuron.LIFNode, "tau", "decay_input"),
    "ParametricLIFNode": _rule(neuron.ParametricLIFNode, "decay_input"),
}

LIBRARY = ForeignLibrary(
    PACKAGE,
    bases=("BaseNode", "MultiStepIFNode", "MultiStepLIFNode", "MultiStepParametricLIFNode"),
    rules={**_RULES, **{f"MultiStep{name}": rule for name, rule in _RULES.items()}},
)
