"""Neurons as stateless functions, and what is done to all neurons of a network at once.

Shapes: ``x_seq`` is [T, B, ...] in float64, float32, float16 or bfloat16; outputs have its shape,
dtype and memory layout; a state is [B, ...] in float32 (float64 for float64 input). A parameter is
a number, a scalar tensor, a tensor with one value per channel ([C] against [T, B, C, ...]) or one
that broadcasts over [B, ...]; tensors may require gradients.

Every neuron function raises TypeError or ValueError, naming the argument, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from . import _checks, engine, spike_linear, surrogate
from .backend import check as _check_backend
from .encoding import poisson_encode
from .engine import Parameter, State
from .spike_storage import SpikeStorage

__all__ = [
    "cuba_lif",
    "detach_net",
    "if_",
    "lif",
    "linear",
    "multi_step_forward",
    "parametric_lif",
    "poisson_encode",
    "reset_net",
    "seq_to_ann_forward",
    "set_backend",
    "set_step_mode",
    "spike_storage",
]


Layer: TypeAlias = Callable[..., Tensor]

_SIGMOID = surrogate.Sigmoid()


def _run(
    neuron: str,
    x_seq: Tensor,
    states: tuple[State | None, ...],
    params: dict[str, Parameter],
    v_threshold: Parameter,
    v_reset: Parameter | None,
    surrogate_function: nn.Module | None,
    backend: str,
    return_v_seq: bool,
    **options: bool,
) -> tuple[Tensor, ...]:
    v, *others = states
    _checks.boolean("return_v_seq", return_v_seq)
    spikes, v_seq, after = engine.run(
        neuron,
        x_seq,
        (initial_v(v, v_reset, x_seq), *[0.0 if s is None else s for s in others]),
        {**params, "v_threshold": v_threshold},
        _SIGMOID if surrogate_function is None else surrogate_function,
        v_reset=v_reset,
        backend_name=backend,
        store_v_seq=return_v_seq,
        **options,
    )
    return (spikes, *after, v_seq) if v_seq is not None else (spikes, *after)


def initial_v(v: State | None, v_reset: Parameter | None, x_seq: Tensor) -> State:
    """The membrane potential before the first step: ``v``, else ``v_reset``, else 0."""
    if v is not None:
        return v
    if v_reset is None:
        return 0.0
    if not isinstance(v_reset, Tensor):
        return _checks.number("v_reset", v_reset)
    _checks.sequence("x_seq", x_seq, leading="[T, B, ...]", minimum_rank=2)
    _checks.same_device("v_reset", v_reset, x_seq)
    shape = x_seq.shape[1:]
    dtype = _checks.compute_dtype(x_seq.dtype)
    return _checks.widen("v_reset", _checks.broadcast("v_reset", v_reset, shape), dtype).expand(
        shape
    )


def if_(
    x_seq: Tensor,
    v: State | None = None,
    *,
    v_threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    surrogate_function: nn.Module | None = None,
    detach_reset: bool = False,
    backend: str = "auto",
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """Integrate-and-fire: H = V + X.

    Args:
        x_seq: input currents [T, B, ...].
        v: membrane potential before the first step, a number or [B, ...]; None for ``v_reset``
            (0 with soft reset).
        v_threshold: the neuron fires where H >= v_threshold.
        v_reset: potential after a spike; None for soft reset, which subtracts v_threshold.
        surrogate_function: a module of :mod:`snnkernels.surrogate` or your own; None for Sigmoid().
        detach_reset: keep the gradient from flowing through the spike in the reset.
        backend: "auto", "native", "cupy" or "torch".
        return_v_seq: also return the potential after each step.

    Returns:
        (s_seq, v), or (s_seq, v, v_seq) with ``return_v_seq``.
    """
    return _run(
        "IF",
        x_seq,
        (v,),
        {},
        v_threshold,
        v_reset,
        surrogate_function,
        backend,
        return_v_seq,
        detach_reset=detach_reset,
    )


def lif(
    x_seq: Tensor,
    v: State | None = None,
    *,
    tau: Parameter = 2.0,
    decay_input: bool = True,
    v_threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    surrogate_function: nn.Module | None = None,
    detach_reset: bool = False,
    backend: str = "auto",
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """Leaky integrate-and-fire: H = V + (X - (V - Vr)) / tau.

    Args:
        tau: membrane time constant in steps, >= 1.
        decay_input: False for H = V - (V - Vr) / tau + X.

    The other arguments and the result are those of :func:`if_`.
    """
    return _run(
        "LIF",
        x_seq,
        (v,),
        {"tau": tau},
        v_threshold,
        v_reset,
        surrogate_function,
        backend,
        return_v_seq,
        decay_input=decay_input,
        detach_reset=detach_reset,
    )


def parametric_lif(
    x_seq: Tensor,
    v: State | None = None,
    *,
    w: Parameter = 0.0,
    decay_input: bool = True,
    v_threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    surrogate_function: nn.Module | None = None,
    detach_reset: bool = False,
    backend: str = "auto",
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """LIF with 1/tau = sigmoid(w), w learnable (Fang et al., ICCV 2021).

    Args:
        w: logit of 1/tau; 0 is tau = 2.

    The other arguments and the result are those of :func:`lif`.
    """
    return _run(
        "ParametricLIF",
        x_seq,
        (v,),
        {"r": reciprocal_tau(w, x_seq)},
        v_threshold,
        v_reset,
        surrogate_function,
        backend,
        return_v_seq,
        decay_input=decay_input,
        detach_reset=detach_reset,
    )


def reciprocal_tau(w: Parameter, x_seq: Tensor) -> Tensor:
    """sigmoid(w) in the arithmetic's dtype, in a shape that broadcasts over one step."""
    _checks.sequence("x_seq", x_seq, leading="[T, B, ...]", minimum_rank=2)
    dtype = _checks.compute_dtype(x_seq.dtype)
    if isinstance(w, Tensor):
        _checks.same_device("w", w, x_seq)
        w = _checks.broadcast("w", w, x_seq.shape[1:])
        return _checks.widen("w", w, dtype).sigmoid()
    return torch.full((), _checks.number("w", w), dtype=dtype, device=x_seq.device).sigmoid()


def cuba_lif(
    x_seq: Tensor,
    v: State | None = None,
    i: State | None = None,
    *,
    alpha: Parameter = 0.5,
    beta: Parameter = 0.5,
    v_threshold: Parameter = 1.0,
    v_reset: Parameter | None = 0.0,
    surrogate_function: nn.Module | None = None,
    detach_reset: bool = False,
    backend: str = "auto",
    return_v_seq: bool = False,
) -> tuple[Tensor, ...]:
    """LIF driven by a decaying synaptic current: I' = alpha I + X, H = beta V + I'.

    Args:
        i: synaptic current before the first step, a number or [B, ...]; None for 0.
        alpha: decay of the current per step, in [0, 1].
        beta: decay of the membrane potential per step, in [0, 1].

    The other arguments are those of :func:`if_`.

    Returns:
        (s_seq, v, i), or (s_seq, v, i, v_seq) with ``return_v_seq``.
    """
    return _run(
        "CubaLIF",
        x_seq,
        (v, i),
        {"alpha": alpha, "beta": beta},
        v_threshold,
        v_reset,
        surrogate_function,
        backend,
        return_v_seq,
        detach_reset=detach_reset,
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, backend: str = "auto") -> Tensor:
    """``torch.nn.functional.linear`` that, on the CPU, adds up the weights of what fired.

    Where all tensors are float32 and contiguous on the CPU, x holds nothing but 0 and 1, at most
    three elements in ten are 1, and the product is worth it (128 rows, 32 inputs, 8 outputs, four
    million multiplications), the spikes are packed, 32 to a word, and only the weights that they
    select are added: in the forward, and for the weight's gradient in the backward, which keeps the
    packed spikes alone. In every other case, and under autocast, torch.func, forward-mode
    differentiation, tracers, dispatch modes and torch.compile, it is PyTorch's own. The results are
    the same up to the rounding of the sums; an infinite or NaN weight does not reach an output
    where its input is 0. Changing x in place before the backward is no error where it was packed.
    Large results lie in memory that is kept for later (:mod:`snnkernels.memory`), and cannot be
    resized.

    Args:
        x: [..., inputs].
        weight: [outputs, inputs].
        bias: [outputs].
        backend: "auto"; "native" for an error where the kernels cannot be had; "torch" or "cupy"
            for PyTorch's own always.

    Returns:
        [..., outputs].

    Raises:
        ValueError: the backend is unknown; others are PyTorch's.
        snnkernels.build.BuildError: with "native", if the kernels cannot be had.
        NotImplementedError: in a second backward through spikes that were added up.
    """
    return spike_linear.linear(x, weight, bias, backend)


def spike_storage() -> SpikeStorage:
    """A context in whose forward passes autograd keeps spikes for the backward as one bit each.

    A layer such as Linear or Conv2d saves its input for the backward. Within the context a saved
    tensor of at least 32 elements that holds nothing but 0 and 1 is packed, 32 elements to a word
    of 32 bits, and unpacked in the backward: gradients are the same to the bit. Other tensors are
    saved as ever; -0 and NaN are no spikes. What several layers save is packed once. It works with
    any floating dtype, memory format, autocast and torch.utils.checkpoint, and the backward may run
    outside of the context. Nothing is gained where something else keeps the spikes alive.

    On the CPU every saved tensor is looked at, which is over at its first other number. On a GPU
    that would make the host wait, so there only spikes are packed that come, within the context,
    from this package's neurons with built-in surrogates and from its encoders (or are views of
    such), and not those of a graph that torch.compile made.

    A tensor that was modified in place after it was saved is an error in the backward, as without
    the context, unless it was packed: then the backward uses what was saved.

    Example:
        >>> with functional.spike_storage():
        ...     loss = criterion(net(x_seq).mean(0), labels)
        >>> loss.backward()
    """
    return SpikeStorage()


def reset_net(net: nn.Module) -> None:
    """Reset every neuron of ``net`` to its initial state; call before each new batch."""
    _for_each(net, "reset", lambda module: module.reset())


def detach_net(net: nn.Module) -> None:
    """Cut the carried states of every neuron of ``net`` off their history, keeping the values."""
    _for_each(net, "detach", lambda module: module.detach())


def set_step_mode(net: nn.Module, step_mode: str) -> None:
    """Set ``step_mode`` ("s" or "m") on every module of ``net`` that has one.

    What is inside a container of :mod:`snnkernels.layer` keeps its own: the container calls it.
    """
    _checks.choice("step_mode", step_mode, ("s", "m"))
    _check_net(net)
    _set_step_mode(net, step_mode)


def _set_step_mode(module: nn.Module, step_mode: str) -> None:
    if hasattr(module, "step_mode"):
        setattr(module, "step_mode", step_mode)  # noqa: B010
    if not getattr(module, "keeps_step_modes", False):
        for child in module.children():
            _set_step_mode(child, step_mode)


def set_backend(net: nn.Module, backend: str) -> None:
    """Set ``backend`` on every neuron and every ``layer.Linear`` of ``net``."""
    _check_backend(backend)
    _for_each(net, "backend", lambda module: setattr(module, "backend", backend))


def seq_to_ann_forward(x_seq: Tensor, stateless_module: Layer | Sequence[Layer]) -> Tensor:
    """Run what has no state over all steps at once: [T, B, ...] as a batch [T * B, ...], and back.

    Args:
        x_seq: [T, B, ...]. It is not copied where T and B can be viewed as one.
        stateless_module: a module or function of [B, ...], or several in a row.

    Returns:
        The output [T, B, ...].

    Raises:
        ValueError: ``x_seq`` has fewer than two dimensions.
    """
    _check_steps(x_seq, 2, "[T, B, ...]")
    y = x_seq.flatten(0, 1)
    for module in _in_a_row(stateless_module):
        y = module(y)
    return y.view(*x_seq.shape[:2], *y.shape[1:])


def multi_step_forward(x_seq: Tensor, single_step_module: Layer | Sequence[Layer]) -> Tensor:
    """Run what takes one step [B, ...] over [T, B, ...], step by step.

    Args:
        x_seq: [T, B, ...] with T >= 1.
        single_step_module: a module or function of one step, or several in a row.

    Returns:
        The outputs, stacked to [T, B, ...].

    Raises:
        ValueError: ``x_seq`` has no step.
    """
    _check_steps(x_seq, 1, "[T, B, ...]")
    if not len(x_seq):
        raise ValueError("x_seq must have at least one step, got T = 0")
    modules = _in_a_row(single_step_module)
    outputs = []
    for x in x_seq:
        for module in modules:
            x = module(x)
        outputs.append(x)
    return torch.stack(outputs)


def _check_steps(x_seq: Tensor, rank: int, expected: str) -> None:
    if not isinstance(x_seq, Tensor) or x_seq.dim() < rank:
        raise ValueError(
            f"x_seq must be a tensor of shape {expected}, got {_checks.describe(x_seq)}"
        )


def _in_a_row(modules: Layer | Sequence[Layer]) -> Sequence[Layer]:
    if isinstance(modules, nn.Sequential):
        return list(modules)
    return [modules] if callable(modules) else modules


def _check_net(net: nn.Module) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {_checks.describe(net)}")


def _for_each(net: nn.Module, attribute: str, act: Any) -> None:
    _check_net(net)
    for module in net.modules():
        if hasattr(module, attribute):
            act(module)
