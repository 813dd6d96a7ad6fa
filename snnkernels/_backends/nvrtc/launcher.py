"""Kernels on a GPU, through CuPy."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from . import toolkit
from .loading import machine_code
from .programs import Program
from .structs import Grid

_kernels: dict[tuple[Program, int], Any] = {}


def launch(
    program: Program, call: np.ndarray[Any, np.dtype[np.void]], grid: Grid, device: int
) -> None:
    """Put a call's kernel on PyTorch's current stream of a device; compile it if need be.

    Raises:
        RuntimeError: it is not loaded yet, and a CUDA graph is being captured.
        snnkernels.BuildError: it can't be compiled.
    """
    from cupy import cuda

    with cuda.Device(device):
        kernel = _kernels.get((program, device))
        if kernel is None:
            kernel = _kernels[program, device] = _load(program, device)
        stream = cuda.Stream.from_external(torch.cuda.current_stream(device))
        # CuPy passes an array by value, as the struct that it holds.
        kernel((grid.blocks,), (grid.threads,), (call,), stream=stream)


def _load(program: Program, device: int) -> Any:
    from cupy.cuda import function

    toolkit.require()
    compiled = machine_code(program, device)
    module = function.Module()
    module.load(compiled.cubin)
    return module.get_function(compiled.symbol)


@cache
def multiprocessors(device: int) -> int:
    """How many multiprocessors a GPU has."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
