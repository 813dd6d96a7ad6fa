"""The arguments of a call, checked: parameters and states as kernels and steps take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._core import checks
from .equations import Equations, Parameter, State

ONLY_FLOATS = frozenset({float})
"""A superset of the types of values none of which is a tensor, or still to be converted."""


def checked_parameters(
    params: Mapping[str, Parameter],
    x_seq: Tensor,
    limits: Mapping[str, Mapping[str, Any]],
) -> dict[str, Parameter]:
    """Parameters that fit an input [T, B, ...], tensors reshaped to broadcast over [B, ...].

    Numbers must keep to their ``limits``; a tensor's values are not looked at, which would wait for
    a GPU.
    """
    return {
        name: _aligned(name, p, x_seq)
        if isinstance(p, Tensor)
        else checks.number(name, p, **limits.get(name, {}))
        for name, p in params.items()
    }


def _aligned(name: str, value: Tensor, x_seq: Tensor) -> Tensor:
    checks.same_device(name, value, x_seq)
    aligned = checks.broadcast(name, value, x_seq.shape[1:])
    return checks.widen(name, aligned, checks.compute_dtype(x_seq.dtype))


def derived(equations: Equations, params: dict[str, Parameter], x: Tensor) -> dict[str, Parameter]:
    """What step and kernels take of checked parameters, in their order."""
    if not equations.derived:
        return params
    taken: dict[str, Parameter] = {}
    for name, value in params.items():
        to, function = equations.derived.get(name, (name, None))
        taken[to] = value if function is None else function(on_device({name: value}, x)[name])
    return taken


def on_device(params: Mapping[str, Parameter], x: Tensor) -> dict[str, Tensor]:
    """Parameters as steps want them: tensors on x's device, in the arithmetic's dtype.

    A number is filled in there: to copy it would wait, which a captured CUDA graph does not allow.
    """
    wide = checks.compute_dtype(x.dtype)
    return {
        name: p if isinstance(p, Tensor) else torch.full((), p, dtype=wide, device=x.device)
        for name, p in params.items()
    }


def part_values(
    equations: Equations, values: Mapping[str, Any], names: Sequence[str], x: Tensor
) -> dict[str, Any]:
    """What a part of a step of x [B, ...] takes by these names, tensors in their own dtype."""
    options, given = equations.split(values)
    params = {
        name: checks.broadcast(name, p, x.shape)
        if isinstance(p, Tensor)
        else checks.number(name, p, **equations.limits.get(name, {}))
        for name, p in given.items()
        if name in names or name in equations.derived
    }
    taken = {**on_device(derived(equations, params, x), x), **dict(options)}
    return {name: taken[name] for name in names}


def states_before(
    equations: Equations,
    states: Sequence[State | None],
    values: Mapping[str, Any],
    x_seq: Tensor,
) -> Sequence[State]:
    """States before the first step of x_seq [T, B, ...], checked; what is None starts."""
    if ONLY_FLOATS.issuperset(map(type, states)):
        return states  # type: ignore[return-value]
    return [
        s
        if type(s) is float
        else _start(name, source, values, x_seq)
        if s is None
        else _state(name, s, x_seq)
        for (name, source), s in zip(equations.states.items(), states, strict=True)
    ]


def _start(name: str, source: State | str, values: Mapping[str, Any], x_seq: Tensor) -> State:
    """A state that nothing was carried to."""
    value: Any = source
    if isinstance(source, str):
        name, value = source, values[source]
        value = 0.0 if value is None else value
    if type(value) is float:
        return value
    if not isinstance(value, Tensor):
        return checks.number(name, value)
    if value is source:
        value = value.to(x_seq.device, checks.compute_dtype(x_seq.dtype))
    return _aligned(name, value, x_seq).expand(x_seq.shape[1:])


def _state(name: str, value: State, x_seq: Tensor) -> State:
    if checks.is_number(value):
        return float(value)
    wide = checks.compute_dtype(x_seq.dtype)
    return checks.state(name, value, x_seq, x_seq.shape[1:], wide)


def full_states(
    equations: Equations, states: Sequence[State | None], values: Mapping[str, Any], x: Tensor
) -> list[Tensor]:
    """States as tensors before a step of x [B, ...]; those that are tensors as they are."""

    def full(name: str, source: State | str, state: State | None) -> Tensor:
        if state is None:
            state = _start(name, source, values, x.unsqueeze(0))
            state = state.to(x) if isinstance(state, Tensor) else state
        return state if isinstance(state, Tensor) else torch.full_like(x, state)

    sources = equations.states.items()
    return [full(name, source, s) for (name, source), s in zip(sources, states, strict=True)]
