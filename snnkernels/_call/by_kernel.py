"""A call by a loaded kernel: its arguments laid out in lanes and tables."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._backends import headers, kernels, operators
from .._core import checks
from .._core.lanes import Lanes
from ..surrogate import SurrogateFunction
from .arguments import ONLY_FLOATS
from .call import Call, Outcome
from .equations import Parameter, State


def new_plan(
    kernel: kernels.Kernel,
    states: Sequence[State],
    params: Sequence[Parameter],
    surrogate_function: SurrogateFunction,
    device_type: str,
    *,
    hard_reset: bool = False,
    detach_reset: bool = False,
    decay_input: bool = False,
) -> operators.Plan:
    """What runs a kernel, with 0 in place of tensors, and no layout of tables.

    Args:
        states: the states before the first step.
        params: the parameters in the kernel's order.
    """
    namespace, number, outputs = kernel
    attributes = operators.Attributes(
        neuron=number,
        surrogate=headers.NUMBERS.get(type(surrogate_function).__name__, 0),
        numbers=(*numbers_of(states), *numbers_of(params), *surrogate_function.values),
        layout=(),
        state_count=len(states),
        param_count=len(params),
        hard_reset=hard_reset,
        detach_reset=detach_reset,
        decay_input=decay_input,
        spiking=surrogate_function.spiking,
        chunk=operators.chunk_length(device_type),
        outputs=outputs,
    )
    return operators.Plan(namespace, attributes)


def numbers_of(values: Sequence[float | Tensor]) -> list[float]:
    """The numbers among states or parameters, 0 in place of tensors."""
    return [0.0 if isinstance(value, Tensor) else value for value in values]


def arranged(
    plan: operators.Plan, call: Call, params: Sequence[Parameter], store_v_seq: bool
) -> tuple[operators.Job, Tensor, Tensor | None, Tensor | None]:
    """A call whose arguments were checked, as ``perform`` takes it.

    Args:
        plan: that of ``new_plan`` for the call's states and these parameters.
        call: the call.
        params: the parameters in the kernel's order.
        store_v_seq: whether the first state is wanted after each step.
    """
    lanes, states = Lanes(call.x_seq), call.states
    initial = None if ONLY_FLOATS.issuperset(map(type, states)) else _initial(states, lanes, call.x)
    tables = None
    if not ONLY_FLOATS.issuperset(map(type, params)):
        tables, layout = _tables(params, lanes)
        plan = plan.with_layout(layout)
    job = operators.Job(plan, lanes, store_v_seq, call.step is not None)
    return job, call.x, initial, tables


def perform(
    job: operators.Job, x: Tensor, initial: Tensor | None, tables: Tensor | None
) -> Outcome:
    """Run a job on x, [T, B, ...] or one step [B, ...], and the states before it in its lanes."""
    if not job.lanes.dense:
        x = x.contiguous()
    wanted = (
        x.requires_grad
        or (initial is not None and initial.requires_grad)
        or (tables is not None and tables.requires_grad)
    )
    keep = wanted and torch.is_grad_enabled()
    spikes, v_seq, after = operators.scan(job, x, initial, tables, keep)
    return Outcome(_outputs(job, spikes), v_seq, after)


def _outputs(job: operators.Job, spikes: Tensor) -> tuple[Tensor, ...]:
    """The neuron's outputs of those that operators give, one behind the other."""
    count = job.plan.attributes.outputs
    if count == 1:
        return (spikes,)
    stacked = spikes if job.single else spikes.unflatten(0, (count, -1))
    return tuple([stacked[k] for k in range(count)])


def _initial(states: Sequence[State], lanes: Lanes, x: Tensor) -> Tensor:
    """The states before the first step as the operators take them."""
    rows = [
        lanes.arrange(s)
        if isinstance(s, Tensor)
        else torch.full(lanes.shape, s, dtype=checks.compute_dtype(x.dtype), device=x.device)
        for s in states
    ]
    return joined(rows)


def joined(states: Sequence[Tensor]) -> Tensor:
    """States in the lanes' order as the operators take them."""
    return states[0] if len(states) == 1 else torch.stack(list(states))


def _tables(params: Sequence[Parameter], lanes: Lanes) -> tuple[Tensor | None, Sequence[int]]:
    """Tensor parameters as the operators take them: end to end, and their layout."""
    size = [0] * len(params)
    inner = [1] * len(params)
    tables: list[Tensor] = []
    for k, p in enumerate(params):
        if isinstance(p, Tensor):
            table, inner[k] = lanes.table(p)
            if table.numel() == 0:  # of no lanes: a size of 0 means a number
                table, inner[k] = table.sum().reshape(1), 1
            size[k] = table.numel()
            tables.append(table)
    if not tables:
        return None, ()
    joined = tables[0].contiguous() if len(tables) == 1 else torch.cat(tables)
    return joined, (*size, *inner)
