"""A pytest plugin: CPU tensors run on the CUDA kernels' bodies instead of on the CPU's kernels."""

import ctypes
import os
import subprocess
from pathlib import Path

import filelock
import torch

from snnkernels import _build
from snnkernels._backends import headers

from ..conftest import compiler

LIBRARY = Path(os.environ["SNNKERNELS_SHIM"])


def pytest_configure() -> None:
    torch.ops.load_library(LIBRARY)
    headers.CHUNK["cpu"] = headers.CHUNK["cuda"]
    _build.load = lambda device_type: _build.LoadedLibrary(LIBRARY, "jit", 0.0)
    _build.compiled_neuron_path = lambda device_type, neuron: compile_neuron(neuron)


def compile_neuron(neuron: _build.NeuronSource) -> Path:
    """The CUDA kernels of a compiled neuron, for the host and under the sanitizers, made once."""
    folder = LIBRARY.parent / f"{LIBRARY.stem}-{neuron.name}"
    library = folder / "neuron.so"
    with filelock.FileLock(f"{folder}.lock"):
        if not library.exists():
            folder.mkdir(exist_ok=True)
            _compile(neuron.files("cuda"), folder, library)
    return library


def _compile(files: dict[str, str], folder: Path, library: Path) -> None:
    (folder / "neuron.h").write_text(files["neuron.h"])
    source = folder / "neuron.cpp"
    source.write_text(files["neuron.cu"].replace("cuda/compiled_scan.cuh", "compiled_neuron.h"))
    partial = library.with_suffix(".partial")
    quickly = ("-O0", "-shared", str(source), "-o", str(partial))
    subprocess.run([*compiler(), *quickly], check=True, timeout=600)
    partial.replace(library)


def set_multiprocessors(count: int) -> None:
    """Of the GPU that kernels are planned for: 0 if it is to have lanes enough at any size."""
    ctypes.CDLL(str(LIBRARY)).shim_set_multiprocessors(count)


def multiprocessors() -> int:
    """Of the GPU that kernels are planned for."""
    return ctypes.CDLL(str(LIBRARY)).shim_multiprocessors()


def is_plain() -> bool:
    """Whether the latest kernel was of a plain call (``cuda/grid.h``)."""
    return bool(ctypes.CDLL(str(LIBRARY)).shim_plain() & 1)


def last_grid() -> tuple[int, int, int]:
    """Lanes to a thread, threads and blocks of the latest kernel."""
    library = ctypes.CDLL(str(LIBRARY))
    return library.shim_width(), library.shim_threads(), library.shim_blocks()
