"""What is compiled and how: one `Specification` for the library, for a neuron, and for a wheel.

Needs neither torch nor a compiler. With which tools it is built, and for which machine, is said in
`plan.py`; how, in `engine.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from .archs import Arch

DeviceType = Literal["cpu", "cuda"]
DEVICE_TYPES: tuple[DeviceType, ...] = ("cpu", "cuda")

PACKAGE_DIR = Path(__file__).resolve().parent.parent
PREBUILT_DIR = PACKAGE_DIR / "_lib"

TORCH_FLOOR = (2, 11)
TORCH_TARGET_VERSION = "0x020b000000000000"
"""The stable ABI that the kernels are written against (torch 2.11)."""

LAUNCH_VARIABLE = "SNNKERNELS_LAUNCH"
_LAUNCH = dict(
    part.strip().partition("=")[::2]
    for part in os.environ.get(LAUNCH_VARIABLE, "").split(",")
    if part.strip()
)
LAUNCH_FLAGS = tuple(f"-D{name}={value}" for name, value in _LAUNCH.items())
"""What sets the launch constants that SNNKERNELS_LAUNCH names, NAME=VALUE with commas between."""

# Strict arithmetic: the kernels give the reference's bits, so nothing may contract or reorder.
_COMMON_FLAGS = ("-std=c++17", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}", "-O3")
_HOST_WARNINGS = ("-Wall", "-Wextra")
_CXX_FLAGS = (
    *_COMMON_FLAGS,
    "-fPIC",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-fvisibility=hidden",
    "-fvisibility-inlines-hidden",
    *_HOST_WARNINGS,
)
_CUDA_FLAGS = (
    *_COMMON_FLAGS,
    "-fmad=false",
    "-DUSE_CUDA",
    "-Xptxas=-v",  # the build log tells each kernel's registers and spills
    "-Xcompiler=-fPIC,-fvisibility=hidden," + ",".join(_HOST_WARNINGS),
)

# Of torch's libraries those that are used: a compiled neuron uses none.
LINK_FLAGS = (
    "-shared",
    "-Wl,-dead_strip_dylibs" if sys.platform == "darwin" else "-Wl,--as-needed",
)

_X86_INSTRUCTION_SETS = {
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
    ),
    "avx2": ("-mavx2",),
    "baseline": (),
}


def instruction_sets(machine: str) -> Mapping[str, tuple[str, ...]]:
    """Return the flags of the instruction sets that a wheel has CPU libraries for, widest first.

    Args:
        machine: the target's machine name, as ``platform.machine()`` gives it.
    """
    if machine.lower() in ("x86_64", "amd64"):
        return _X86_INSTRUCTION_SETS
    return {"baseline": ()}


@dataclass(frozen=True)
class Specification:
    """One shared object: its sources, and the flags of all that are in one language.

    Attributes:
        device_type: whose kernels it holds, "cpu" or "cuda".
        csrc: the folder that its headers are in.
        sources: what is compiled, in the order in which it is begun.
        cxx_flags: for the C++ sources.
        cuda_flags: for the CUDA sources.
        files: names and contents of sources that are written where it is built.
        owner: of what these are the kernels, for people.
        symbol: what it must export; empty where it registers itself with torch when it is loaded.
    """

    device_type: DeviceType
    csrc: Path
    sources: tuple[Path, ...]
    cxx_flags: tuple[str, ...]
    cuda_flags: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    owner: str = "snnkernels"
    symbol: str = ""

    @property
    def name(self) -> str:
        return f"snnkernels_{self.device_type}"

    @property
    def file_name(self) -> str:
        return library_file_name(self.device_type)

    @property
    def kernels(self) -> str:
        """What it holds, for people."""
        return f"the {self.device_type.upper()} kernels of {self.owner}"

    @property
    def include_dirs(self) -> tuple[Path, ...]:
        return (self.csrc / "include", self.csrc)

    @property
    def flags(self) -> tuple[str, ...]:
        """All flags, by what they are for: what a cache key must hash."""
        named = {"C++": self.cxx_flags, "CUDA": self.cuda_flags, "link": LINK_FLAGS}
        return tuple(f"{name}: {' '.join(flags)}" for name, flags in named.items() if flags)

    def title(self, source: Path) -> str:
        """Name a source for people: where it is within ``csrc``."""
        inside = source.is_relative_to(self.csrc)
        return source.relative_to(self.csrc).as_posix() if inside else source.name

    def written_into(self, folder: Path) -> Specification:
        """Write `files` into a folder, and return the same with all its sources there."""
        for name, text in self.files:
            (folder / name).write_text(text, encoding="utf-8")
        return replace(self, sources=tuple(folder / source for source in self.sources))


def check_device_type(device_type: str) -> None:
    """Refuse a device that has no kernels.

    Raises:
        ValueError: `device_type` is neither "cpu" nor "cuda".
    """
    if device_type not in DEVICE_TYPES:
        raise ValueError(f'device_type: expected "cpu" or "cuda", got {device_type!r}')


def library_file_name(device_type: DeviceType) -> str:
    """Return the shared object's file name on this platform."""
    return f"snnkernels_{device_type}" + (".dylib" if sys.platform == "darwin" else ".so")


def csrc_dir() -> Path:
    """Return the kernels' sources: inside an installed package, else beside it in a checkout.

    Raises:
        FileNotFoundError: neither place has them.
    """
    places = (PACKAGE_DIR / "csrc", PACKAGE_DIR.parent / "csrc")
    for place in places:
        if (place / "ops.cpp").is_file():
            return place
    raise FileNotFoundError(f"no kernel sources: looked for ops.cpp in {places[0]} and {places[1]}")


def launch_constants(csrc: Path) -> dict[str, int]:
    """Return the launch constants: those of ``launch.h``, but for what SNNKERNELS_LAUNCH sets.

    Raises:
        ValueError: the variable names none of them, or gives no positive integer.
    """
    text = (csrc / "include" / "snnkernels" / "launch.h").read_text(encoding="utf-8")
    constants = {name: int(n) for name, n in re.findall(r"#define (SNN_\w+) (\d+)", text)}
    for name, value in _LAUNCH.items():
        if name not in constants or not re.fullmatch(r"[1-9]\d*", value):
            raise ValueError(
                f"{LAUNCH_VARIABLE}: got {name}={value}, expected NAME=VALUE, a positive integer "
                f"for one of {', '.join(constants)}"
            )
        constants[name] = int(value)
    return constants


def cpu_library(csrc: Path, *, target: Sequence[str], werror: bool = False) -> Specification:
    """Specify the CPU library: the operators, and all that ``csrc/cpu`` holds.

    Args:
        csrc: the kernels' sources.
        target: the flags of the instruction set, for every source.
        werror: treat warnings as errors.
    """
    kernels = sorted((csrc / "cpu").glob("*.cpp"), reverse=True)  # the scans early: they take long
    sources = (csrc / "ops.cpp", *kernels)
    flags = (*_CXX_FLAGS, *LAUNCH_FLAGS, *_werror(werror), *target)
    return Specification("cpu", csrc, sources, flags)


def cuda_library(csrc: Path, *, archs: Sequence[Arch], werror: bool = False) -> Specification:
    """Specify the CUDA library for the given architectures: all that ``csrc/cuda`` holds.

    Args:
        csrc: the kernels' sources.
        archs: the GPU architectures to compile for, at least one.
        werror: treat warnings as errors.
    """
    if not archs:
        raise ValueError("archs: expected at least one GPU architecture, got none")
    strict = ("-Werror=all-warnings",) if werror else ()
    gencode = (flag for arch in archs for flag in arch.gencode)
    sources = [*sorted((csrc / "cuda").glob("*.cu")), *sorted((csrc / "cuda").glob("*.cpp"))]
    return Specification(
        "cuda",
        csrc,
        tuple(sources),
        (*_CXX_FLAGS, "-DUSE_CUDA", *LAUNCH_FLAGS, *_werror(werror)),
        (*_CUDA_FLAGS, *LAUNCH_FLAGS, *strict, *gencode),
    )


def _werror(werror: bool) -> tuple[str, ...]:
    return ("-Werror",) if werror else ()


@dataclass(frozen=True)
class NeuronSource:
    """A neuron with its surrogate, to be compiled by itself for a loaded library to take in.

    Attributes:
        title: what it is, for people.
        header: the C++ header with the structs that ``csrc/include`` does not have.
        neuron_type: the C++ type of the neuron, in namespace snn.
        surrogate_type: the C++ type of the surrogate, in namespace snn.
        states: how many states the neuron has.
        params: how many parameters.
        outputs: how many outputs.
        tables: which of its parameters are tensors, a bit for each.
        shared: which are tensors of one value, a bit for each.
    """

    title: str
    header: str
    neuron_type: str
    surrogate_type: str
    states: int
    params: int
    outputs: int
    tables: int
    shared: int = 0

    @property
    def name(self) -> str:
        """The name under which the operators know it."""
        masks = f"{self.tables} {self.shared}"
        parts = "\0".join((self.header, self.neuron_type, self.surrogate_type, masks))
        return f"{self.title}-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"

    def files(self, device_type: DeviceType) -> dict[str, str]:
        """Return the sources to write: names and contents."""
        suffix = {"cpu": "cpp", "cuda": "cu"}[device_type]
        driver = {"cpu": "cpu/compiled_scan.h", "cuda": "cuda/compiled_scan.cuh"}[device_type]
        lines = (
            '#include "neuron.h"',
            f'#include "{driver}"',
            "",
            "namespace snn {",
            f"using Neuron = {self.neuron_type};",
            f"using Surrogate = {self.surrogate_type};",
            "}  // namespace snn",
            "",
            f"SNN_COMPILED_NEURON(snn::Neuron, snn::Surrogate, {self.tables:#x}u, "
            f"{self.shared:#x}u)",
            "",
        )
        return {f"neuron.{suffix}": "\n".join(lines), "neuron.h": self.header}


def compiled_neuron(whole: Specification, neuron: NeuronSource) -> Specification:
    """Specify the library of one compiled neuron, by the flags of the whole library."""
    files = neuron.files(whole.device_type)
    sources = [Path(name) for name in files if not name.endswith(".h")]
    flags = whole.cxx_flags
    if whole.device_type == "cpu":
        sources.append(whole.csrc / "cpu" / "convert.cpp")
        flags = (*flags, "-fno-tree-slp-vectorize")  # GCC 12 crashes where it vectorises so
    return replace(
        whole,
        sources=tuple(sources),
        cxx_flags=flags,
        files=tuple(files.items()),
        owner=neuron.title,
        symbol="snn_compiled_neuron",
    )


def sources_digest(csrc: Path, device_type: DeviceType) -> str:
    """Hash the names and contents of every file that the library can include.

    All of ``csrc`` counts but the other devices' own folders.
    """
    digest = hashlib.sha256()
    for path in _source_files(csrc, device_type):
        digest.update(f"{path.relative_to(csrc).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _source_files(csrc: Path, device_type: DeviceType) -> Iterator[Path]:
    kept = {"include", device_type}
    for folder, subfolders, names in os.walk(csrc):
        subfolders.sort()
        if Path(folder) == csrc:
            subfolders[:] = [name for name in subfolders if name in kept]
        yield from (Path(folder) / name for name in sorted(names))
