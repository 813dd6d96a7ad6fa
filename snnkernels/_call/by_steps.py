"""A call step by step in PyTorch: the reference, the fallback, and what monitors see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .._backends import kernels
from .._core import checks, firing
from .arguments import on_device
from .call import Call, Moment, Outcome
from .equations import State


def run(call: Call, values: Mapping[str, Any], store_v_seq: bool) -> Outcome:
    """Run a call by its step, which takes these values by name."""
    rows: list[Moment] = []
    potentials: list[Tensor] = []

    def keep(x: Tensor, before: Moment, outputs: Moment, after: Moment) -> None:
        rows.append(outputs)
        if store_v_seq:
            potentials.append(after[0])

    last = _take_steps(call, values, keep)
    count = len(rows[0]) if rows else call.equations.output_count(call.split()[0])
    outputs = tuple([_stack([row[k] for row in rows], call.x_seq) for k in range(count)])
    if call.step is not None:
        outputs = tuple([output.squeeze(0) for output in outputs])
    return Outcome(outputs, _stack(potentials, call.x_seq) if store_v_seq else None, last)


def replay(call: Call, visit: Callable[[Tensor | None, Moment, Moment], None]) -> None:
    """Run a call step by step in PyTorch.

    Args:
        visit: called after each step with H (None where there is none), the outputs and the states.
    """
    options, given = call.split()
    equations, values = call.equations, step_values(call, options, call.checked(given))

    def show(x: Tensor, before: Moment, outputs: Moment, after: Moment) -> None:
        h = None if equations.charge is None else equations.charged(x, before, values)[0]
        visit(h, outputs, after)

    _take_steps(call, values, show)


def _take_steps(
    call: Call,
    values: Mapping[str, Any],
    visit: Callable[[Tensor, Moment, Moment, Moment], None],
) -> Moment:
    """Run the step itself, once for each step, and return the states after the last.

    Args:
        values: what the step takes by name, as ``step_values`` has it.
        visit: called after each step with x, the states before, the outputs, the states after.
    """
    step = call.equations.step
    assert step is not None
    wide = call.x_seq.to(checks.compute_dtype(call.x_seq.dtype))
    now = tuple([_full(s, wide) for s in call.states])
    with firing.with_surrogate(call.surrogate_function):
        for x in wide:
            results = step(x, *now, **values)
            if not all(r.shape == x.shape for r in results):
                results = tuple([r.expand(x.shape) for r in results])
            outputs, after = results[: -len(now)], results[-len(now) :]
            visit(x, now, outputs, after)
            now = after
    return now


def step_values(call: Call, options: kernels.Options, params: Mapping[str, Any]) -> dict[str, Any]:
    """What a step takes by name: parameters as tensors, and options."""
    return {**on_device(params, call.x_seq), **dict(options)}


def _full(state: State, x_seq: Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state
    return torch.full(x_seq.shape[1:], state, dtype=x_seq.dtype, device=x_seq.device)


def _stack(steps: Sequence[Tensor], x_seq: Tensor) -> Tensor:
    return torch.stack(list(steps)).to(x_seq.dtype) if steps else x_seq.clone()
