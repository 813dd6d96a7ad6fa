"""One call of a neuron over a sequence: checks, lanes, backend.

Everything that :mod:`functional` and :mod:`neuron` offer passes through :func:`run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, nn

from . import _checks, backend, ops, reference, spike_storage, surrogate, units
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
    check_surrogate(surrogate_function)
    _checks.boolean("detach_reset", detach_reset)
    _checks.boolean("decay_input", decay_input)
    if v_reset is not None:
        params = {**params, "v_reset": v_reset}
    params = checked_parameters(params, x_seq)
    states = checked_states(reference.NEURONS[neuron].states, states, x_seq)
    kernel = _kernel(neuron, params, surrogate_function, backend_name, x_seq.device.type)
    options = surrogate_function, decay_input, detach_reset, store_v_seq
    if kernel[0] != "torch":
        outcome = _run_kernel(kernel, neuron, x_seq, states, params, *options)
    else:
        outcome = _run_reference(neuron, x_seq, states, params, *options)
    if spike_storage.is_marking() and gives_spikes(surrogate_function):
        spike_storage.mark(outcome[0])
    return outcome


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
        and not surrogate_function.has_own_forward
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
    if type(surrogate_function) in surrogate.BUILT_IN:
        return backend.name_for(backend_name, device), neuron, 1
    if not has_kernel(surrogate_function, backend_name):
        return units.NO_KERNEL
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


def checked_parameters(params: Mapping[str, Parameter], x_seq: Tensor) -> dict[str, Parameter]:
    """Parameters that fit an input [T, B, ...], tensors reshaped to broadcast over [B, ...]."""
    return {
        name: _table(name, p, x_seq) if isinstance(p, Tensor) else _checks.number(name, p)
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
    decay_input: bool,
    detach_reset: bool,
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
        decay_input=decay_input,
        detach_reset=detach_reset,
        store_v_seq=store_v_seq,
    )
    return spikes.to(x_seq.dtype), None if v_seq is None else v_seq.to(x_seq.dtype), after


def _run_kernel(
    kernel: units.Kernel,
    neuron: str,
    x_seq: Tensor,
    states: Sequence[State],
    params: dict[str, Parameter],
    surrogate_function: nn.Module,
    decay_input: bool,
    detach_reset: bool,
    store_v_seq: bool,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    assert isinstance(surrogate_function, surrogate.SurrogateFunction)
    (spikes,), v_seq, after = scan(
        kernel,
        x_seq,
        states,
        [params.get(n, 0.0) for n in kernel_parameters(neuron)],
        surrogate_function,
        hard_reset="v_reset" in params,
        decay_input=decay_input,
        detach_reset=detach_reset,
        store_v_seq=store_v_seq,
    )
    return spikes, v_seq, after


def scan(
    kernel: units.Kernel,
    x_seq: Tensor,
    states: Sequence[State],
    params: Sequence[Parameter],
    surrogate_function: surrogate.SurrogateFunction,
    *,
    hard_reset: bool = False,
    decay_input: bool = False,
    detach_reset: bool = False,
    store_v_seq: bool = False,
) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
    """Run a loaded kernel over x_seq [T, B, ...], all arguments checked.

    Returns:
        The neuron's outputs, each [T, B, ...], the first state after each step (None unless
        ``store_v_seq``), and the states after the last step, each [B, ...].
    """
    backend_name, name, outputs = kernel
    lanes = Lanes(x_seq)
    if not lanes.dense:
        x_seq = x_seq.contiguous()
    initial, state_lanes = _initial(states, lanes, x_seq)
    values, tables, size, inner = _tables(params, lanes)
    keep = torch.is_grad_enabled() and (
        x_seq.requires_grad
        or (state_lanes is not None and state_lanes.requires_grad)
        or (tables is not None and tables.requires_grad)
    )
    spikes, v_seq, after = ops.scan(
        backend_name,
        lanes,
        name,
        x_seq,
        state_lanes,
        initial,
        values,
        tables,
        size,
        inner,
        type(surrogate_function).__name__,
        surrogate_function.values,
        hard_reset,
        detach_reset,
        decay_input,
        surrogate_function.spiking,
        ops.chunk_length(x_seq.device.type),
        outputs,
        store_v_seq,
        keep,
    )
    if outputs == 1:
        return (spikes,), v_seq, after
    stacked = spikes.unflatten(0, (outputs, -1))
    return tuple(stacked[k] for k in range(outputs)), v_seq, after


def _initial(states: Sequence[State], lanes: Lanes, x: Tensor) -> tuple[list[float], Tensor | None]:
    """The states before the first step: numbers, and one [S, B, ...] if any of them is a tensor."""
    numbers = [s for s in states if not isinstance(s, Tensor)]
    if len(numbers) == len(states):
        return numbers, None
    numbers = [0.0 if isinstance(s, Tensor) else s for s in states]
    rows = [
        lanes.arrange(s)
        if isinstance(s, Tensor)
        else torch.full(lanes.shape, s, dtype=_checks.compute_dtype(x.dtype), device=x.device)
        for s in states
    ]
    return numbers, rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)


def _tables(
    params: Sequence[Parameter], lanes: Lanes
) -> tuple[list[float], Tensor | None, list[int], list[int]]:
    """Parameters as the operators take them: numbers, tables end to end, sizes (0: none), inner."""
    values = [p for p in params if not isinstance(p, Tensor)]
    if len(values) == len(params):
        return values, None, [], []
    values = [0.0 if isinstance(p, Tensor) else p for p in params]
    tables: list[Tensor] = []
    size = [0] * len(params)
    inner = [1] * len(params)
    for k, p in enumerate(params):
        if isinstance(p, Tensor):
            table, inner[k] = lanes.table(p)
            size[k] = table.numel()
            tables.append(table)
    return values, tables[0].contiguous() if len(tables) == 1 else torch.cat(tables), size, inner
