"""Neurons as stateless functions, and what is done to all neurons of a network at once.

Shapes: ``x_seq`` is [T, B, ...] in float64, float32, float16 or bfloat16; outputs have its shape,
dtype and memory layout; a state is [B, ...] in float32 (float64 for float64 input). A parameter is
a number, a scalar tensor, a tensor with one value per channel ([C] against [T, B, C, ...]) or one
that broadcasts over [B, ...]; tensors may require gradients.

Each neuron of ``snnkernels.neuron`` is a function here as well, named in small letters:

    lif(x_seq, v=None, *, tau=2.0, decay_input=True, v_threshold=1.0, v_reset=0.0,
        detach_reset=False, surrogate_function=None, backend="auto", return_v_seq=False)

It takes the states before the first step, numbers or [B, ...] (None for where the module starts),
then by name the module's parameters, and returns the output, the states after the last step, and
with ``return_v_seq`` the first state after each step. The time constant of ``parametric_lif`` is
given as ``w``, where 1/tau = sigmoid(w). They raise TypeError or ValueError, naming the argument,
before anything runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from . import _call, neuron, surrogate
from ._backends import selection
from ._call.equations import Parameter, State
from ._core import checks
from ._spikes import linear as spike_linear
from ._spikes.storage import SpikeStorage
from .encoding import poisson_encode as poisson_encode
from .neuron.gated import conducted as _conducted
from .neuron.gated import narrowed as _narrowed

Layer: TypeAlias = Callable[..., Tensor]

_SIGMOID = surrogate.Sigmoid()


_SHARED = {"surrogate_function": None, "backend": "auto", "return_v_seq": False}


_DOCUMENTATION = """{summary}

This is ``snnkernels.neuron.{node}`` as a function, which keeps nothing between calls.

Args:
    x_seq: the input [T, B, ...].
    {states}: before the first step, a number or a tensor [B, ...]; None for where the module
        starts.
    surrogate_function: a module of ``snnkernels.surrogate`` or your own; None for Sigmoid().
    backend: "auto", "native", "cupy" or "torch".
    return_v_seq: also return the first state after each step, [T, B, ...].

The others are the module's parameters{instead}.

Returns:
    The output [T, B, ...], then {states} after the last step, then v_seq if it was asked for.
"""


def _function_of(name: str, node: type[neuron.BaseNode]) -> Callable[..., tuple[Tensor, ...]]:
    equations = node.equations
    states = tuple(equations.states)
    params = {**equations.params, **_SHARED}
    defaults = {**dict.fromkeys(states), **params}
    types = {
        **{name: equations.annotation(name) for name in equations.params},
        "surrogate_function": nn.Module | None,
        "backend": str,
        "return_v_seq": bool,
    }
    by_position, by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    own = [
        *[inspect.Parameter(n, by_position, default=None, annotation=State | None) for n in states],
        *[inspect.Parameter(n, by_name, default=d, annotation=types[n]) for n, d in params.items()],
    ]

    def function(x_seq: Tensor, *given: State | None, **named: Any) -> tuple[Tensor, ...]:
        values = checks.arguments(
            name, defaults, states, given, named, lambda: inspect.Signature(own)
        )
        checks.sequence("x_seq", x_seq, leading="[T, B, ...]", minimum_rank=2)
        function = values["surrogate_function"]
        call = _call.call_of(
            equations,
            x_seq,
            [values[state] for state in states],
            values,
            _SIGMOID if function is None else function,
            values["backend"],
        )
        outcome = _call.run(call, checks.boolean("return_v_seq", values["return_v_seq"]))
        v_seq = () if outcome.v_seq is None else (outcome.v_seq,)
        return *outcome.outputs, *outcome.states, *v_seq

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _DOCUMENTATION.format(
        summary=str(inspect.getdoc(node)).split("\n\nArgs:")[0],
        node=node.__name__,
        states=", ".join(states),
        instead="".join(
            f", with ``{name}`` in place of ``{argument}``"
            for name, (argument, *_) in node._given_by.items()
        ),
    )
    x_seq = inspect.Parameter("x_seq", by_position, annotation=Tensor)
    function.__signature__ = inspect.Signature([x_seq, *own])  # type: ignore[attr-defined]
    return function


alif = _function_of("alif", neuron.ALIFNode)
clif = _function_of("clif", neuron.CLIFNode)
cuba_lif = _function_of("cuba_lif", neuron.CubaLIFNode)
eif = _function_of("eif", neuron.EIFNode)
if_ = _function_of("if_", neuron.IFNode)
ilif = _function_of("ilif", neuron.ILIFNode)
izhikevich = _function_of("izhikevich", neuron.IzhikevichNode)
klif = _function_of("klif", neuron.KLIFNode)
li = _function_of("li", neuron.LINode)
lif = _function_of("lif", neuron.LIFNode)
parametric_lif = _function_of("parametric_lif", neuron.ParametricLIFNode)
qif = _function_of("qif", neuron.QIFNode)
_gated_lif = _function_of("glif", neuron.GLIFNode)


def glif(
    x_seq: Tensor,
    v: State | None = None,
    s: State | None = None,
    *,
    conduct: Parameter = 0.5,
    beta: Parameter = 0.5,
    **named: Any,
) -> tuple[Tensor, ...]:
    """``snnkernels.neuron.GLIFNode`` of a whole sequence, given its gates themselves.

    Args:
        x_seq: [T, B, ...].
        v, s: the potential and the spikes of the step before.
        conduct: g, a number or a tensor [T] or [T, C].
        beta: how far it counts, in [0, 1].
        named: ``alpha``, ``gamma``, ``tau``, ``v_threshold``, ``linear_decay`` and ``v_subreset``,
            0.5 each, and what all neurons take.

    Returns:
        The spikes [T, B, ...], then v and s after the last step, then v_seq if it was asked for.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    checks.sequence("x_seq", x_seq, leading="[T, B, ...]", minimum_rank=2)
    gates = _call.on_device(
        {
            name: value if isinstance(value, Tensor) else checks.number(name, value)
            for name, value in (("beta", beta), ("conduct", conduct))
        },
        x_seq,
    )
    if not isinstance(conduct, Tensor):
        gates["conduct"] = gates["conduct"].expand(len(x_seq))
    spikes, v, s, *v_seq = _gated_lif(_conducted(x_seq, **gates), v, s, **named)
    function = named.get("surrogate_function")
    function = _SIGMOID if function is None else function
    return (
        _narrowed(spikes, function, x_seq.dtype),
        v,
        s,
        *[potentials.to(x_seq.dtype) for potentials in v_seq],
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
    Large results lie in memory that is kept for later (``snnkernels.memory``), and cannot be
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
        snnkernels.BuildError: with "native", if the kernels cannot be had.
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
    from an encoder or a neuron of this package whose output is spikes alone (or are views of
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

    What is inside a container of ``snnkernels.layer`` keeps its own: the container calls it.
    """
    checks.choice("step_mode", step_mode, ("s", "m"))
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
    selection.check_backend(backend)
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
            f"x_seq must be a tensor of shape {expected}, got {checks.describe(x_seq)}"
        )


def _in_a_row(modules: Layer | Sequence[Layer]) -> Sequence[Layer]:
    if isinstance(modules, nn.Sequential):
        return list(modules)
    return [modules] if callable(modules) else modules


def _check_net(net: nn.Module) -> None:
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {checks.describe(net)}")


def _for_each(net: nn.Module, attribute: str, act: Any) -> None:
    _check_net(net)
    for module in net.modules():
        if hasattr(module, attribute):
            act(module)


if not TYPE_CHECKING:  # type checkers see the functions themselves
    __all__ = [n for n, f in globals().items() if inspect.isfunction(f) and not n.startswith("_")]
