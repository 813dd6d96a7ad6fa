"""The memory that the CPU kernels keep for their next outputs.

A fresh page of memory costs a fault and its clearing, for a large output more than the neurons'
arithmetic. So blocks of 128 KiB and more, once freed, are kept and handed out again, as torch does
on GPUs: no more than were ever in use at once, and at most an eighth of the memory of the machine
or container. What lay idle longest goes first.

Tensors in such blocks cannot be resized to more elements; ``limit_cache(0)`` leaves all to torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import _build
from ._core import checks

__all__ = ["cached_bytes", "empty_cache", "limit_cache", "without_cache"]

_MOST = 2**63 - 1


def limit_cache(limit: int) -> int:
    """Keep at most ``limit`` bytes of freed outputs; 0 keeps none and leaves all to torch.

    Returns:
        The limit until now, in bytes.

    Raises:
        TypeError: if ``limit`` is not an integer.
        ValueError: if it is negative.
        snnkernels.BuildError: if there are no kernels to keep anything.
    """
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise TypeError(f"limit must be an integer number of bytes, got {checks.describe(limit)}")
    if limit < 0:
        raise ValueError(f"limit must be >= 0 bytes, got {limit}")
    _build.load("cpu")
    return int(torch.ops.snnkernels.limit_cpu_cache(min(limit, _MOST)))


def cached_bytes() -> int:
    """Bytes that are kept at the moment, beside what tensors use."""
    return int(torch.ops.snnkernels.cpu_cache_bytes()) if _is_loaded() else 0


def empty_cache() -> None:
    """Give everything that is kept back to the system."""
    if _is_loaded():
        torch.ops.snnkernels.empty_cpu_cache()


@contextmanager
def without_cache() -> Iterator[None]:
    """Keep nothing for a while, so that torch's allocator makes, and its profiler sees, all."""
    loaded = _is_loaded()
    if loaded:
        torch.ops.snnkernels.suspend_cpu_cache(True)
    try:
        yield
    finally:
        if loaded:
            torch.ops.snnkernels.suspend_cpu_cache(False)


def _is_loaded() -> bool:
    return hasattr(torch.ops.snnkernels, "cpu_cache_bytes")
