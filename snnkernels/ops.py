"""The operators of the native library as PyTorch sees them: shapes, autograd, calling form.

``snnkernels::scan_forward`` and ``snnkernels::scan_backward`` are registered in C++
(``csrc/ops.cpp``) and work on flattened lanes: x is [T, L] with L = B * N * ..., of any stride over
T and stride 1 over L. This module adds what ``torch.library`` wants from Python, the shapes of the
outputs and the autograd formula, once the library is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from . import _checks, registry

FORWARD = "snnkernels::scan_forward"
BACKWARD = "snnkernels::scan_backward"
ENCODE = "snnkernels::poisson_encode"
PACK = "snnkernels::pack_spikes"
UNPACK = "snnkernels::unpack_spikes"
WORD_BITS = 32

_registrations: torch.library.Library | None = None


def register() -> None:
    """Attach fakes and autograd to the loaded operators; call after every load, acts once.

    Autograd goes in as a kernel rather than through ``torch.library.register_autograd``, whose
    general form costs a call more time than the whole scan of a small layer.
    """
    global _registrations
    if _registrations is not None:
        return
    torch.library.register_fake(FORWARD, _fake_forward)
    torch.library.register_fake(BACKWARD, _fake_backward)
    torch.library.register_fake(ENCODE, _fake_encode)
    torch.library.register_fake(PACK, _fake_pack)
    torch.library.register_fake(UNPACK, _fake_unpack)
    _registrations = torch.library.Library("snnkernels", "IMPL")
    _registrations.impl("scan_forward", _differentiable_forward, "Autograd")
    _registrations.impl("scan_backward", _differentiable_backward, "Autograd")
    for name in ("poisson_encode", "pack_spikes", "unpack_spikes"):
        operator = getattr(torch.ops.snnkernels, name).default
        _registrations.impl(name, partial(_without_gradient, operator), "Autograd")


def scan_forward(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``torch.ops.snnkernels.scan_forward``, without the dispatcher's detour through Python."""
    if torch.compiler.is_compiling():
        return torch.ops.snnkernels.scan_forward(*args)
    return _differentiable_forward(*args)


def chunk_length(device_type: str) -> int:
    """Steps between two checkpoints of the state, K of the chunked scan."""
    return registry.CHUNK[device_type]


def checkpoint_count(steps: int, chunk: int) -> int:
    """Saved states: one at the start of each chunk but the first, whose start is the input state.

    The operators keep them end to end in one dimension, [C * S * L], because torch.compile compiles
    anew where a size turns from 0 to 1 to more, and C does so as T grows.
    """
    return max((steps + chunk - 1) // chunk - 1, 0)


def _fake_forward(
    neuron: str,
    x: Tensor,
    states: Tensor | None,
    initial: Sequence[float],
    values: Sequence[float],
    tables: Tensor | None,
    table_size: Sequence[int],
    table_inner: Sequence[int],
    surrogate: str,
    surrogate_values: Sequence[float],
    hard_reset: bool,
    detach_reset: bool,
    decay_input: bool,
    spiking: bool,
    chunk: int,
    outputs: int,
    store_v: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    steps, lanes = x.shape
    wide = _checks.compute_dtype(x.dtype)
    count = checkpoint_count(steps, chunk) if keep else 0
    return (
        x.new_empty(outputs * steps, lanes),
        x.new_empty(steps if store_v else 0, lanes),
        x.new_empty(len(initial), lanes, dtype=wide),
        x.new_empty(count * len(initial) * lanes, dtype=wide),
    )


def _fake_backward(
    neuron: str,
    x: Tensor,
    states: Tensor | None,
    checkpoints: Tensor,
    grad_spikes: Tensor | None,
    grad_v_seq: Tensor | None,
    grad_states: Tensor | None,
    initial: Sequence[float],
    values: Sequence[float],
    tables: Tensor | None,
    table_size: Sequence[int],
    table_inner: Sequence[int],
    surrogate: str,
    surrogate_values: Sequence[float],
    hard_reset: bool,
    detach_reset: bool,
    decay_input: bool,
    spiking: bool,
    chunk: int,
    outputs: int,
    table_grads: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    steps, lanes = x.shape
    wide = _checks.compute_dtype(x.dtype)
    return (
        x.new_empty(steps, lanes),
        x.new_empty(len(initial), lanes, dtype=wide),
        x.new_empty(len(values) if table_grads else 0, lanes, dtype=wide),
    )


def _fake_encode(x: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    return x.new_empty(x.shape, dtype=dtype)


def _fake_pack(x: Tensor) -> tuple[Tensor, Tensor]:
    words = (x.numel() + WORD_BITS - 1) // WORD_BITS
    return x.new_empty(words, dtype=torch.int32), x.new_empty(1, dtype=torch.bool)


def _fake_unpack(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    return words.new_empty(count, dtype=dtype)


def _without_gradient(operator: Any, *args: Any) -> Any:
    return _below_autograd(operator, args)


def _below_autograd(operator: Any, args: tuple[Any, ...]) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*args)


def _differentiable_forward(*args: Any) -> Any:
    _, x, states, _, _, tables, *_, keep = args
    if keep:
        return _Scan.apply(x, states, tables, args)
    if torch.is_grad_enabled() and _any_requires_grad(x, states, tables):
        raise RuntimeError("snnkernels::scan_forward needs keep=True where a gradient is wanted")
    return _below_autograd(torch.ops.snnkernels.scan_forward.default, args)


def _differentiable_backward(*args: Any) -> Any:
    if torch.is_grad_enabled() and _any_requires_grad(*args):
        return _NotTwice.apply(*args)
    return _below_autograd(torch.ops.snnkernels.scan_backward.default, args)


def _scan_backward(*args: Any) -> Any:
    if torch.compiler.is_compiling():
        return torch.ops.snnkernels.scan_backward(*args)
    return _differentiable_backward(*args)


def _any_requires_grad(*args: Any) -> bool:
    return any(isinstance(a, Tensor) and a.requires_grad for a in args)


class _Scan(torch.autograd.Function):
    """scan_forward, given its arguments once more by the tensors that may need a gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, states: Tensor | None, tables: Tensor | None, args: tuple[Any, ...]
    ) -> tuple[Tensor, ...]:
        output = _below_autograd(torch.ops.snnkernels.scan_forward.default, args)
        ctx.save_for_backward(x, states, output[3], tables)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(output[3])
        ctx.settings = args[0], *args[3:5], *args[6:-2]
        ctx.layout = args[6:8]
        return output

    @staticmethod
    def backward(
        ctx: Any,
        grad_spikes: Tensor | None,
        grad_v_seq: Tensor | None,
        grad_states: Tensor | None,
        _: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, states, checkpoints, tables = ctx.saved_tensors
        neuron, initial, values, *rest = ctx.settings
        table_grads = tables is not None and ctx.needs_input_grad[2]
        grad_x, grad_initial, sums = _scan_backward(
            neuron,
            x,
            states,
            checkpoints,
            _lanes(grad_spikes),
            _lanes(grad_v_seq),
            None if grad_states is None else grad_states.contiguous(),
            initial,
            values,
            tables,
            *rest,
            table_grads,
        )
        return (
            grad_x,
            None if states is None else grad_initial,
            _reduce(sums, *ctx.layout) if table_grads else None,
            None,
        )


class _NotTwice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, ...]:
        return _below_autograd(torch.ops.snnkernels.scan_backward.default, args)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> None:
        raise NotImplementedError(
            "snnkernels: the backward of scan_backward is not implemented, so create_graph=True "
            "cannot be followed by a second backward through a native neuron. "
            "Use backend='torch' for that"
        )


def _reduce(sums: Tensor, size: Sequence[int], inner: Sequence[int]) -> Tensor:
    """Each parameter's sums [L] over the lanes that share a value, in the tables' layout."""
    return torch.cat(
        [row.view(-1, n, k).sum((0, 2)) for row, n, k in zip(sums, size, inner, strict=True) if n]
    )


def _lanes(grad: Tensor | None) -> Tensor | None:
    """An incoming gradient with its lanes side by side; any stride over T is fine."""
    if grad is None or grad.stride(1) == 1 or grad.shape[1] == 1:
        return grad
    return grad.contiguous()
