"""Kernels by NVRTC for the native library: it asks for each when a call first needs it."""

from __future__ import annotations

import ctypes
from typing import Any

import torch

from ..._build import NeuronSource
from ..._build.locks import lock_of_process
from . import programs, toolkit
from .programs import Direction, Program

_Pointer = ctypes.c_void_p
_Find = ctypes.CFUNCTYPE(
    None,
    *(ctypes.c_int, ctypes.c_bool, ctypes.c_int, ctypes.c_int, ctypes.c_bool, ctypes.c_int),
    *(ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_char), ctypes.c_int),
)
"""``FindKernel`` of ``csrc/cuda/loaded_neuron.h``."""


class _Sizes(ctypes.Structure):
    """``NeuronSizes`` of ``csrc/include/snnkernels/scan.h``."""

    _fields_ = [
        *((name, ctypes.c_int) for name in ("states", "params", "outputs")),
        *((name, ctypes.c_uint) for name in ("tables", "shared")),
    ]


_neurons: list[NeuronSource] = []
_kernels: dict[tuple[Program, int], int] = {}
_lock = lock_of_process()


def add(library: ctypes.CDLL, neuron: NeuronSource) -> None:
    """Let a loaded library of CUDA kernels know a neuron by its name's number.

    Raises:
        snnkernels.BuildError: there is no NVRTC that compiles for the GPUs here.
    """
    nvrtc = toolkit.find_nvrtc(toolkit.cuda_major())
    for device in range(torch.cuda.device_count()):
        programs.check_capability(nvrtc, torch.cuda.get_device_capability(device))
    sizes = _Sizes(neuron.states, neuron.params, neuron.outputs, neuron.tables, neuron.shared)
    register = library.snn_add_loaded_neuron
    register.argtypes = (ctypes.c_char_p, ctypes.POINTER(_Sizes), ctypes.c_int, _Find, _Pointer)
    register.restype = None
    with _lock:
        _neurons.append(neuron)
        number = len(_neurons) - 1
    register(neuron.name.encode(), sizes, number, _find, _launch_function())


def _launch_function() -> int | None:
    return ctypes.cast(ctypes.CDLL("libcuda.so.1").cuLaunchKernel, _Pointer).value


@_Find
def _find(
    number: int,
    backward: bool,
    element: int,
    width: int,
    plain: bool,
    device: int,
    kernel: Any,
    why: Any,
    why_size: int,
) -> None:
    try:
        direction: Direction = "backward" if backward else "forward"
        program = programs.scan_program(_neurons[number], direction, element, width, plain)
        kernel[0] = _kernel(program, device)
    except BaseException as error:  # none may leave a function that C++ called
        text = str(error) or type(error).__name__
        cut = text.encode(errors="replace")[: why_size - 1].decode(errors="ignore").encode()
        ctypes.memmove(why, cut + b"\0", len(cut) + 1)


def _kernel(program: Program, device: int) -> int:
    with _lock:
        found = _kernels.get((program, device))
        if found is None:
            found = _kernels[program, device] = load(program, device)
        return found


def load(program: Program, device: int) -> int:
    """A kernel's handle for the driver."""
    return toolkit.load_kernel(machine_code(program, device))


def machine_code(program: Program, device: int) -> toolkit.Compiled:
    """What is to be loaded on a device, compiled if it is not in the cache.

    Raises:
        RuntimeError: a CUDA graph is being captured, which loading would end.
        snnkernels.BuildError: it cannot be compiled.
    """
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError(
            f"the kernel {program.title} is not loaded yet, and cannot be while a CUDA graph is "
            "captured: call the network once before, as for any graph"
        )
    nvrtc = toolkit.find_nvrtc(toolkit.cuda_major())
    return programs.ensure(program, nvrtc, torch.cuda.get_device_capability(device))
