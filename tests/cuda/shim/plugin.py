"""A pytest plugin: CPU tensors run on the CUDA kernels' bodies instead of on the CPU's kernels."""

import ctypes
import os
from pathlib import Path

import torch

from snnkernels import build, registry

LIBRARY = Path(os.environ["SNNKERNELS_SHIM"])


def pytest_configure() -> None:
    torch.ops.load_library(LIBRARY)
    registry.CHUNK["cpu"] = registry.CHUNK["cuda"]
    build.load = lambda device_type: build.LoadedLibrary(LIBRARY, "jit", 0.0)


def last_grid() -> tuple[int, int, int]:
    """Lanes to a thread, threads and blocks of the latest kernel."""
    library = ctypes.CDLL(str(LIBRARY))
    return library.shim_width(), library.shim_threads(), library.shim_blocks()
