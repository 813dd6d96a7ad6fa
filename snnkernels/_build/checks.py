"""What must be true of a tool chain, and of what it has built, before anybody relies on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from . import process
from .errors import build_error
from .specification import Specification
from .toolchain import Toolchain, ask

_FUSED = re.compile(r"^\s+(v?fn?m(?:add|sub|l[as])\w*)", re.MULTILINE)
_TRIAL_SECONDS = 300.0

# Run by another Python, which a bad library may end. Torch is imported only where it is needed.
_TRIAL = """
import ctypes, sys
path, symbol = sys.argv[1:]
print("Python", flush=True)
try:
    library = ctypes.CDLL(path)
except OSError:
    import torch
    library = ctypes.CDLL(path)
if symbol and not hasattr(library, symbol):
    sys.exit(f"it has no {symbol}")
if sys.float_info.min / 2 == 0.0:
    sys.exit("it flushes small numbers to zero in the whole process, as fast-math flags make it")
"""


def check_arithmetic(spec: Specification, tools: Toolchain, folder: Path) -> None:
    """Compile a product and a sum with the library's flags, and look for one operation.

    No macro tells of a wrapper or a setting that lets them be one, after our flags said no.

    Raises:
        BuildError: they were compiled into one.
    """
    source = folder / "arithmetic.cpp"
    source.write_text("double f(double x, double y, double z) { return x * y + z; }\n")
    listing, _ = ask((*tools.cxx.command, *spec.cxx_flags, "-S", str(source), "-o", "-"))
    source.unlink()
    fused = _FUSED.search(listing)
    if fused:
        raise build_error(
            "the C++ compiler makes one operation of a product and a sum, though told not to",
            found=f"{fused[1]} by {tools.cxx}",
            expected="x * y + z rounded twice, as PyTorch does",
            remedy="leave -ffp-contract=fast out of what calls it, or set CXX to another",
        )


def check_library(path: Path, spec: Specification, tools: Toolchain, log: Path) -> None:
    """Load what the compilers made into another process.

    Raises:
        BuildError: it does not load, ends the process, or lacks its symbol.
    """
    problem = _why_not_loadable(path, spec, tools)
    if problem:
        raise build_error(
            f"what was built as {spec.kernels} does not load",
            found=f"{problem}; {tools}",
            expected="a shared library that loads, on a disk that may hold programs",
            remedy="set CXX (CUDA_HOME) to a compiler that works, or SNNKERNELS_CACHE_DIR to "
            "another folder",
            log=log,
        )


def _why_not_loadable(path: Path, spec: Specification, tools: Toolchain) -> str:
    if not sys.executable or getattr(sys, "frozen", False):
        return ""  # a program that embeds Python: there is no other to ask
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    places = filter(None, (str(tools.torch.library_dir), os.environ.get(variable, "")))
    child = process.start(
        (sys.executable, "-c", _TRIAL, str(path.absolute()), spec.symbol),
        environment={variable: os.pathsep.join(places)},
        folder=path.parent,
    )
    try:
        output, _ = process.finish(child, _TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return f"loading it did not end within {_TRIAL_SECONDS:g} s"
    if child.returncode < 0:
        return f"loading it ends the process by signal {-child.returncode}"
    lines = output.strip().splitlines()
    if child.returncode == 0 or "Python" not in lines:  # sys.executable may be some other program
        return ""
    return lines[-1] if lines[-1] != "Python" else "loading it fails"
