"""One call of a neuron: what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from .._backends import kernels
from .arguments import checked_parameters, derived, states_before
from .equations import Equations, Parameter, State

Moment = tuple[Tensor, ...]
"""Outputs, or states, of one step, each [B, ...]."""


class Outcome(NamedTuple):
    """What a call gives; of a single step the outputs come without its time axis.

    Attributes:
        outputs: the neuron's outputs, each [T, B, ...].
        v_seq: the first state after each step [T, B, ...], if it was asked for.
        states: the states after the last step, each [B, ...].
    """

    outputs: tuple[Tensor, ...]
    v_seq: Tensor | None
    states: tuple[Tensor, ...]


class Call(NamedTuple):
    """A neuron over x_seq [T, B, ...], a floating-point tensor.

    Attributes:
        equations: the neuron's.
        x_seq: its input.
        states: before the first step, numbers or tensors [B, ...].
        values: all its parameters by name, still to be checked.
        surrogate_function: what fires.
        backend: "auto", "native", "cupy" or "torch".
        step: the single step [B, ...] that x_seq is, if it came as one.
    """

    equations: Equations
    x_seq: Tensor
    states: Sequence[State]
    values: Mapping[str, Any]
    surrogate_function: nn.Module
    backend: str
    step: Tensor | None = None

    @property
    def x(self) -> Tensor:
        """The input as it came."""
        return self.x_seq if self.step is None else self.step

    def split(self) -> tuple[kernels.Options, dict[str, Any]]:
        """The parameters that are options, and the others.

        Raises:
            TypeError: naming a parameter that cannot be what it is.
        """
        return self.equations.split(self.values)

    def checked(self, given: Mapping[str, Any]) -> dict[str, Parameter]:
        """The parameters that step and kernels take by name, of those that are no options.

        Raises:
            TypeError, ValueError: naming the one that does not fit.
        """
        params = checked_parameters(given, self.x_seq, self.equations.limits)
        return derived(self.equations, params, self.x_seq)


def call_of(
    equations: Equations,
    x_seq: Tensor,
    states: Sequence[State | None],
    values: Mapping[str, Any],
    surrogate_function: nn.Module,
    backend_name: str,
    step: Tensor | None = None,
) -> Call:
    """A call of a neuron.

    Args:
        states: before the first step; None for one that is to start.
        values: all the neuron's parameters.

    Raises:
        TypeError, ValueError: naming the state that does not fit.
    """
    before = states_before(equations, states, values, x_seq)
    return Call(equations, x_seq, before, values, surrogate_function, backend_name, step)
