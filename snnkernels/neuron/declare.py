"""How the neurons here are written down: from their charge, or from a whole step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from .._call.equations import Equations, State, Step

TAU = {"tau": {"minimum": 1.0}}
SHARE = {"minimum": 0.0, "maximum": 1.0}
FIRING = {"v_threshold": 1.0, "v_reset": 0.0, "detach_reset": False}

Limits = Mapping[str, Mapping[str, Any]]


def from_charge(
    states: Mapping[str, State | str] | None = None,
    *,
    kernel: str | None = None,
    derived: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] | None = None,
    learnable: tuple[str, ...] = (),
    limits: Limits | None = None,
    **params: Any,
) -> Callable[[Callable[..., Any]], Equations]:
    """Make the equations of a neuron that charges, fires and resets from its charge.

    Args:
        states: those behind ``v``.
        params: those of the charge, and of the others those that do not come behind it.
    """
    params = {**params, **{name: d for name, d in FIRING.items() if name not in params}}

    def equations(charge: Callable[..., Any]) -> Equations:
        return Equations(
            {"v": "v_reset", **(states or {})},
            params,
            charge=charge,
            kernel=kernel,
            derived=derived,
            learnable=learnable,
            limits=limits,
            may_be_none=("v_reset",),
            last=("detach_reset",),
        )

    return equations


def from_step(
    states: Mapping[str, State | str],
    *,
    limits: Limits | None = None,
    may_be_none: tuple[str, ...] = (),
    **params: Any,
) -> Callable[[Step], Equations]:
    """Make the equations of a neuron from a whole step."""

    def equations(step: Step) -> Equations:
        return Equations(
            states,
            params,
            step=step,
            limits=limits,
            may_be_none=may_be_none,
            last=("detach_reset",),
        )

    return equations
