"""Calls as the kernels take them: the structs of ``csrc/include``, and the grid of a launch.

The NumPy dtypes here have the layout of the structs of ``scan.h`` and ``spikes.h``, field by field
(a test compares every offset with the compiler's); the planning is that of ``cuda/grid.h``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import headers
from ..operators import WORD_BITS
from .programs import Direction

_LIMITS = headers.limits()
FORWARD_BYTES, BACKWARD_BYTES, FEW_LANES, SUMS_LANES, THREADS, WARP = (
    headers.LAUNCH[f"SNN_CUDA_{name}"]
    for name in ("FORWARD_BYTES", "BACKWARD_BYTES", "FEW_LANES", "SUMS_LANES", "THREADS", "WARP")
)
MAX_SURROGATE_PARAMS = _LIMITS["kMaxSurrogateParams"]
_ENCODE_STEPS = headers.LAUNCH["SNN_CUDA_ENCODE_STEPS"]

POINTER, INT64, INT32, UINT16, BOOL = np.uintp, np.int64, np.int32, np.uint16, np.bool_
Field = tuple[str, Any] | tuple[str, Any, tuple[int, ...]]


def _struct(*fields: Field) -> np.dtype[np.void]:
    return np.dtype(list(fields), align=True)


OPTIONS = _struct(("detach_reset", BOOL), ("decay_input", BOOL), ("inverse_is_exact", BOOL))
FORMAT = _struct(("size", INT32), ("one", np.uint64))
ENCODE = _struct(
    ("element", INT32),
    ("format", FORMAT),
    ("steps", INT64),
    ("lanes", INT64),
    ("x", POINTER),
    ("x_stride", INT64),
    ("keys", POINTER),
    ("spikes", POINTER),
)
PACK = _struct(
    ("format", FORMAT),
    ("count", INT64),
    ("x", POINTER),
    ("words", POINTER),
    ("foreign", POINTER),
)
UNPACK = _struct(("format", FORMAT), ("count", INT64), ("words", POINTER), ("x", POINTER))


def _scan(real: npt.DTypeLike) -> list[Field]:
    parameter = _struct(("value", real), ("table", POINTER), ("size", INT64), ("inner", INT64))
    return [
        ("neuron", INT32),
        ("compiled", POINTER),
        ("element", INT32),
        ("hard_reset", BOOL),
        ("options", OPTIONS),
        ("tables", UINT16),
        ("spiking", BOOL),
        ("surrogate", INT32),
        ("surrogate_params", real, (_LIMITS["kMaxSurrogateParams"],)),
        ("steps", INT64),
        ("lanes", INT64),
        ("x", POINTER),
        ("x_stride", INT64),
        ("states", POINTER),
        ("initial", real, (_LIMITS["kMaxStates"],)),
        ("params", parameter, (_LIMITS["kMaxParams"],)),
    ]


@cache
def forward(real: npt.DTypeLike) -> np.dtype[np.void]:
    """``Forward<T>`` with T as float32 or float64."""
    return _struct(
        *_scan(real),
        ("spikes", POINTER),
        ("v_seq", POINTER),
        ("final_states", POINTER),
        ("checkpoints", POINTER),
    )


@cache
def backward(real: npt.DTypeLike) -> np.dtype[np.void]:
    """``Backward<T>`` with T as float32 or float64."""
    return _struct(
        *_scan(real),
        ("checkpoints", POINTER),
        ("grad_spikes", POINTER),
        ("grad_spikes_stride", INT64),
        ("grad_v_seq", POINTER),
        ("grad_v_seq_stride", INT64),
        ("grad_states", POINTER),
        ("grad_x", POINTER),
        ("grad_initial", POINTER),
        ("grad_params", POINTER, (_LIMITS["kMaxParams"],)),
    )


class Grid(NamedTuple):
    """Lanes to a thread, whether the call is plain (``grid.h``), threads to a block, blocks."""

    width: int
    plain: bool
    threads: int
    blocks: int


class Rows(NamedTuple):
    """A sequence in memory: its address, the elements from row to row, and an element's bytes."""

    address: int
    stride: int
    bytes: int

    def allows(self, width: int, count: int) -> bool:
        """Whether each of ``count`` rows begins where a vector may. Null does: nobody reads it."""
        return self.address % (width * self.bytes) == 0 and (count <= 1 or self.stride % width == 0)


def full_width(direction: Direction, element_bytes: int, sums: bool) -> int:
    """The lanes to a thread where there are many and the layout allows it.

    ``sums``: whether each has sums of its parameters' gradients to keep in registers, backward.
    """
    if direction == "forward":
        return FORWARD_BYTES // element_bytes
    width = BACKWARD_BYTES // element_bytes
    return min(width, SUMS_LANES) if sums else width


def scan_grid(
    row_count: int,
    lanes: int,
    width: int,
    plain: bool,
    rows: Sequence[Rows],
    multiprocessors: int,
) -> Grid:
    """Lay a scan out on a GPU.

    Args:
        row_count: the rows of the longest sequence, O T.
        lanes: L.
        width: the lanes to a thread where there are many and the layout allows it.
        plain: as in ``Grid``.
        rows: all that the kernel reads and writes.
        multiprocessors: how many the GPU has.
    """
    many = lanes >= FEW_LANES * multiprocessors
    fits = lanes % width == 0 and all(r.allows(width, row_count) for r in rows)
    width = width if many and fits else 1
    workers = _ceil(lanes, width)
    threads = THREADS
    while threads > WARP and workers <= threads // 2 * multiprocessors:
        threads //= 2
    return Grid(width, plain, threads, _ceil(workers, threads))


def is_plain(steps: int, lanes: int, outputs: int, rows: Sequence[Rows]) -> bool:
    """Whether sequences are dense, and 32 bits hold the offsets in all of ``outputs``."""
    dense = steps <= 1 or all(r.stride == lanes for r in rows)
    count = outputs * steps
    return dense and 0 < count < 2**30 and count * lanes <= (2**32 - 1) // rows[0].bytes


def encode_grid(steps: int, lanes: int) -> Grid:
    """Lay out drawing [T, L] spikes: a thread draws four lanes of some steps."""
    return _spikes(_ceil(lanes, 4) * _ceil(steps, _ENCODE_STEPS))


def pack_grid(count: int) -> Grid:
    """Lay out packing: a thread packs one word."""
    return _spikes(_ceil(count, WORD_BITS))


def unpack_grid(count: int) -> Grid:
    """Lay out unpacking: a thread unpacks four elements."""
    return _spikes(_ceil(count, 4))


def _spikes(threads: int) -> Grid:
    return Grid(1, False, THREADS, _ceil(threads, THREADS))


def _ceil(count: int, by: int) -> int:
    return -(-count // by)
