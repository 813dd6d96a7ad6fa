"""The operators of the kernels as PyTorch sees them: shapes, autograd, calling form.

``scan_forward`` and ``scan_backward`` take sequences [T, ...] of any stride over T, whose steps are
dense: the L = B * N * ... elements of a step are the lanes. Each backend with kernels has a
namespace of them by the schemas of ``csrc/schemas.h``: the native library registers its own in C++
(``csrc/ops.cpp``), the cupy backend in Python (``nvrtc/host.py``). This module adds what
``torch.library`` wants from Python for either, the shapes of the outputs and the autograd formula,
once they are loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .._core import checks
from .._core.lanes import Lanes
from .._core.torch_private import below_autograd, may_have_tangents
from . import headers

WORD_BITS = 32


class Operators:
    """The loaded operators of a namespace, and what this module adds to them."""

    def __init__(self, namespace: str) -> None:
        operators = getattr(torch.ops, namespace)
        self.forward = operators.scan_forward.default
        self.backward = operators.scan_backward.default
        self._library = torch.library.Library(namespace, "IMPL")
        self._library.impl("scan_forward", partial(_differentiable_forward, self), "Autograd")
        self._library.impl("scan_backward", partial(_differentiable_backward, self), "Autograd")
        for name, fake in _FAKES.items():
            if not hasattr(operators, name):
                continue
            torch.library.register_fake(f"{namespace}::{name}", fake)
            if not name.startswith("scan"):
                operator = getattr(operators, name).default
                self._library.impl(name, partial(_without_gradient, operator), "Autograd")


_loaded: dict[str, Operators] = {}


def register(namespace: str) -> None:
    """Attach fakes and autograd to the loaded operators of a namespace; acts once.

    Autograd goes in as a kernel rather than through ``torch.library.register_autograd``, whose
    general form costs a call more time than the whole scan of a small layer.
    """
    if namespace not in _loaded:
        _loaded[namespace] = Operators(namespace)


class Attributes(NamedTuple):
    """What the scan's operators take besides tensors, in their order (``csrc/schemas.h``)."""

    neuron: int
    """The number of its name, as ``headers.number`` has it; likewise of the surrogate."""
    surrogate: int
    numbers: Sequence[float]
    """What the states begin with where they are no tensor, the parameters, the surrogate's."""
    layout: Sequence[int]
    """For each parameter's table its size (0: a number), then for each the lanes that share a
    value; empty without tables."""
    state_count: int
    param_count: int
    hard_reset: bool
    detach_reset: bool
    decay_input: bool
    spiking: bool
    chunk: int
    outputs: int

    @property
    def table_layouts(self) -> list[tuple[int, int, int]]:
        """Of each table the parameter's place, its size, and the lanes that share a value."""
        sizes, inners = self.layout[: self.param_count], self.layout[self.param_count :]
        return [(i, n, k) for i, (n, k) in enumerate(zip(sizes, inners, strict=True)) if n]


def scan(
    namespace: str,
    lanes: Lanes,
    x_seq: Tensor,
    states: Tensor | None,
    tables: Tensor | None,
    attributes: Attributes,
    store_v: bool,
    keep: bool,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """``scan_forward`` over x_seq [T, B, ...] without the dispatcher's detour through Python.

    Args:
        namespace: one whose operators are registered.
        lanes: how x_seq flattens.
        states: in the lanes' order already.
        tables: the tensor parameters, end to end.
        attributes: all else that the operator takes.
        store_v: whether the first state is wanted after each step.
        keep: whether a gradient will be.

    Returns:
        The spikes, the first state after each step if it was asked for, and the states after the
        last step, in the layout of x_seq.
    """
    compiling = torch.compiler.is_compiling()
    if not compiling and may_have_tangents():
        _refuse_tangents(x_seq, states, tables)
    if keep and not compiling:
        spikes, final, v_seq, _ = _Scan.apply(
            _loaded[namespace], x_seq, states, tables, lanes, attributes, store_v
        )
    else:
        args = lanes.arrange_sequence(x_seq), states, tables, *attributes, store_v, keep
        if compiling:
            spikes, v_seq, final, _ = getattr(torch.ops, namespace).scan_forward(*args)
        else:
            spikes, v_seq, final, _ = below_autograd(_loaded[namespace].forward, args)
        spikes, final = lanes.restore(spikes), lanes.restore(final)
        v_seq = lanes.restore(v_seq) if store_v else None
    count = attributes.state_count
    return spikes, v_seq, (final,) if count == 1 else tuple(final[k] for k in range(count))


def _refuse_tangents(*tensors: Tensor | None) -> None:
    for tensor in tensors:
        if tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None:
            raise NotImplementedError(
                "snnkernels: fused neurons have no forward-mode derivative, expected inputs "
                "without a tangent; use reverse mode (torch.autograd.grad)"
            )


def chunk_length(device_type: str) -> int:
    """Steps between two checkpoints of the state, K of the chunked scan."""
    return headers.CHUNK[device_type]


def checkpoint_count(steps: int, chunk: int) -> int:
    """Saved states: one at the start of each chunk but the first, whose start is the input state.

    The operators keep them end to end in one dimension, [C * S * L], because torch.compile compiles
    anew where a size turns from 0 to 1 to more, and C does so as T grows.
    """
    return max((steps + chunk - 1) // chunk - 1, 0)


def states_shape(count: int, step: Sequence[int]) -> tuple[int, ...]:
    """The shape of so many states: [S, ...], but that of a step where there is one."""
    return tuple(step) if count == 1 else (count, *step)


def _fake_forward(
    x: Tensor, states: Tensor | None, tables: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *attributes, store_v, keep = rest
    a = Attributes(*attributes)
    steps, *step = x.shape
    wide = checks.compute_dtype(x.dtype)
    count = checkpoint_count(steps, a.chunk) if keep else 0
    return (
        x.new_empty(a.outputs * steps, *step),
        x.new_empty(steps if store_v else 0, *step),
        x.new_empty(states_shape(a.state_count, step), dtype=wide),
        x.new_empty(count * a.state_count * prod(step), dtype=wide),
    )


def _fake_backward(
    x: Tensor, states: Tensor | None, tables: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    *_, table_grads = rest
    a = Attributes(*rest[_GRADIENTS:-1])
    step = x.shape[1:]
    wide = checks.compute_dtype(x.dtype)
    return (
        x.new_empty(x.shape),
        x.new_empty(0 if states is None else states_shape(a.state_count, step), dtype=wide),
        x.new_empty(len(a.table_layouts) if table_grads else 0, prod(step), dtype=wide),
    )


_GRADIENTS = 4
"""The tensors of scan_backward behind the tables: checkpoints and the incoming gradients."""


def _fake_encode(x: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


def _fake_pack(x: Tensor) -> tuple[Tensor, Tensor]:
    words = (x.numel() + WORD_BITS - 1) // WORD_BITS
    return x.new_empty(words, dtype=torch.int32), x.new_empty(1, dtype=torch.bool)


def _fake_empty(like: Tensor, size: Sequence[int]) -> Tensor:
    return like.new_empty(size)


def _fake_linear(words: Tensor, weight: Tensor, bias: Tensor | None, rows: int) -> Tensor:
    return weight.new_empty(rows, weight.shape[0])


def _fake_linear_weight(words: Tensor, grad: Tensor, inputs: int) -> Tensor:
    return grad.new_empty(grad.shape[1], inputs)


def _fake_unpack(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    return words.new_empty(count, dtype=dtype)


_FAKES: dict[str, Callable[..., Any]] = {
    "scan_forward": _fake_forward,
    "scan_backward": _fake_backward,
    "poisson_encode": _fake_encode,
    "pack_spikes": _fake_pack,
    "unpack_spikes": _fake_unpack,
    "empty_from_cpu_cache": _fake_empty,
    "spike_linear": _fake_linear,
    "spike_linear_weight": _fake_linear_weight,
}
"""By operator; backends without kernels for CPUs do without the last three."""


def _without_gradient(operator: Any, *args: Any) -> Any:
    return below_autograd(operator, args)


def _differentiable_forward(
    operators: Operators, x: Tensor, states: Tensor | None, tables: Tensor | None, *rest: Any
) -> Any:
    *attributes, store_v, keep = rest
    if keep:
        spikes, final, v_seq, checkpoints = _Scan.apply(
            operators, x, states, tables, None, Attributes(*attributes), store_v
        )
        return spikes, v_seq, final, checkpoints
    if torch.is_grad_enabled() and _any_requires_grad(x, states, tables):
        raise RuntimeError(f"{operators.forward} needs keep=True where a gradient is wanted")
    return below_autograd(operators.forward, (x, states, tables, *rest))


def _differentiable_backward(operators: Operators, *args: Any) -> Any:
    backward = partial(_without_gradient, operators.backward)
    return differentiable_once("a fused neuron", backward, *args)


def _scan_backward(operators: Operators, *args: Any) -> Any:
    if torch.compiler.is_compiling():
        return operators.backward(*args)
    return _differentiable_backward(operators, *args)


def differentiable_once(what: str, backward: Callable[..., Any], *args: Any) -> Any:
    """Call what computes gradients; where a graph of it is asked for, the graph refuses to be used.

    Args:
        what: what is being differentiated, for people.
        backward: gives a tuple of tensors and None.
        args: its arguments.
    """
    if torch.is_grad_enabled() and _any_requires_grad(*args):
        return _NotTwice.apply(what, backward, *args)
    return backward(*args)


def _any_requires_grad(*args: Any) -> bool:
    return any(isinstance(a, Tensor) and a.requires_grad for a in args)


class _Scan(torch.autograd.Function):
    """scan_forward of some operators.

    Where ``lanes`` says how x_seq [T, B, ...] flattens, the outputs have its layout, and what
    nobody asked for is None; else all is as in the operator.
    """

    @staticmethod
    def forward(
        ctx: Any,
        operators: Operators,
        x_seq: Tensor,
        states: Tensor | None,
        tables: Tensor | None,
        lanes: Lanes | None,
        attributes: Attributes,
        store_v: bool,
    ) -> tuple[Tensor | None, ...]:
        x = lanes.arrange_sequence(x_seq) if lanes else x_seq
        args = x, states, tables, *attributes, store_v, True
        spikes, v_seq, final, checkpoints = below_autograd(operators.forward, args)
        ctx.save_for_backward(x_seq, states, checkpoints, tables)
        ctx.set_materialize_grads(False)
        ctx.operators, ctx.lanes, ctx.attributes = operators, lanes, attributes
        if lanes is None:
            ctx.mark_non_differentiable(checkpoints)
            return spikes, final, v_seq, checkpoints
        v_seq = lanes.restore_(v_seq) if store_v else None
        return lanes.restore_(spikes), lanes.restore_(final), v_seq, None

    @staticmethod
    def backward(
        ctx: Any,
        grad_spikes: Tensor | None,
        grad_states: Tensor | None,
        grad_v_seq: Tensor | None,
        _: Tensor | None,
    ) -> tuple[None, Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        x_seq, states, checkpoints, tables = ctx.saved_tensors
        lanes, attributes = ctx.lanes or Lanes(x_seq), ctx.attributes
        table_grads = tables is not None and ctx.needs_input_grad[3]
        grad_x, grad_initial, sums = _scan_backward(
            ctx.operators,
            lanes.arrange_sequence(x_seq),
            states,
            tables,
            checkpoints,
            None if grad_spikes is None else lanes.arrange_sequence(grad_spikes),
            None if grad_v_seq is None else lanes.arrange_sequence(grad_v_seq),
            None if grad_states is None else lanes.arrange(grad_states),
            *attributes,
            table_grads,
        )
        return (
            None,
            lanes.restore(grad_x),
            None if states is None else grad_initial,
            _reduce(sums, attributes) if table_grads else None,
            None,
            None,
            None,
        )


class _NotTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, what: str, backward: Callable[..., Any], *args: Any) -> Any:
        ctx.what = what
        return backward(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> None:
        raise NotImplementedError(
            "snnkernels: a second derivative is not implemented, so create_graph=True cannot be "
            f"followed by a second backward through {ctx.what}. Use backend='torch' for that"
        )


def _reduce(sums: Tensor, attributes: Attributes) -> Tensor:
    """Each table's sums [L] over the lanes that share a value, in the tables' layout."""
    return torch.cat(
        [
            _folded(_folded(row.view(-1, n, k), 0), 2).sum((0, 2))
            for row, (_, n, k) in zip(sums, attributes.table_layouts, strict=True)
        ]
    )


_SUMMED_BY_ONE_THREAD = 16384


def _folded(values: Tensor, dim: int) -> Tensor:
    """Halves added to each other until one thread sums up what is left.

    PyTorch shares longer sums out to its threads on the CPU, so that the last bits would depend on
    their number.
    """
    if torch.compiler.is_compiling() or not values.is_cpu:
        return values
    while values.numel() > _SUMMED_BY_ONE_THREAD and values.shape[dim] > 1:
        half = values.shape[dim] // 2
        odd = values.narrow(dim, 2 * half, values.shape[dim] - 2 * half)
        values = values.narrow(dim, 0, half) + values.narrow(dim, half, half)
        values.narrow(dim, 0, odd.shape[dim]).add_(odd)
    return values
