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


def peak_extra(call: Callable[[], HasTensors], device: str) -> int:
    """Bytes at the peak of one call, which must be warm, beyond what was there and its output."""
    gc.collect()
    peak, outcome = (_peak_cuda if device == "cuda" else _peak_cpu)(call)
    return peak - storage_bytes(outcome.tensors)


def kept(forward: Callable[[], torch.Tensor], device: str) -> int:
    """Bytes that live as long as the output of a forward does, beyond the output itself."""
    gc.collect()
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        output = forward()
        return torch.cuda.memory_allocated() - before - storage_bytes([output])
    sizes, output = _allocations(forward)
    return sum(sizes) - storage_bytes([output])


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the tensors' storages, each storage once."""
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


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
