"""Memory of one call: its peak beyond input and output, and what it saves for its backward.

CPU: torch's profiler records each allocation and release of torch's CPU allocator, also those
inside an operator and inside a backward; the peak is the highest running sum, exact to the byte and
the same on every run. What the package keeps for its next outputs is given up for that call. Memory
that a kernel would take from malloc by itself is not seen (the resident-set size would show it, but
counts pages, caches of the C library and code along with it).
CUDA: the peak of torch's caching allocator, in its blocks of 512 bytes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeVar

import torch
from torch._C._profiler import _ExtraFields_Allocation, _ProfilerEvent
from torch.profiler import ProfilerActivity, profile

from snnkernels.memory import without_cache


class HasTensors(Protocol):
    """What a call returns: the tensors that are its output."""

    @property
    def tensors(self) -> Sequence[torch.Tensor]: ...


@dataclass(frozen=True)
class Memory:
    """Bytes of one call.

    ``peak_extra`` is the peak beyond inputs and outputs. ``saved`` is what autograd keeps between
    forward and backward beside the inputs; None where it was not recorded.
    """

    peak_extra: int
    saved: int | None


class SavedTensors:
    """Records the storages that autograd saves, each once, without those of ``excluded``."""

    def __init__(self, excluded: Iterable[torch.Tensor]) -> None:
        self._excluded = {_storage_key(tensor) for tensor in excluded}
        self._saved: dict[int, int] = {}

    def hooks(self) -> AbstractContextManager[object]:
        """A context in which whatever is saved for backward gets recorded."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        key = _storage_key(tensor)
        if key not in self._excluded:
            self._saved[key] = tensor.untyped_storage().nbytes()
        return tensor

    @property
    def nbytes(self) -> int:
        return sum(self._saved.values())


def measure(
    call: Callable[[], HasTensors],
    device: str,
    inputs: Sequence[torch.Tensor],
    *,
    record_saved: bool = True,
) -> Memory:
    """Memory of one call of ``call``, which must be warm.

    ``inputs`` exist before the call and do not count. With ``record_saved`` hooks on autograd watch
    what is saved; tensors that a function hides from ``save_for_backward`` only show in the peak.
    """
    saved = SavedTensors(inputs)
    gc.collect()
    with saved.hooks() if record_saved else nullcontext():
        peak, outcome = (_peak_cuda if device == "cuda" else _peak_cpu)(call)
    return Memory(
        peak_extra=peak - storage_bytes(outcome.tensors),
        saved=saved.nbytes if record_saved else None,
    )


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the tensors' storages, each storage once."""
    return sum({_storage_key(t): t.untyped_storage().nbytes() for t in tensors}.values())


def _storage_key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def left_allocated(call: Callable[[], object], device: str) -> int:
    """Bytes that are allocated after a call and were not before, while its result lives."""
    gc.collect()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        outcome = call()
        return torch.cuda.memory_allocated() - before
    sizes, outcome = _allocations(call)
    del outcome
    return sum(sizes)


Outcome = TypeVar("Outcome")


def _allocations(call: Callable[[], Outcome]) -> tuple[list[int], Outcome]:
    """Bytes of each allocation of torch's CPU allocator in order, negative for each release.

    Without releases of what was there before: torch reports those of blocks that an earlier
    recording saw, and they would hide as much of the peak.
    """
    # torch 2.11 warns unless events are to be accumulated.
    with (
        without_cache(),
        profile(
            activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True
        ) as recorded,
    ):
        outcome = call()
    kineto = recorded.profiler
    assert kineto is not None and kineto.kineto_results is not None
    events = sorted(
        _flat(kineto.kineto_results.experimental_event_tree()), key=lambda e: e.start_time_ns
    )
    sizes, alive = [], set()
    for block in (e.extra_fields for e in events):
        if not isinstance(block, _ExtraFields_Allocation):
            continue
        if block.alloc_size > 0:
            alive.add(block.ptr)
        elif block.ptr in alive:
            alive.remove(block.ptr)
        else:
            continue
        sizes.append(block.alloc_size)
    return sizes, outcome


def _flat(events: Iterable[_ProfilerEvent]) -> Iterator[_ProfilerEvent]:
    for event in events:
        yield event
        yield from _flat(event.children)


def _peak_cpu(call: Callable[[], HasTensors]) -> tuple[int, HasTensors]:
    sizes, outcome = _allocations(call)
    return max(accumulate(sizes, initial=0)), outcome


def _peak_cuda(call: Callable[[], HasTensors]) -> tuple[int, HasTensors]:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    outcome = call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before, outcome
