"""One call of a neuron over a sequence: checks, lanes, backend.

Everything that :mod:`functional` and :mod:`neuron` offer passes through :func:`run`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from . import _checks, backend, ops, reference, registry, spike_storage, surrogate, units
from ._layout import Lanes

Parameter = float | Tensor
State = float | Tensor


def run(
    neuron: str,
    x_seq: Tensor,
    states: Sequence[State],
    params: dict[str, Parameter],
    surrogate_function: nn.Module,
    *,
    v_reset: Parameter | None,
    decay_input: bool = True,
    detach_reset: bool = False,
    backend_name: str = "auto",
    store_v_seq: bool = False,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """Run ``neuron`` (a name of ``reference.NEURONS``) over x_seq [T, B, ...].

    Args:
        states: one value for each of the neuron's states: a number, or a tensor [B, ...].
        params: the neuron's own parameters and ``v_threshold``.
        v_reset: None for soft reset.

    Returns:
        The output [T, B, ...], the membrane potential after each step (None unless
        ``store_v_seq``), and the states after the last step, each [B, ...].
    """
    _checks.sequence("x_seq", x_seq, leading="[T, B, ...]", minimum_rank=2)
    _checks.boolean("detach_reset", detach_reset)
    _checks.boolean("decay_input", decay_input)
    if not _FLOAT.issuperset(map(type, states)):
        states = checked_states(reference.NEURONS[neuron].states, states, x_seq)
    if v_reset is not None:
        params = {**params, "v_reset": v_reset}
    options = Options(decay_input, detach_reset)
    device_type = x_seq.device.type
    plan = planned(
        (neuron, device_type, backend_name, options, tuple(params)),
        (*numbers_of(states), *params.values()),
        surrogate_function,
        lambda: _plan(neuron, x_seq, states, params, surrogate_function, backend_name, options),
    )
    if plan.settings is not None:
        (spikes,), v_seq, after = scan(
            plan.kernel, x_seq, states, plan.values, plan.settings, store_v_seq
        )
    else:
        spikes, v_seq, after = _run_reference(
            neuron, x_seq, states, plan.params, surrogate_function, options, store_v_seq
        )
    if spike_storage.is_marking() and gives_spikes(surrogate_function):
        spike_storage.mark(spikes)
    return spikes, v_seq, after


class Options(NamedTuple):
    """What a neuron of ``reference.NEURONS`` does one way or another."""

    decay_input: bool = False
    detach_reset: bool = False


class Plan(NamedTuple):
    """How a call runs: its kernel, the checked parameters by name and in the kernels' order, and
    what the kernels' operators take if there are any.
    """

    kernel: units.Kernel
    params: dict[str, Parameter]
    values: list[Parameter]
    settings: ops.Settings | None


_FLOAT = frozenset({float})
_MOST_PLANS = 4096
_plans: dict[tuple[object, ...], Plan] = {}


def planned(
    names: tuple[object, ...],
    numbers: Sequence[object],
    surrogate_function: nn.Module,
    make: Callable[[], Plan],
) -> Plan:
    """The plan that ``make`` gives, remembered where it depends on names and numbers alone.

    To check and arrange the arguments of a small layer takes longer than to run it.

    Args:
        names: what else than numbers the plan depends on.
        numbers: those it depends on; it is made anew where any of them is something else.
        surrogate_function: whose class and parameters it depends on as well.
        make: makes the plan.
    """
    if not _is_declared(surrogate_function) or torch.compiler.is_compiling():
        return make()
    numbers = (*numbers, *surrogate_function.values)
    if not _FLOAT.issuperset(map(type, numbers)):
        return make()
    packed = struct.pack(f"{len(numbers)}d", *numbers)  # for 0.0 == -0.0
    key = (names, surrogate_function.key, surrogate_function.spiking, packed)
    plan = _plans.get(key)
    if plan is None:
        plan = make()
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        _plans[key] = plan
    return plan


def _plan(
    neuron: str,
    x_seq: Tensor,
    states: Sequence[State],
    params: Mapping[str, Parameter],
    surrogate_function: nn.Module,
    backend_name: str,
    options: Options,
) -> Plan:
    check_surrogate(surrogate_function)
    params = checked_parameters(params, x_seq, reference.NEURONS[neuron].limits)
    kernel = _kernel(neuron, params, surrogate_function, backend_name, x_seq.device.type)
    values = [params.get(name, 0.0) for name in kernel_parameters(neuron)]
    settings = None
    if kernel[0] != "torch":
        assert isinstance(surrogate_function, surrogate.SurrogateFunction)
        settings = new_settings(
            kernel,
            states,
            values,
            surrogate_function,
            x_seq.device.type,
            hard_reset="v_reset" in params,
            **options._asdict(),
        )
    return Plan(kernel, params, values, settings)


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


def _kernel(
    neuron: str,
    params: Mapping[str, Parameter],
    surrogate_function: nn.Module,
    backend_name: str,
    device: str,
) -> units.Kernel:
    """The kernel that runs a call."""
    if not has_kernel(surrogate_function, backend_name):
        return units.NO_KERNEL
    if type(surrogate_function) in surrogate.BUILT_IN:
        return backend.name_for(backend_name, device), registry.NUMBERS[neuron], 1
    return units.kernel_for(
        neuron,
        (("hard_reset", "v_reset" in params),),
        tuple(isinstance(params.get(n), Tensor) for n in kernel_parameters(neuron)),
        surrogate_function.key,
        surrogate_function.spiking,
        backend_name,
        device,
    )


def kernel_parameters(neuron: str) -> tuple[str, ...]:
    """The parameters of a neuron of ``reference.NEURONS`` in the kernels' order."""
    return *reference.NEURONS[neuron].params, "v_threshold", "v_reset"


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


def checked_states(
    names: Sequence[str], states: Sequence[State], x_seq: Tensor
) -> tuple[State, ...]:
    """Carried states that fit an input [T, B, ...]: numbers, or tensors [B, ...]."""
    return tuple(
        [
            s if type(s) is float else _state(name, s, x_seq)
            for name, s in zip(names, states, strict=True)
        ]
    )


def _state(name: str, value: State, x_seq: Tensor) -> State:
    if _checks.is_number(value):
        return float(value)
    wide = _checks.compute_dtype(x_seq.dtype)
    return _checks.state(name, value, x_seq, x_seq.shape[1:], wide)


def on_device(params: dict[str, Parameter], x: Tensor) -> dict[str, Tensor]:
    """Parameters as the reference wants them: tensors on x's device, in the arithmetic's dtype."""
    wide = _checks.compute_dtype(x.dtype)
    return {
        name: p if isinstance(p, Tensor) else torch.tensor(p, dtype=wide, device=x.device)
        for name, p in params.items()
    }


def _run_reference(
    neuron: str,
    x_seq: Tensor,
    states: Sequence[State],
    params: dict[str, Parameter],
    surrogate_function: nn.Module,
    options: Options,
    store_v_seq: bool,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    wide = _checks.compute_dtype(x_seq.dtype)
    shape = x_seq.shape[1:]
    spikes, v_seq, after = reference.multi_step(
        reference.NEURONS[neuron],
        x_seq.to(wide),
        [
            s if isinstance(s, Tensor) else torch.full(shape, s, dtype=wide, device=x_seq.device)
            for s in states
        ],
        on_device(params, x_seq),
        surrogate_function,
        store_v_seq=store_v_seq,
        **options._asdict(),
    )
    return spikes.to(x_seq.dtype), None if v_seq is None else v_seq.to(x_seq.dtype), after


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
) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
    """Run a loaded kernel over x_seq [T, B, ...], all arguments checked.

    Args:
        kernel: what runs it.
        x_seq: the input.
        states: the states before the first step.
        params: the parameters in the kernel's order.
        settings: those of :func:`new_settings` for these states and parameters.
        store_v_seq: whether the first state is wanted after each step.

    Returns:
        The neuron's outputs, each [T, B, ...], the first state after each step (None unless
        ``store_v_seq``), and the states after the last step, each [B, ...].
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
        return (spikes,), v_seq, after
    stacked = spikes.unflatten(0, (outputs, -1))
    return tuple(stacked[k] for k in range(outputs)), v_seq, after


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
