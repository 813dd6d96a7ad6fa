"""The operators of the kernels as PyTorch sees them: shapes, autograd, calling form.

``scan_forward`` and ``scan_backward`` take sequences [T, ...] of any stride over T, whose steps are
dense: the L = B * N * ... elements of a step are the lanes. Each backend with kernels has a
namespace of them by the schemas of ``csrc/schemas.h``: the native library registers its own in C++
(``csrc/ops.cpp``), the cupy backend in Python (``nvrtc/host.py``). This module adds what
``torch.library`` wants from Python for either, the shapes of the outputs and the autograd formula,
once they are loaded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Sequence
from functools import cached_property, partial
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from .._core import checks
from .._core.lanes import Lanes
from .._core.remembered import remember
from .._core.torch_private import (
    below_autograd,
    below_python,
    is_batched,
    is_watched,
    may_have_tangents,
)
from . import headers

WORD_BITS = 32

PLAIN = frozenset({Tensor, nn.Parameter})
"""torch's own types of tensors."""
_PLAIN_OR_NONE = PLAIN | {type(None)}


class Operators:
    """The loaded operators of a namespace, and what this module adds to them."""

    def __init__(self, namespace: str) -> None:
        operators = getattr(torch.ops, namespace)
        self.forward = operators.scan_forward.default
        self.backward = operators.scan_backward.default
        self._library = torch.library.Library(namespace, "IMPL")
        self.takes_packed = hasattr(operators, "eager_forward")
        if self.takes_packed:
            self.eager_forward = self._without_autograd(operators, "eager_forward")
            self.eager_backward = self._without_autograd(operators, "eager_backward")
        self._library.impl("scan_forward", partial(_differentiable_forward, self), "Autograd")
        self._library.impl("scan_backward", partial(_differentiable_backward, self), "Autograd")
        for name, fake in _FAKES.items():
            if not hasattr(operators, name):
                continue
            torch.library.register_fake(f"{namespace}::{name}", fake)
            if not name.startswith("scan"):
                operator = getattr(operators, name).default
                self._library.impl(name, partial(_without_gradient, operator), "Autograd")

    def _without_autograd(self, operators: Any, name: str) -> Any:
        self._library.impl(name, torch.library.fallthrough_kernel, "Autograd")
        return below_python(getattr(operators, name).default)


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

    def packed(self) -> Tensor:
        """As the eager operators take them, by ``unpack`` in ``csrc/call.h``."""
        head = (
            len(self.numbers),
            len(self.layout),
            self.neuron,
            self.surrogate,
            self.state_count,
            self.param_count,
            self.hard_reset,
            self.detach_reset,
            self.decay_input,
            self.spiking,
            self.chunk,
            self.outputs,
        )
        form = f"{len(head)}q{len(self.numbers)}d{len(self.layout)}q"
        words = bytearray(struct.pack(form, *head, *self.numbers, *self.layout))
        return torch.frombuffer(words, dtype=torch.int64)


class Plan:
    """What runs a scan: the operators of a namespace, and what they take besides tensors."""

    def __init__(self, namespace: str, attributes: Attributes) -> None:
        self.namespace = namespace
        self.attributes = attributes
        self._laid_out: dict[Hashable, Plan] = {}

    @cached_property
    def operators(self) -> Operators:
        return _loaded[self.namespace]

    @cached_property
    def packed(self) -> Tensor:
        return self.attributes.packed()

    def with_layout(self, layout: Sequence[int]) -> Plan:
        """The same for such tables."""
        if torch.compiler.is_compiling():
            return Plan(self.namespace, self.attributes._replace(layout=layout))
        key = tuple(layout)
        found = self._laid_out.get(key)
        if found is None:
            found = Plan(self.namespace, self.attributes._replace(layout=key))
            remember(self._laid_out, key, found, _MOST_LAYOUTS)
        return found


_MOST_LAYOUTS = 16


class Job(NamedTuple):
    """What a scan does, but for its tensors."""

    plan: Plan
    """Of a namespace whose operators are registered."""
    lanes: Lanes
    """How the input flattens."""
    store_v: bool
    """Whether the first state is wanted after each step."""
    single: bool
    """Whether the input is one step [B, ...], and so the outputs."""


def scan(
    job: Job, x_seq: Tensor, states: Tensor | None, tables: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """``scan_forward`` over x_seq [T, B, ...] without the dispatcher's detour through Python.

    Args:
        job: all that is no tensor.
        x_seq: the input, or the single step [B, ...] that it is.
        states: in the lanes' order already.
        tables: the tensor parameters, end to end.
        keep: whether a gradient is wanted.

    Returns:
        The spikes, the first state after each step if it was asked for, and the states after the
        last step, in the layout of x_seq.
    """
    if torch.compiler.is_compiling():
        return _traced_scan(job, x_seq, states, tables, keep)
    if may_have_tangents():
        _refuse_tangents(x_seq, states, tables)
    if keep:
        spikes, final, v_seq = _EagerScan.apply(x_seq, states, tables, job)
    else:
        spikes, v_seq, final, _ = _run_forward(job, x_seq, states, tables, False)
        spikes, final = job.lanes.restore(spikes), job.lanes.restore(final)
        v_seq = None if v_seq is None else job.lanes.restore(v_seq)
    return spikes, v_seq, _each_state(job, final)


def _each_state(job: Job, final: Tensor) -> tuple[Tensor, ...]:
    count = job.plan.attributes.state_count
    return (final,) if count == 1 else tuple([final[k] for k in range(count)])


def _traced_scan(
    job: Job, x_seq: Tensor, states: Tensor | None, tables: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """By the operator that torch.compile has an autograd formula of."""
    plan, lanes, store_v, single = job
    run = getattr(torch.ops, plan.namespace).scan_forward
    x = lanes.arrange_sequence(x_seq.unsqueeze(0) if single else x_seq)
    spikes, v_seq, final, _ = run(x, states, tables, *plan.attributes, store_v, keep)
    spikes, v_seq = lanes.restore(spikes), lanes.restore(v_seq) if store_v else None
    if single and plan.attributes.outputs == 1:
        spikes = spikes.squeeze(0)
    return spikes, v_seq, _each_state(job, lanes.restore(final))


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
            operators, x, states, tables, Attributes(*attributes), store_v
        )
        return spikes, v_seq, final, checkpoints
    if torch.is_grad_enabled() and _any_requires_grad(x, states, tables):
        raise RuntimeError(f"{operators.forward} needs keep=True where a gradient is wanted")
    return below_autograd(operators.forward, (x, states, tables, *rest))


def _differentiable_backward(operators: Operators, *args: Any) -> Any:
    backward = partial(_without_gradient, operators.backward)
    return differentiable_once("a fused neuron", backward, *args)


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
    """scan_forward of some operators, with the operator's own outputs."""

    @staticmethod
    def forward(
        ctx: Any,
        operators: Operators,
        x: Tensor,
        states: Tensor | None,
        tables: Tensor | None,
        attributes: Attributes,
        store_v: bool,
    ) -> tuple[Tensor, ...]:
        args = x, states, tables, *attributes, store_v, True
        spikes, v_seq, final, checkpoints = below_autograd(operators.forward, args)
        ctx.save_for_backward(x, states, checkpoints, tables)
        ctx.set_materialize_grads(False)
        ctx.operators, ctx.attributes = operators, attributes
        ctx.mark_non_differentiable(checkpoints)
        return spikes, final, v_seq, checkpoints

    @staticmethod
    def backward(
        ctx: Any,
        grad_spikes: Tensor | None,
        grad_states: Tensor | None,
        grad_v_seq: Tensor | None,
        _: Tensor | None,
    ) -> tuple[None, Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, states, checkpoints, tables = ctx.saved_tensors
        attributes = ctx.attributes
        grads = _gradients(Lanes(x), grad_spikes, grad_v_seq, grad_states)
        table_grads = tables is not None and ctx.needs_input_grad[3]
        args = x, states, tables, checkpoints, *grads, *attributes, table_grads
        if torch.compiler.is_compiling():
            grad_x, grad_initial, sums = ctx.operators.backward(*args)
        else:
            grad_x, grad_initial, sums = _differentiable_backward(ctx.operators, *args)
        return (
            None,
            grad_x,
            None if states is None else grad_initial,
            _reduce(sums, attributes) if table_grads else None,
            None,
            None,
        )


class _EagerScan(torch.autograd.Function):
    """A job on its input, x_seq [T, B, ...] or a single step, whose layout the outputs have."""

    @staticmethod
    def forward(
        ctx: Any, x_seq: Tensor, states: Tensor | None, tables: Tensor | None, job: Job
    ) -> tuple[Tensor | None, ...]:
        spikes, v_seq, final, checkpoints = _run_forward(job, x_seq, states, tables, True)
        ctx.save_for_backward(x_seq, states, checkpoints, tables)
        ctx.set_materialize_grads(False)
        ctx.job = job
        lanes = job.lanes
        v_seq = None if v_seq is None else lanes.restore_(v_seq)
        return lanes.restore_(spikes), lanes.restore_(final), v_seq

    @staticmethod
    def backward(
        ctx: Any,
        grad_spikes: Tensor | None,
        grad_states: Tensor | None,
        grad_v_seq: Tensor | None,
    ) -> tuple[Tensor | None, ...]:
        x_seq, states, checkpoints, tables = ctx.saved_tensors
        job = ctx.job
        table_grads = tables is not None and ctx.needs_input_grad[2]
        args = job, x_seq, states, tables, checkpoints, grad_spikes, grad_v_seq, grad_states
        grad_x, grad_initial, sums = differentiable_once(
            "a fused neuron", _run_backward, *args, table_grads
        )
        return (
            job.lanes.restore(grad_x),
            None if states is None else grad_initial,
            _reduce(sums, job.plan.attributes) if table_grads else None,
            None,
        )


def _gradients(
    lanes: Lanes,
    grad_spikes: Tensor | None,
    grad_v_seq: Tensor | None,
    grad_states: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Those that come in, in the lanes' order."""
    return (
        None if grad_spikes is None else lanes.arrange_sequence(grad_spikes),
        None if grad_v_seq is None else lanes.arrange_sequence(grad_v_seq),
        None if grad_states is None else lanes.arrange(grad_states),
    )


def _run_forward(
    job: Job, x_seq: Tensor, states: Tensor | None, tables: Tensor | None, keep: bool
) -> Any:
    """What ``eager_forward`` gives, in the lanes' order; of a single step without its time axis."""
    plan, lanes, store_v, single = job
    x = lanes.arrange_sequence(x_seq.unsqueeze(0) if single else x_seq)
    operators, tensors = plan.operators, (x, states, tables)
    if operators.takes_packed and _are_plain(tensors):
        found = operators.eager_forward(*tensors, plan.packed, store_v, keep)
    else:
        args = *tensors, *plan.attributes, store_v, keep
        spikes, v_seq, final, checkpoints = below_autograd(operators.forward, args)
        found = spikes, v_seq if store_v else None, final, checkpoints
    if single and plan.attributes.outputs == 1:
        found[0].squeeze_(0)
    return found


def _run_backward(
    job: Job,
    x_seq: Tensor,
    states: Tensor | None,
    tables: Tensor | None,
    checkpoints: Tensor | None,
    grad_spikes: Tensor | None,
    grad_v_seq: Tensor | None,
    grad_states: Tensor | None,
    table_grads: bool,
) -> Any:
    plan, lanes, _, single = job
    if single:
        x_seq = x_seq.unsqueeze(0)
        if grad_spikes is not None and plan.attributes.outputs == 1:
            grad_spikes = grad_spikes.unsqueeze(0)
    operators, x = plan.operators, lanes.arrange_sequence(x_seq)
    grads = _gradients(lanes, grad_spikes, grad_v_seq, grad_states)
    if operators.takes_packed and _are_plain((x, states, tables, *grads)):
        tensors = x, states, tables, checkpoints, *grads
        found = operators.eager_backward(*tensors, plan.packed, table_grads)
    else:
        if checkpoints is None:
            checkpoints = x.new_empty(0, dtype=checks.compute_dtype(x.dtype))
        args = x, states, tables, checkpoints, *grads, *plan.attributes, table_grads
        compiling = torch.compiler.is_compiling()
        found = operators.backward(*args) if compiling else below_autograd(operators.backward, args)
    return (found[0].squeeze(0), *found[1:]) if single else found


def _are_plain(tensors: tuple[Tensor | None, ...]) -> bool:
    """Whether nobody minds which operator runs: no mode, transform or tracer looks on, and the
    tensors are torch's own and stand for no batch."""
    if is_watched() or not _PLAIN_OR_NONE.issuperset(map(type, tensors)):
        return False
    return not any(map(is_batched, [tensor for tensor in tensors if tensor is not None]))


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
    each = [
        _folded(_folded(row.view(-1, n, k), 0), 2).sum((0, 2))
        for row, (_, n, k) in zip(sums, attributes.table_layouts, strict=True)
    ]
    return each[0] if len(each) == 1 else torch.cat(each)


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
