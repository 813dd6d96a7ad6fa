"""Spikes that autograd keeps for the backward, one bit each: ``functional.spike_storage``.

Hooks on autograd's saved tensors (``torch.autograd.graph.saved_tensors_hooks``) pack what holds
nothing but 0 and 1, and unpack it in the backward. On the CPU one fused pass packs and finds out
whether that is all there is. To know it of a tensor on a GPU the host would have to wait, so there
only spikes are packed that a neuron or encoder of this package marked as such (``mark``).

What is known of a memory, its mark and its packed form, is noted on the storage object itself:
torch keeps that object for as long as the memory lives, and no longer.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._backends import operators, selection
from .._core import checks
from .._core.lanes import is_dense_in_any_order
from .._core.torch_private import version_of


class _Depth(threading.local):
    """How many contexts this thread is in; autograd's hooks are each thread's own too."""

    value = 0


_depth = _Depth()


@dataclass(frozen=True)
class _Stamp:
    """The contents of a memory at one moment, as far as autograd counts its changes."""

    version: int
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> _Stamp:
        return cls(version_of(tensor), tensor.dtype)


class Packed:
    """A run of elements, 32 to a word, as a backend's operators packed it."""

    def __init__(self, words: Tensor, count: int, dtype: torch.dtype, by: Any) -> None:
        self.words, self.count, self.dtype, self.by = words, count, dtype, by

    def unpack(self) -> Tensor:
        flat: Tensor = self.by.unpack_spikes(self.words, self.count, self.dtype)
        return flat


@dataclass(frozen=True)
class _SavedSpikes:
    packed: Packed
    size: torch.Size
    stride: tuple[int, ...]

    def restore(self) -> Tensor:
        return self.packed.unpack().as_strided(self.size, self.stride)


@dataclass(frozen=True)
class _SavedTensor:
    """Any other tensor. Autograd does not watch what passed through hooks, so this does."""

    tensor: Tensor
    version: int

    def restore(self) -> Tensor:
        if version_of(self.tensor) != self.version:
            raise RuntimeError(
                "one of the variables needed for gradient computation has been modified by an "
                f"inplace operation: {checks.describe(self.tensor)} is at version "
                f"{version_of(self.tensor)}, expected version {self.version}"
            )
        return self.tensor


class SpikeStorage(torch.autograd.graph.saved_tensors_hooks):
    """The context manager that ``functional.spike_storage`` gives."""

    def __init__(self) -> None:
        super().__init__(_save, lambda saved: saved.restore())

    def __enter__(self) -> None:
        super().__enter__()
        _depth.value += 1

    def __exit__(self, *args: object) -> None:
        _depth.value -= 1
        super().__exit__(*args)


def is_marking() -> bool:
    """Whether anything could use a mark now."""
    return not torch.compiler.is_compiling() and _depth.value > 0 and torch.is_grad_enabled()


def mark(spikes: Tensor) -> None:
    """Note, within the context, that a tensor on a GPU holds nothing but 0 and 1."""
    if not is_marking():
        return
    if spikes.device.type != "cpu" and not spikes.is_inference():
        spikes.untyped_storage()._snn_spikes = _Stamp.of(spikes)  # type: ignore[attr-defined]


def _save(tensor: Tensor) -> _SavedSpikes | _SavedTensor:
    if _may_be_spikes(tensor):
        packed = _packed(tensor)
        if packed is not None:
            return _SavedSpikes(packed, tensor.shape, tensor.stride())
    # Detached: what holds on to a node's own output keeps the node alive.
    return _SavedTensor(tensor.detach(), version_of(tensor))


def _may_be_spikes(tensor: Tensor) -> bool:
    return (
        type(tensor) is Tensor  # no parameter, no subclass that may have no memory
        and tensor.dtype in checks.FLOAT_DTYPES
        and tensor.layout == torch.strided
        and tensor.numel() >= operators.WORD_BITS
        and not (tensor.is_leaf and tensor.requires_grad)  # the user keeps it anyway
        and is_dense_in_any_order(tensor)
    )


def _packed(tensor: Tensor) -> Packed | None:
    """The elements of a dense tensor in the order of memory, packed; None if not all are 0 or 1.

    Consumers of the same elements share what was packed for the first of them.
    """
    storage: Any = tensor.untyped_storage()
    stamp = _Stamp.of(tensor)
    if tensor.device.type != "cpu" and getattr(storage, "_snn_spikes", None) != stamp:
        return None
    known = getattr(storage, "_snn_packed", {})
    key = (stamp, tensor.storage_offset(), tensor.numel())
    packed: Packed | None = known[key]() if key in known else None
    if packed is None:
        packed = pack(tensor, selection.chosen("auto", tensor.device.type).operators)
        if packed is not None:
            alive = {k: ref for k, ref in known.items() if ref() is not None}
            storage._snn_packed = {**alive, key: weakref.ref(packed)}
    return packed


def pack(tensor: Tensor, by: Any) -> Packed | None:
    """The elements of a dense tensor in the order of memory, packed now by a backend's operators;
    None if a look at them on the CPU shows another number than 0 and 1. On a GPU that is for the
    caller to know."""
    count = tensor.numel()
    flat = tensor.detach().as_strided((count,), (1,))
    words, foreign = by.pack_spikes(flat)
    if tensor.device.type == "cpu" and foreign.item():
        return None
    return Packed(words, count, tensor.dtype, by)
