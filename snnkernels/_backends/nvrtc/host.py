"""The operators of ``csrc/schemas.h`` on CUDA tensors, in a namespace of their own.

They check and allocate as ``csrc/call.h`` and ``csrc/spikes_call.h`` do, and launch kernels that
NVRTC compiled.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._build.specification import NeuronSource
from ..._core.checks import compute_dtype
from ..._core.lanes import is_dense
from .. import headers, operators
from ..operators import Attributes
from . import launcher, structs
from .programs import ELEMENTS, Direction, Program, scan_program
from .structs import Rows

ELEMENT_NUMBERS = {torch.float64: 0, torch.float32: 1, torch.float16: 2, torch.bfloat16: 3}
"""The number of an element in ``scan.h``."""

_ONES = {
    torch.float64: (8, 0x3FF0000000000000),
    torch.float32: (4, 0x3F800000),
    torch.float16: (2, 0x3C00),
    torch.bfloat16: (2, 0x3F80),
    torch.bool: (1, 1),
}
"""What a spike is in memory: an element's bytes, and the bits of a one."""
_UNSIGNED = {1: "unsigned char", 2: "unsigned short", 4: "unsigned", 8: "snn::uint64"}

_Struct = Callable[[Any], Any]
"""``structs.forward`` or ``structs.backward``."""

_REALS = {torch.float64: np.float64, torch.float32: np.float32}


@dataclass(frozen=True)
class _KnownNeuron:
    """A neuron that kernels can be had for; a compiled one has no place in ``registry.h``."""

    name: str
    states: int
    params: int
    place: int = 0
    compiled: NeuronSource | None = None

    @property
    def outputs(self) -> int:
        return self.compiled.outputs if self.compiled else 1


def _built_in() -> dict[int, _KnownNeuron]:
    return {
        headers.NUMBERS[name]: _KnownNeuron(name, len(states), len(params) + 2, place)
        for place, (name, (states, params)) in enumerate(headers.neurons().items())
    }


_neurons = _built_in()
_surrogates = {headers.NUMBERS[name]: place for place, name in enumerate(headers.surrogates())}


def add_compiled_neuron(compiled: NeuronSource) -> None:
    """Let the operators know a neuron that is compiled by itself, by its name's number."""
    known = _KnownNeuron(compiled.name, compiled.states, compiled.params, compiled=compiled)
    _neurons[headers.number(compiled.name)] = known


def define(namespace: str, dispatch_key: str) -> torch.library.Library:
    """Define the operators, implemented for a dispatch key, for as long as the result lives."""
    library = torch.library.Library(namespace, "DEF")
    schemas = headers.schemas()
    for implementation in (scan_forward, scan_backward, poisson_encode, pack_spikes, unpack_spikes):
        name = implementation.__name__
        library.define(schemas[name])
        library.impl(name, implementation, dispatch_key)
    return library


def scan_forward(
    x: Tensor, states: Tensor | None, tables: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``scan_forward`` of ``csrc/schemas.h``."""
    *attributes, store_v, keep = rest
    a = Attributes(*attributes)
    call = _begin(structs.forward, x, states, tables, a)
    steps, *step = x.shape
    lanes = prod(step)
    wide = compute_dtype(x.dtype)
    spikes = x.new_empty(a.outputs * steps, *step)
    v_seq = x.new_empty(steps if store_v else 0, *step)
    final_states = x.new_empty(operators.states_shape(a.state_count, step), dtype=wide)
    saved = operators.checkpoint_count(steps, a.chunk) if keep else 0
    checkpoints = x.new_empty(saved * a.state_count * lanes, dtype=wide)
    call["spikes"], call["v_seq"] = spikes.data_ptr(), v_seq.data_ptr() if store_v else 0
    call["final_states"] = final_states.data_ptr()
    call["checkpoints"] = checkpoints.data_ptr() if saved else 0
    arrays = states, final_states, checkpoints
    _launch("forward", a, call, (x, spikes), v_seq if store_v else None, arrays)
    return spikes, v_seq, final_states, checkpoints


def scan_backward(
    x: Tensor,
    states: Tensor | None,
    tables: Tensor | None,
    checkpoints: Tensor,
    grad_spikes: Tensor | None,
    grad_v_seq: Tensor | None,
    grad_states: Tensor | None,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """``scan_backward`` of ``csrc/schemas.h``."""
    *attributes, table_grads = rest
    a = Attributes(*attributes)
    call = _begin(structs.backward, x, states, tables, a)
    steps, *step = x.shape
    lanes = prod(step)
    wide = compute_dtype(x.dtype)
    shape = operators.states_shape(a.state_count, step)
    saved = operators.checkpoint_count(steps, a.chunk)
    _check_array("checkpoints", checkpoints, x, (saved * a.state_count * lanes,))
    if grad_spikes is not None:
        _check_sequence("grad_spikes", grad_spikes, x, a.outputs)
        call["grad_spikes"], call["grad_spikes_stride"] = (
            grad_spikes.data_ptr(),
            grad_spikes.stride(0),
        )
    if grad_v_seq is not None:
        _check_sequence("grad_v_seq", grad_v_seq, x)
        call["grad_v_seq"], call["grad_v_seq_stride"] = grad_v_seq.data_ptr(), grad_v_seq.stride(0)
    if grad_states is not None:
        _check_array("grad_states", grad_states, x, shape)
        call["grad_states"] = grad_states.data_ptr()
    grad_x = x.new_empty(x.shape)
    grad_initial = x.new_empty(0 if states is None else shape, dtype=wide)
    grad_params = x.new_empty(len(a.table_layouts) if table_grads else 0, lanes, dtype=wide)
    call["checkpoints"] = checkpoints.data_ptr()
    call["grad_x"] = grad_x.data_ptr()
    call["grad_initial"] = 0 if states is None else grad_initial.data_ptr()
    if table_grads:
        for (i, _, _), sums in zip(a.table_layouts, grad_params, strict=True):
            call["grad_params"][i] = sums.data_ptr()
    arrays = states, checkpoints, grad_states, grad_initial, *grad_params
    _launch("backward", a, call, (x, grad_spikes, grad_x), grad_v_seq, arrays)
    return grad_x, grad_initial, grad_params


def _begin(
    struct_of: _Struct, x: Tensor, states: Tensor | None, tables: Tensor | None, a: Attributes
) -> Any:
    """Check what all scans have, and fill the struct's common part."""
    _expect(x.dtype in ELEMENT_NUMBERS, "x", "float64, float32, float16 or bfloat16", x.dtype)
    _check_sequence("x", x, x)
    numbers = struct.pack(f"{len(a.numbers)}d", *a.numbers)
    rest = a._replace(numbers=(), layout=tuple(a.layout))
    call = _prepared(struct_of, x.dtype, tables is not None, rest, numbers).copy()
    if states is not None:
        _check_array("states", states, x, operators.states_shape(a.state_count, x.shape[1:]))
    call["steps"], call["lanes"] = x.shape[0], prod(x.shape[1:])
    call["x"], call["x_stride"] = x.data_ptr(), x.stride(0)
    call["states"] = 0 if states is None else states.data_ptr()
    if tables is not None:
        _fill_tables(call, x, tables, a)
    return call


@lru_cache(maxsize=1024)
def _prepared(
    struct_of: _Struct, dtype: torch.dtype, tables: bool, a: Attributes, packed: bytes
) -> Any:
    """The struct as far as the attributes decide, checked; numbers come packed, for 0.0 == -0.0.

    It takes longer to fill than the kernel of a small layer to run, hence it is remembered.
    """
    _expect(a.neuron in _neurons, "neuron", "the number of a kernel's name", a.neuron)
    neuron = _neurons[a.neuron]
    chunk = headers.CHUNK["cuda"]
    _expect(a.chunk == chunk, "chunk", chunk, a.chunk)
    _expect(a.outputs == neuron.outputs, "outputs", neuron.outputs, a.outputs)
    _expect(a.state_count == neuron.states, "state_count", neuron.states, a.state_count)
    _expect(a.param_count == neuron.params, "param_count", neuron.params, a.param_count)
    known = neuron.compiled is not None or a.surrogate in _surrogates
    _expect(known, "surrogate", "the number of a kernel's name", a.surrogate)
    numbers = struct.unpack(f"{len(packed) // struct.calcsize('d')}d", packed)
    own = a.state_count + a.param_count
    most = own + structs.MAX_SURROGATE_PARAMS
    fits = own <= len(numbers) <= most
    _expect(fits, "numbers", f"{own} and the surrogate's, at most {most}", len(numbers))
    entries = 2 * a.param_count if tables or a.layout else 0
    _expect(len(a.layout) == entries, "layout", f"{entries} entries", len(a.layout))
    mask = sum(1 << i for i, _, _ in a.table_layouts)
    _expect(tables or not mask, "tables", "a tensor where layout has a size", None)
    fits = neuron.compiled is None or neuron.compiled.tables | neuron.compiled.shared == mask
    sizes = a.layout[: a.param_count] or [0] * a.param_count
    _expect(fits, "layout", "the tables that it was compiled for", sizes)
    shared = 0 if neuron.compiled is None else neuron.compiled.shared
    fits = all(size == 1 for i, size, _ in a.table_layouts if shared >> i & 1)
    _expect(fits, "layout", "tables of one value where it was compiled for such", sizes)
    call: Any = np.zeros((), struct_of(_REALS[compute_dtype(dtype)]))
    call["neuron"], call["element"] = neuron.place, ELEMENT_NUMBERS[dtype]
    call["hard_reset"], call["spiking"] = a.hard_reset, a.spiking
    call["surrogate"] = _surrogates.get(a.surrogate, 0)
    call["surrogate_params"][: len(numbers) - own] = numbers[own:]
    call["initial"][: a.state_count] = numbers[: a.state_count]
    call["tables"] = mask
    params = call["params"]
    params["value"][: a.param_count] = numbers[a.state_count : own]
    params["size"][: a.param_count] = params["inner"][: a.param_count] = 1
    options = call["options"]
    options["detach_reset"], options["decay_input"] = a.detach_reset, a.decay_input
    options["inverse_is_exact"] = not mask & 1 and _has_exact_inverse(params["value"][0])
    return call


def _fill_tables(call: Any, x: Tensor, tables: Tensor, a: Attributes) -> None:
    lanes, offset = prod(x.shape[1:]), 0
    for i, size, inner in a.table_layouts:
        fits = size > 0 and inner > 0 and lanes % (size * inner) == 0
        _expect(fits, "layout", "a product that divides the lanes", (size, inner))
        address = tables.data_ptr() + offset * tables.element_size()
        call["params"][i] = 0, address, size, inner
        offset += size
    _check_array("tables", tables, x, (offset,))


def _has_exact_inverse(value: np.floating[Any]) -> bool:
    """Powers of two have one, as long as it is a normal number."""
    if math.frexp(value)[0] != 0.5:
        return False
    normal = np.finfo(value.dtype)
    return bool(float(normal.tiny) <= 1.0 / float(value) <= float(normal.max))


def _launch(
    direction: Direction,
    a: Attributes,
    call: Any,
    sequences: Sequence[Tensor | None],
    potentials: Tensor | None,
    arrays: Sequence[Tensor | None],
) -> None:
    """Plan a scan's grid and run its kernel, unless there is no lane; x is the first sequence."""
    x = sequences[0]
    assert x is not None
    steps, lanes = x.shape[0], prod(x.shape[1:])
    if lanes == 0:
        return
    device = x.device.index or 0
    rows = [Rows(t.data_ptr(), t.stride(0), t.element_size()) for t in sequences if t is not None]
    plain = potentials is None and None not in sequences
    plain = plain and structs.is_plain(steps, lanes, a.outputs, rows)
    if potentials is not None:
        rows.append(Rows(potentials.data_ptr(), potentials.stride(0), potentials.element_size()))
    rows += [Rows(t.data_ptr(), 0, t.element_size()) for t in arrays if t is not None]
    neuron = _neurons[a.neuron]
    tables = bool(neuron.compiled.tables if neuron.compiled else call["tables"])
    width = structs.full_width(direction, x.element_size(), tables) if a.spiking else 1
    count = a.outputs * steps
    grid = structs.scan_grid(count, lanes, width, plain, rows, launcher.multiprocessors(device))
    _check_blocks(grid.blocks)
    if neuron.compiled is None:
        program = built_in_program(
            direction, neuron.name, a.hard_reset, x.dtype, grid.width, tables
        )
    else:
        element = ELEMENT_NUMBERS[x.dtype]
        program = scan_program(neuron.compiled, direction, element, grid.width, grid.plain)
    launcher.launch(program, call, grid, device)


@cache
def built_in_program(
    direction: Direction,
    name: str,
    hard_reset: bool,
    dtype: torch.dtype,
    width: int,
    tables: bool,
) -> Program:
    """The kernel of a neuron of ``registry.h``, for any surrogate there and any options.

    Args:
        direction: of the scan.
        name: the neuron's.
        hard_reset: whether the neuron is set to v_reset when it fires.
        dtype: that of x.
        width: the lanes to a thread.
        tables: whether any parameter is one.
    """
    element, real = ELEMENTS[ELEMENT_NUMBERS[dtype]]
    reset = "HardReset" if hard_reset else "SoftReset"
    mask = "snn::kAllTables" if tables or direction == "forward" else "0u"
    traits = f"snn::ScanTraits<snn::{name}<snn::{reset}>, snn::Switched, {mask}>"
    kernel = f"snn::cuda::{direction}_kernel<{traits}, {element}, {width}, false, {real}>"
    return Program("scan.cu", kernel)


def poisson_encode(x: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """``poisson_encode`` of ``csrc/schemas.h``."""
    _expect(x.dtype in ELEMENT_NUMBERS, "x", "float64, float32, float16 or bfloat16", x.dtype)
    _check_sequence("x", x, x)
    steps, lanes = x.shape[0], prod(x.shape[1:])
    _check_vector("keys", keys, steps, torch.int64)
    _expect(keys.device == x.device, "keys", "the device of x", keys.device)
    call = np.zeros((), structs.ENCODE)
    size = _fill_format(call, dtype)
    spikes = x.new_empty(x.shape, dtype=dtype)
    call["element"] = ELEMENT_NUMBERS[x.dtype]
    call["steps"], call["lanes"] = steps, lanes
    call["x"], call["x_stride"] = x.data_ptr(), x.stride(0)
    call["keys"], call["spikes"] = keys.data_ptr(), spikes.data_ptr()
    kernel = f"encode_kernel<{_UNSIGNED[size]}>"
    _launch_spikes(kernel, call, structs.encode_grid(steps, lanes), x)
    return spikes


def pack_spikes(x: Tensor) -> tuple[Tensor, Tensor]:
    """``pack_spikes`` of ``csrc/schemas.h``."""
    _check_vector("x", x, x.numel(), x.dtype)
    call = np.zeros((), structs.PACK)
    size = _fill_format(call, x.dtype)
    words = x.new_empty(-(-x.numel() // operators.WORD_BITS), dtype=torch.int32)
    foreign = x.new_zeros(1, dtype=torch.bool)
    call["count"], call["x"] = x.numel(), x.data_ptr()
    call["words"], call["foreign"] = words.data_ptr(), foreign.data_ptr()
    width = 16 // size if x.data_ptr() % 16 == 0 else 1
    kernel = f"pack_kernel<{_UNSIGNED[size]}, {width}>"
    _launch_spikes(kernel, call, structs.pack_grid(x.numel()), x)
    return words, foreign


def unpack_spikes(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """``unpack_spikes`` of ``csrc/schemas.h``."""
    _check_vector("words", words, -(-count // operators.WORD_BITS), torch.int32)
    call = np.zeros((), structs.UNPACK)
    size = _fill_format(call, dtype)
    x = words.new_empty(count, dtype=dtype)
    call["count"], call["words"], call["x"] = count, words.data_ptr(), x.data_ptr()
    kernel = f"unpack_kernel<{_UNSIGNED[size]}>"
    _launch_spikes(kernel, call, structs.unpack_grid(count), words)
    return x


def _fill_format(call: Any, dtype: torch.dtype) -> int:
    """Say what a spike is in memory; return its bytes."""
    _expect(dtype in _ONES, "dtype", "float64, float32, float16, bfloat16 or bool", dtype)
    call["format"]["size"], call["format"]["one"] = _ONES[dtype]
    return _ONES[dtype][0]


def _launch_spikes(kernel: str, call: Any, grid: structs.Grid, like: Tensor) -> None:
    if grid.blocks == 0:
        return
    _check_blocks(grid.blocks)
    program = Program("spikes.cu", f"snn::cuda::{kernel}")
    launcher.launch(program, call, grid, like.device.index or 0)


def _expect(holds: bool, name: str, expected: object, got: object) -> None:
    if not holds:
        got = tuple(got) if isinstance(got, torch.Size) else got
        raise ValueError(f"{name}: expected {expected}, got {got}")


def _check_blocks(blocks: int) -> None:
    _expect(blocks < 2**31, "x", f"fewer elements than {blocks} blocks hold", "more")


# [T, ...], each step dense, like x; [O T, ...] if there are several of them.
def _check_sequence(name: str, sequence: Tensor, x: Tensor, count: int = 1) -> None:
    _expect(sequence.dim() >= 2, name, "[T, ...]", sequence.shape)
    shape = count * x.shape[0], *x.shape[1:]
    _expect(sequence.shape == shape, name, shape, sequence.shape)
    dense = sequence.numel() == 0 or is_dense(shape[1:], sequence.stride()[1:])
    _expect(dense, name, "steps whose elements lie side by side", sequence.stride())
    _expect(sequence.dtype == x.dtype, name, "the dtype of x", sequence.dtype)
    _expect(sequence.device == x.device, name, "the device of x", sequence.device)


# A contiguous array of the arithmetic's type with the given shape, where x is.
def _check_array(name: str, array: Tensor, x: Tensor, shape: tuple[int, ...]) -> None:
    wide = compute_dtype(x.dtype)
    _expect(array.device == x.device, name, "the device of x", array.device)
    _expect(array.dtype == wide, name, wide, array.dtype)
    _expect(array.shape == shape, name, shape, array.shape)
    _expect(array.is_contiguous(), name, "a contiguous tensor", array.stride())


def _check_vector(name: str, tensor: Tensor, size: int, dtype: torch.dtype) -> None:
    _expect(tensor.shape == (size,), name, (size,), tensor.shape)
    _expect(tensor.is_contiguous(), name, "a contiguous tensor", tensor.stride())
    _expect(tensor.dtype == dtype, name, dtype, tensor.dtype)
