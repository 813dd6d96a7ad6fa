"""One call of a neuron over a sequence: checks, plan, and then its kernel or its step.

Everything that :mod:`functional` and :mod:`neuron` offer passes through :func:`run`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from . import _checks, _firing, backend, ops, registry, spike_storage, surrogate, units
from ._equations import Equations, Parameter, State, current_key
from ._layout import Lanes

Moment = tuple[Tensor, ...]
"""Outputs, or states, of one step, each [B, ...]."""


class Outcome(NamedTuple):
    """What a call gives.

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
        options: its parameters that are options.
        given: the others, still to be checked.
        surrogate_function: what fires.
        backend: "auto", "native", "cupy" or "torch".
    """

    equations: Equations
    x_seq: Tensor
    states: Sequence[State]
    options: units.Options
    given: Mapping[str, Any]
    surrogate_function: nn.Module
    backend: str


def call_of(
    equations: Equations,
    x_seq: Tensor,
    states: Sequence[State | None],
    values: Mapping[str, Any],
    surrogate_function: nn.Module,
    backend_name: str,
) -> Call:
    """A call of a neuron.

    Args:
        states: before the first step; None for one that is to start.
        values: all the neuron's parameters.

    Raises:
        TypeError, ValueError: naming the option or state that does not fit.
    """
    options, given = equations.split(values)
    before = _checked_states(equations, states, given, x_seq)
    return Call(equations, x_seq, before, options, given, surrogate_function, backend_name)


def run(call: Call, store_v_seq: bool) -> Outcome:
    """Run a call by its kernel, or step by step.

    Args:
        store_v_seq: whether the first state is wanted after each step.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    plan = _planned(call)
    if plan.settings is not None:
        outcome = scan(
            plan.kernel, call.x_seq, call.states, plan.values, plan.settings, store_v_seq
        )
    else:
        outcome = _run_steps(call, plan.params, store_v_seq)
    if (
        spike_storage.is_marking()
        and gives_spikes(call.surrogate_function)
        and call.equations.fires_alone(call.options)
    ):
        for spikes in outcome.outputs:
            spike_storage.mark(spikes)
    return outcome


class Plan(NamedTuple):
    """How a call runs.

    Attributes:
        params: the checked parameters by name.
        kernel: what runs it, with the parameters in its order and what its operators take; without
            these the step itself does.
    """

    params: dict[str, Parameter]
    kernel: units.Kernel
    values: Sequence[Parameter]
    settings: ops.Settings | None


_FLOAT = frozenset({float})
_MOST_PLANS = 4096
_plans: dict[tuple[object, ...], Plan] = {}


def _planned(call: Call) -> Plan:
    """The plan of a call, remembered where it depends on names and numbers alone.

    To check and arrange the arguments of a small layer takes longer than to run it.
    """
    neuron = current_key(call.equations.id)
    function, key = call.surrogate_function, None
    lasts = not call.equations.derived and not torch.compiler.is_compiling()
    if lasts and _is_declared(function):
        numbers = (*numbers_of(call.states), *call.given.values(), *function.values)
        if _FLOAT.issuperset(map(type, numbers)):
            packed = struct.pack(f"{len(numbers)}d", *numbers)  # for 0.0 == -0.0
            place = call.x_seq.device.type, call.backend
            key = neuron, place, call.options, function.key, function.spiking, packed
            plan = _plans.get(key)
            if plan is not None:
                return plan
    plan = _plan(call, neuron)
    if key is not None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def _plan(call: Call, neuron: str) -> Plan:
    equations, x_seq, function = call.equations, call.x_seq, call.surrogate_function
    check_surrogate(function)
    params = _params(call)
    if not has_kernel(function, call.backend):
        return Plan(params, units.NO_KERNEL, (), None)
    values = list(params.values())
    if equations.kernel is not None and "v_reset" not in params:
        values.append(0.0)
    kernel = units.kernel_for(
        neuron,
        call.options,
        tuple([isinstance(value, Tensor) for value in values]),
        function.key,
        function.spiking,
        call.backend,
        x_seq.device.type,
    )
    if kernel == units.NO_KERNEL:
        return Plan(params, kernel, values, None)
    flags = {} if equations.kernel is None else dict(call.options)
    settings = new_settings(
        kernel,
        call.states,
        values,
        function,
        x_seq.device.type,
        hard_reset=equations.kernel is not None and "v_reset" in params,
        detach_reset=flags.get("detach_reset", False),
        decay_input=flags.get("decay_input", False),
    )
    return Plan(params, kernel, values, settings)


def _params(call: Call) -> dict[str, Parameter]:
    """The parameters that step and kernels take by name, checked."""
    params = checked_parameters(call.given, call.x_seq, call.equations.limits)
    return _derived(call.equations, params, call.x_seq)


def _derived(equations: Equations, params: dict[str, Parameter], x: Tensor) -> dict[str, Parameter]:
    """What step and kernels take of checked parameters, in their order."""
    if not equations.derived:
        return params
    taken: dict[str, Parameter] = {}
    for name, value in params.items():
        to, function = equations.derived.get(name, (name, None))
        taken[to] = value if function is None else function(on_device({name: value}, x)[name])
    return taken


def check_surrogate(surrogate_function: object) -> None:
    """Refuse what is not a surrogate at all.

    Raises:
        TypeError: naming the argument.
    """
    if isinstance(surrogate_function, type) or not callable(surrogate_function):
        raise TypeError(
            "surrogate_function must be an instance such as surrogate.ATan() or another callable "
            f"module from tensor to tensor, got {_checks.describe(surrogate_function)}"
        )


def gives_spikes(surrogate_function: nn.Module) -> bool:
    """Whether what a surrogate gives is known to be 0 or 1."""
    return _is_declared(surrogate_function) and surrogate_function.spiking


def _is_declared(surrogate_function: nn.Module) -> TypeGuard[surrogate.SurrogateFunction]:
    """Whether its gradient and primitive say all that a surrogate does."""
    return (
        isinstance(surrogate_function, surrogate.SurrogateFunction)
        and surrogate_function.is_declared
    )


def has_kernel(
    surrogate_function: nn.Module, backend_name: str
) -> TypeGuard[surrogate.SurrogateFunction]:
    """Whether kernels can be had with a surrogate; warns once where auto falls back for it.

    Raises:
        ValueError: if they can't, and a backend with kernels was asked for by name.
    """
    if _is_declared(surrogate_function):
        return True
    kind = type(surrogate_function).__name__
    if not getattr(surrogate_function, "has_own_forward", True):
        kind = f"{kind} with hooks or a forward of its own"
    if backend.check(backend_name) in backend.KERNEL_DEVICES:
        raise ValueError(
            f"backend={backend_name!r} has no kernel for the surrogate {kind}; "
            "use backend='auto' or 'torch', write it with surrogate.custom, or take one of the "
            "surrogates in snnkernels.surrogate"
        )
    if backend_name == "auto":
        backend.warn_once(
            f"the surrogate {kind} has no kernel; those of snnkernels.surrogate and "
            "surrogate.custom keep the fused path"
        )
    return False


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
        name: _table(name, p, x_seq)
        if isinstance(p, Tensor)
        else _checks.number(name, p, **limits.get(name, {}))
        for name, p in params.items()
    }


def _table(name: str, value: Tensor, x_seq: Tensor) -> Tensor:
    _checks.same_device(name, value, x_seq)
    aligned = _checks.broadcast(name, value, x_seq.shape[1:])
    return _checks.widen(name, aligned, _checks.compute_dtype(x_seq.dtype))


def _checked_states(
    equations: Equations,
    states: Sequence[State | None],
    given: Mapping[str, Any],
    x_seq: Tensor,
) -> Sequence[State]:
    if _FLOAT.issuperset(map(type, states)):
        return states  # type: ignore[return-value]
    return [
        s
        if type(s) is float
        else _start(name, source, given, x_seq)
        if s is None
        else _state(name, s, x_seq)
        for (name, source), s in zip(equations.states.items(), states, strict=True)
    ]


def _start(name: str, source: State | str, given: Mapping[str, Any], x_seq: Tensor) -> State:
    """A state that nothing was carried to."""
    value: Any = source
    if isinstance(source, str):
        name, value = source, given.get(source, 0.0)  # what is None is not there
    if type(value) is float:
        return value
    if not isinstance(value, Tensor):
        return _checks.number(name, value)
    if value is source:
        value = value.to(x_seq.device, _checks.compute_dtype(x_seq.dtype))
    return _table(name, value, x_seq).expand(x_seq.shape[1:])


def _state(name: str, value: State, x_seq: Tensor) -> State:
    if _checks.is_number(value):
        return float(value)
    wide = _checks.compute_dtype(x_seq.dtype)
    return _checks.state(name, value, x_seq, x_seq.shape[1:], wide)


def on_device(params: Mapping[str, Parameter], x: Tensor) -> dict[str, Tensor]:
    """Parameters as steps want them: tensors on x's device, in the arithmetic's dtype."""
    wide = _checks.compute_dtype(x.dtype)
    return {
        name: p if isinstance(p, Tensor) else torch.tensor(p, dtype=wide, device=x.device)
        for name, p in params.items()
    }


def _run_steps(call: Call, params: Mapping[str, Parameter], store_v_seq: bool) -> Outcome:
    rows: list[Moment] = []
    potentials: list[Tensor] = []

    def keep(x: Tensor, before: Moment, outputs: Moment, after: Moment) -> None:
        rows.append(outputs)
        if store_v_seq:
            potentials.append(after[0])

    last = _take_steps(call, _step_values(call, params), keep)
    count = len(rows[0]) if rows else call.equations.output_count(call.options)
    outputs = tuple([_stack([row[k] for row in rows], call.x_seq) for k in range(count)])
    return Outcome(outputs, _stack(potentials, call.x_seq) if store_v_seq else None, last)


def replay(call: Call, visit: Callable[[Tensor | None, Moment, Moment], None]) -> None:
    """Run a call step by step in PyTorch.

    Args:
        visit: called after each step with H (None where there is none), the outputs and the states.
    """
    equations, values = call.equations, _step_values(call, _params(call))

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
        values: what the step takes by name, as :func:`_step_values` has it.
        visit: called after each step with x, the states before, the outputs, the states after.
    """
    step = call.equations.step
    assert step is not None
    wide = call.x_seq.to(_checks.compute_dtype(call.x_seq.dtype))
    now = tuple([_full(s, wide) for s in call.states])
    with _firing.with_surrogate(call.surrogate_function):
        for x in wide:
            results = step(x, *now, **values)
            if not all(r.shape == x.shape for r in results):
                results = tuple([r.expand(x.shape) for r in results])
            outputs, after = results[: -len(now)], results[-len(now) :]
            visit(x, now, outputs, after)
            now = after
    return now


def _step_values(call: Call, params: Mapping[str, Parameter]) -> dict[str, Any]:
    """What a step takes by name: parameters as tensors, and options."""
    return {**on_device(params, call.x_seq), **dict(call.options)}


def part_values(
    equations: Equations, values: Mapping[str, Any], names: Sequence[str], x: Tensor
) -> dict[str, Any]:
    """What a part of a step of x [B, ...] takes by these names, tensors in their own dtype."""
    options, given = equations.split(values)
    params = {
        name: _checks.broadcast(name, p, x.shape)
        if isinstance(p, Tensor)
        else _checks.number(name, p, **equations.limits.get(name, {}))
        for name, p in given.items()
        if name in names or name in equations.derived
    }
    taken = {**on_device(_derived(equations, params, x), x), **dict(options)}
    return {name: taken[name] for name in names}


def full_states(
    equations: Equations, states: Sequence[State | None], values: Mapping[str, Any], x: Tensor
) -> list[Tensor]:
    """States as tensors before a step of x [B, ...]; those that are tensors as they are."""

    def full(name: str, source: State | str, state: State | None) -> Tensor:
        if state is None:
            _, given = equations.split(values)
            state = _start(name, source, given, x.unsqueeze(0))
            state = state.to(x) if isinstance(state, Tensor) else state
        return state if isinstance(state, Tensor) else torch.full_like(x, state)

    sources = equations.states.items()
    return [full(name, source, s) for (name, source), s in zip(sources, states, strict=True)]


def source(call: Call) -> str:
    """The C++ header that a neuron's kernels are compiled from.

    Raises:
        snnkernels.StepError: the step cannot be compiled; the message gives the line.
    """
    function = call.surrogate_function
    key = function.key if has_kernel(function, "native") else ""
    neuron = current_key(call.equations.id)
    header = units.printed(units.Request(neuron, call.options, (), key, True)).header
    if call.equations.kernel is None:
        return header
    return (
        f"{header}\n// The library's own neuron: {call.equations.kernel} in snnkernels/neurons.h\n"
    )


def _full(state: State, x_seq: Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state
    return torch.full(x_seq.shape[1:], state, dtype=x_seq.dtype, device=x_seq.device)


def _stack(steps: Sequence[Tensor], x_seq: Tensor) -> Tensor:
    return torch.stack(list(steps)).to(x_seq.dtype) if steps else x_seq.clone()


def new_settings(
    kernel: units.Kernel,
    states: Sequence[State],
    params: Sequence[Parameter],
    surrogate_function: surrogate.SurrogateFunction,
    device_type: str,
    *,
    hard_reset: bool = False,
    detach_reset: bool = False,
    decay_input: bool = False,
) -> ops.Settings:
    """What the operators take for a kernel, with 0 in place of tensors, and no layout of tables.

    Args:
        states: the states before the first step.
        params: the parameters in the kernel's order.
    """
    _, number, outputs = kernel
    return ops.Settings(
        neuron=number,
        surrogate=registry.NUMBERS.get(type(surrogate_function).__name__, 0),
        numbers=(*numbers_of(states), *numbers_of(params), *surrogate_function.values),
        layout=(),
        state_count=len(states),
        param_count=len(params),
        hard_reset=hard_reset,
        detach_reset=detach_reset,
        decay_input=decay_input,
        spiking=surrogate_function.spiking,
        chunk=ops.chunk_length(device_type),
        outputs=outputs,
    )


def numbers_of(values: Sequence[float | Tensor]) -> list[float]:
    """The numbers among states or parameters, 0 in place of tensors."""
    return [0.0 if isinstance(value, Tensor) else value for value in values]


def scan(
    kernel: units.Kernel,
    x_seq: Tensor,
    states: Sequence[State],
    params: Sequence[Parameter],
    settings: ops.Settings,
    store_v_seq: bool,
) -> Outcome:
    """Run a loaded kernel over x_seq [T, B, ...], all arguments checked.

    Args:
        kernel: what runs it.
        x_seq: the input.
        states: the states before the first step.
        params: the parameters in the kernel's order.
        settings: those of :func:`new_settings` for these states and parameters.
        store_v_seq: whether the first state is wanted after each step.
    """
    lanes = Lanes(x_seq)
    if not lanes.dense:
        x_seq = x_seq.contiguous()
    initial = None if _FLOAT.issuperset(map(type, states)) else _initial(states, lanes, x_seq)
    tables = None
    if not _FLOAT.issuperset(map(type, params)):
        tables, layout = _tables(params, lanes)
        settings = settings._replace(layout=layout)
    keep = torch.is_grad_enabled() and (
        x_seq.requires_grad
        or (initial is not None and initial.requires_grad)
        or (tables is not None and tables.requires_grad)
    )
    spikes, v_seq, after = ops.scan(
        kernel[0], lanes, x_seq, initial, tables, settings, store_v_seq, keep
    )
    outputs = settings.outputs
    if outputs == 1:
        return Outcome((spikes,), v_seq, after)
    stacked = spikes.unflatten(0, (outputs, -1))
    return Outcome(tuple([stacked[k] for k in range(outputs)]), v_seq, after)


def _initial(states: Sequence[State], lanes: Lanes, x: Tensor) -> Tensor | None:
    """The states before the first step as the operators take them, if any of them is a tensor."""
    if not any(isinstance(s, Tensor) for s in states):
        return None
    rows = [
        lanes.arrange(s)
        if isinstance(s, Tensor)
        else torch.full(lanes.shape, s, dtype=_checks.compute_dtype(x.dtype), device=x.device)
        for s in states
    ]
    return rows[0] if len(rows) == 1 else torch.stack(rows)


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
