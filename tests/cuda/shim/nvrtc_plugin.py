"""A pytest plugin: CPU tensors run on the CUDA kernels' bodies under the cupy backend's host code.

What that host code fills in and plans is checked against ``cuda/grid.h`` at every launch.
"""

import ctypes
from functools import cache
from typing import Any

import numpy as np
import torch

from snnkernels._backends import headers, operators, selection
from snnkernels._backends.nvrtc import Cupy, launcher
from snnkernels._backends.nvrtc.programs import Program
from snnkernels._backends.nvrtc.structs import Grid
from snnkernels._build import NeuronSource
from snnkernels._build.specification import DeviceType

from .plugin import LIBRARY, compile_neuron, multiprocessors


class OnCpu(Cupy):
    """The cupy backend for CPU tensors, without the operators that are for CPUs alone."""

    devices = ("cpu",)

    def load(self, device_type: DeviceType) -> str:
        self.define("CPU")
        return "the kernels' bodies"


def pytest_configure() -> None:
    torch.ops.load_library(LIBRARY)
    operators.register("snnkernels")
    headers.CHUNK["cpu"] = headers.CHUNK["cuda"]
    launcher.launch = launch
    launcher.multiprocessors = lambda device: multiprocessors()
    selection.BACKENDS["native"] = selection.BACKENDS["cupy"] = OnCpu()
    selection.resolve("native", "cpu")


def launch(program: Program, call: np.ndarray[Any, Any], grid: Grid, device: int) -> None:
    shim = ctypes.CDLL(str(LIBRARY))
    memory = ctypes.c_void_p(call.ctypes.data)
    blocks = ctypes.c_longlong(grid.blocks)
    name = program.kernel.removeprefix("snn::cuda::").split("<")[0]
    if program.source == "spikes.cu":
        run = getattr(shim, f"shim_{name.removesuffix('_kernel')}")
        planned = run(memory, blocks)
    else:
        if program.neuron:
            call["compiled"] = compiled(program.neuron)
        wide = program.kernel.endswith("double>")
        backward = "backward" in name
        planned = shim.shim_scan(
            backward, wide, memory, grid.width, grid.plain, grid.threads, blocks
        )
    assert planned & 1, f"{program.kernel}: planned otherwise than {grid}"


@cache
def compiled(neuron: NeuronSource) -> int:
    library = ctypes.CDLL(str(compile_neuron(neuron)))
    library.snn_compiled_neuron.restype = ctypes.c_void_p
    return int(library.snn_compiled_neuron())
