"""Neurons that are written as one step in PyTorch: ``compile_neuron``.

The step function is the neuron's reference, and runs as it is with ``backend="torch"``. Its kernels
are printed from what it does to numbers, and compiled at the first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .._backends import headers
from .._call.equations import Equations, State, Step
from .._core import checks
from .base import BaseNode


def compile_neuron(
    step: Step,
    states: Mapping[str, State | str],
    params: Mapping[str, Any] | None = None,
    learnable: Sequence[str] = (),
    *,
    name: str | None = None,
    limits: Mapping[str, Mapping[str, float]] | None = None,
) -> type[BaseNode]:
    """Make a neuron module of one step, written in PyTorch.

    The step is traced now, on single numbers, so that what cannot be compiled is refused here; the
    kernels for its forward and backward are compiled at the first call, once per surrogate and
    device, and kept in the cache.

    Args:
        step: ``step(x, *states, **params) -> (*outputs, *next_states)``, in operations on one
            element at a time: + - * /, neg, abs, exp, log, sqrt, pow, sigmoid, tanh, relu,
            softplus, clamp, minimum, maximum, floor, ceil, round, sign, erf, sin, cos, comparisons,
            logical operations, where, detach, and ``snnkernels.spike``.
        states: the carried states by name, in the step's order, and what they start from: a number,
            a tensor that broadcasts over [B, ...], or the name of a parameter. ``store_v_seq``
            keeps the first one.
        params: the parameters by name, with defaults: numbers or tensors. A node takes a number, a
            tensor of one value per channel [C], or one that broadcasts over [B, ...]. What is True,
            False, None or a string is an option: the step may branch on it in Python.
        learnable: the parameters that a node makes an ``nn.Parameter`` of.
        name: the class's name; None for that of the step, in capitals and with "Node" behind it.
            Nodes can be pickled if it is the name of the module's variable that holds the class.
        limits: by parameter, what a number must keep to: ``{"tau": {"minimum": 1}}``, with
            "minimum", "maximum", "above" and, for whole numbers, ``"whole": True``.

    Returns:
        A subclass of ``snnkernels.neuron.BaseNode``. Its arguments are ``params`` by position
        or name, then that class's ``surrogate_function``, ``step_mode``, ``backend``,
        ``store_v_seq`` and ``monitor_state``.

    Raises:
        snnkernels.StepError: the step cannot be compiled; the message gives the line that is to
            blame and what to do instead.
        TypeError, ValueError: an argument is not as above.
    """
    _check_function(step)
    if name is None:
        name = "".join(part.capitalize() for part in step.__name__.split("_")) + "Node"
    for argument, given in (("states", states), ("params", params), ("limits", limits)):
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{argument} must be a mapping by name, got {checks.describe(given)}")
    params, limits = dict(params or {}), limits or {}
    _check_definition(step, states, params, learnable)
    _check_limits(limits, params)
    equations = Equations(states, params, step=step, limits=limits, learnable=learnable)
    equations.trace(equations.split(equations.params)[0])
    members = {"__doc__": step.__doc__, "__module__": step.__module__, "equations": equations}
    return type(name, (BaseNode,), members)


_TAKEN = {"surrogate_function", "store_v_seq", "monitor_state", "monitor", "v_seq", "training"}
_LIMITS = ("minimum", "maximum", "above", "whole")


def _check_function(step: object) -> None:
    if not inspect.isfunction(step):
        raise TypeError(
            f"step must be a function made by def or lambda, got {checks.describe(step)}; "
            "write one that calls it: def step(x, v): return given(x, v)"
        )


def _check_definition(
    step: Step,
    states: Mapping[str, State | str],
    params: Mapping[str, Any],
    learnable: Sequence[str],
) -> None:
    most = headers.limits()
    if not 1 <= len(states) <= most["kMaxStates"]:
        raise ValueError(f"states must name 1 to {most['kMaxStates']} states, got {len(states)}")
    if len(params) > most["kMaxParams"]:
        raise ValueError(
            f"params must name at most {most['kMaxParams']} parameters, got {len(params)}"
        )
    accepted = list(inspect.signature(step).parameters)[1:]
    for kind, names in (("states", states), ("params", params)):
        for name in names:
            if name not in accepted:
                raise ValueError(
                    f"{kind} names {name!r}, which {step.__name__}() does not take; "
                    f"it takes {', '.join(accepted)} behind the input"
                )
            if name in _TAKEN or hasattr(BaseNode, name):
                raise ValueError(f"{kind} must not use the name {name!r}, which every node has")
    if accepted[: len(states)] != list(states):
        raise ValueError(
            f"states must be in the order of {step.__name__}()'s arguments behind the input, "
            f"{', '.join(accepted[: len(states)])}; got {', '.join(states)}"
        )
    for name in learnable:
        if name not in params:
            raise ValueError(f"learnable names {name!r}, which is not among params")
    for name, value in states.items():
        if isinstance(value, str) and value not in params:
            raise ValueError(f"states: {name} starts from {value!r}, which is not among params")
        if not isinstance(value, (str, Tensor)):
            checks.number(f"states: {name}", value)
    for name, value in params.items():
        if not isinstance(value, Tensor) and not _is_option(value):
            checks.number(f"params: {name}", value)


def _check_limits(limits: Mapping[str, Mapping[str, float]], params: Mapping[str, Any]) -> None:
    for name, limit in limits.items():
        if name not in params:
            raise ValueError(f"limits names {name!r}, which is not among params")
        if not isinstance(limit, Mapping):
            raise TypeError(
                f'limits: {name} must be a mapping such as {{"minimum": 1}}, '
                f"got {checks.describe(limit)}"
            )
        for kind, value in limit.items():
            checks.choice(f"limits: what {name} is limited by", kind, _LIMITS)
            if kind == "whole":
                checks.boolean(f"limits: whole of {name}", value)
            elif not checks.is_number(value):
                raise TypeError(
                    f"limits: {kind} of {name} must be a number, got {checks.describe(value)}"
                )


def _is_option(value: object) -> bool:
    return value is None or isinstance(value, (bool, str))
