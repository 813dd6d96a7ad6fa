"""A pytest plugin: CPU tensors run on the CUDA kernels' bodies under the cupy backend's host code.

What that host code fills in and plans is checked against ``cuda/grid.h`` at every launch.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import torch

from snnkernels import backend, ops, registry
from snnkernels.build import Printed
from snnkernels.rtc import launcher, operators
from snnkernels.rtc.calls import Grid
from snnkernels.rtc.programs import Program

from .plugin import LIBRARY, compile_unit, multiprocessors


def pytest_configure() -> None:
    torch.ops.load_library(LIBRARY)
    ops.register("native")
    operators.define("CPU")
    registry.CHUNK["cpu"] = registry.CHUNK["cuda"]
    launcher.launch = launch
    launcher.multiprocessors = lambda device: multiprocessors()
    backend.name_for = lambda name, device_type: "torch" if name == "torch" else "cupy"


def launch(program: Program, call: np.ndarray[Any, Any], grid: Grid, device: int) -> None:
    shim = ctypes.CDLL(str(LIBRARY))
    memory = ctypes.c_void_p(call.ctypes.data)
    blocks = ctypes.c_longlong(grid.blocks)
    name = program.kernel.removeprefix("snn::cuda::").split("<")[0]
    if program.source == "spikes.cu":
        run = getattr(shim, f"shim_{name.removesuffix('_kernel')}")
        planned = run(memory, blocks)
    else:
        if program.printed:
            call["unit"] = unit(program.printed)
        wide = program.kernel.endswith("double>")
        backward = "backward" in name
        planned = shim.shim_scan(backward, wide, memory, grid.width, grid.threads, blocks)
    assert planned & 1, f"{program.kernel}: planned otherwise than {grid}"


@cache
def unit(printed: Printed) -> int:
    library = ctypes.CDLL(str(compile_unit(printed)))
    library.snn_unit.restype = ctypes.c_void_p
    return int(library.snn_unit())
