"""What is compiled and how: the one build description that ``setup.py`` and the JIT share.

Needs neither torch nor a compiler. A `Library` is a set of `Unit`s (one source and its flags),
linked into one shared object. With which tools and for which torch is `runner.py`'s business.
"""

from __future__ import annotations

import hashlib
import os
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

# Strict arithmetic: the kernels give the reference's bits, so nothing may contract or reorder.
_COMMON_FLAGS = ("-std=c++17", f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}")
_HOST_WARNINGS = ("-Wall", "-Wextra")
_CPU_FLAGS = (
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
# What only checks arguments and dispatches compiles faster so, and runs no slower. A build just in
# time, which has one set of flags, goes without.
_KERNELS_LEVEL = "-O3"
_DISPATCH_LEVEL = "-O1"
_CUDA_FLAGS = (
    *_COMMON_FLAGS,
    _KERNELS_LEVEL,
    "-fmad=false",
    "-DUSE_CUDA",
    "-Xptxas=-v",  # the build log tells each kernel's registers and spills
    "-Xcompiler=-fPIC,-fvisibility=hidden," + ",".join(_HOST_WARNINGS),
)

# Ahead-of-time CPU builds compile each kernels_*.cpp once per level and choose at run time.
_X86_LEVELS = {
    "baseline": (),
    "avx2": ("-mavx2",),
    "avx512": (
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mprefer-vector-width=512",
    ),
}
_OTHER_LEVELS: dict[str, tuple[str, ...]] = {"baseline": ()}
ISA_DEPENDENT = "kernels_"
"""CPU sources whose name starts so are compiled once per instruction set."""


@dataclass(frozen=True)
class Unit:
    """One translation unit: its source, its flags, and its instruction set if there are several."""

    source: Path
    flags: tuple[str, ...]
    variant: str = ""

    @property
    def object_name(self) -> str:
        return ".".join(filter(None, (self.source.name, self.variant, "o")))

    @property
    def is_cuda(self) -> bool:
        return self.source.suffix == ".cu"


@dataclass(frozen=True)
class Library:
    """One shared object: its units, the torch libraries it links, and whose kernels it holds.

    `symbol` is what it must export; empty where it registers itself with torch when it is loaded.
    """

    device_type: DeviceType
    csrc: Path
    units: tuple[Unit, ...]
    torch_libraries: tuple[str, ...]
    owner: str = "snnkernels"
    symbol: str = ""

    @property
    def name(self) -> str:
        return f"snnkernels_{self.device_type}"

    @property
    def file_name(self) -> str:
        return library_file_name(self.device_type)

    @property
    def include_dir(self) -> Path:
        return self.csrc / "include"

    def title(self, unit: Unit) -> str:
        """Name a unit for people: its source within ``csrc``, and its instruction set."""
        inside = unit.source.is_relative_to(self.csrc)
        source = unit.source.relative_to(self.csrc).as_posix() if inside else unit.source.name
        return f"{source} for {unit.variant}" if unit.variant else source

    def shared_flags(self, *, cuda: bool) -> tuple[str, ...]:
        """Return the flags that all CUDA, or all C++, units have; none if there are no such units.

        Raises:
            ValueError: they have different flags.
        """
        flags = {unit.flags for unit in self.units if unit.is_cuda == cuda}
        if len(flags) > 1:
            raise ValueError(f"{self.name}: expected one set of flags, got {len(flags)}")
        return flags.pop() if flags else ()

    @property
    def flags(self) -> tuple[str, ...]:
        """Every unit's flags with its name, in order: what a cache key must hash."""
        return tuple(f"{unit.object_name}: {' '.join(unit.flags)}" for unit in self.units)


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


def cpu_library(
    csrc: Path, *, native_flags: Sequence[str] | None, machine: str, werror: bool = False
) -> Library:
    """Describe the CPU library.

    Args:
        csrc: the kernels' sources.
        native_flags: the flags that target this very CPU, for a JIT build; None for a build
            ahead of time, which holds one variant per instruction set and chooses at run time.
        machine: the target's machine name, as ``platform.machine()`` gives it.
        werror: treat warnings as errors.
    """
    common = _CPU_FLAGS + (("-Werror",) if werror else ())
    # What takes longest comes first: the dispatcher, then the scans.
    sources = [csrc / "ops.cpp", *sorted((csrc / "cpu").glob("*.cpp"), reverse=True)]
    units: list[Unit] = []
    if native_flags is not None:
        flags = (*common, _KERNELS_LEVEL, "-DSNN_CPU_ISA=native", *native_flags)
        units = [Unit(source, flags) for source in sources]
    else:
        levels = _X86_LEVELS if machine.lower() in ("x86_64", "amd64") else _OTHER_LEVELS
        for source in sources:
            units += _portable_units(source, common, levels)
    return Library("cpu", csrc, tuple(units), ("c10", "torch_cpu", "torch"))


def _portable_units(
    source: Path, common: tuple[str, ...], levels: Mapping[str, tuple[str, ...]]
) -> list[Unit]:
    """A source of kernels once per instruction set; any other once, told which sets there are."""
    if source.name.startswith(ISA_DEPENDENT):
        return [
            Unit(source, (*common, _KERNELS_LEVEL, f"-DSNN_CPU_ISA={isa}", *flags), isa)
            for isa, flags in levels.items()
        ]
    known = (f"-DSNN_CPU_HAS_{isa.upper()}" for isa in levels)
    return [Unit(source, (*common, _DISPATCH_LEVEL, "-DSNN_CPU_DISPATCH", *known))]


def cuda_library(csrc: Path, *, archs: Sequence[Arch], werror: bool = False) -> Library:
    """Describe the CUDA library for the given architectures.

    Args:
        csrc: the kernels' sources.
        archs: the GPU architectures to compile for, at least one.
        werror: treat warnings as errors.
    """
    if not archs:
        raise ValueError("archs: expected at least one GPU architecture, got none")
    gencode = tuple(flag for arch in archs for flag in arch.gencode)
    strict = ("-Werror=all-warnings",) if werror else ()
    device = (*_CUDA_FLAGS, *strict, *gencode)
    host = (*_CPU_FLAGS, _DISPATCH_LEVEL, "-DUSE_CUDA", *(("-Werror",) if werror else ()))
    folder = csrc / "cuda"
    units = [Unit(source, device) for source in sorted(folder.glob("*.cu"))]
    units += [Unit(source, host) for source in sorted(folder.glob("*.cpp"))]
    libraries = ("c10", "torch_cpu", "c10_cuda", "torch_cuda", "torch")
    return Library("cuda", csrc, tuple(units), libraries)


@dataclass(frozen=True)
class NeuronSource:
    """A neuron with its surrogate, to be compiled by itself for a loaded library to take in.

    Attributes:
        title: what it is, for people.
        header: the C++ header with the structs that ``csrc/include`` does not have.
        neuron_type: the C++ type of the neuron, in namespace snn.
        surrogate_type: the C++ type of the surrogate, in namespace snn.
        outputs: how many outputs the neuron has.
        tables: which of its parameters are tensors, a bit for each.
    """

    title: str
    header: str
    neuron_type: str
    surrogate_type: str
    outputs: int
    tables: int

    @property
    def name(self) -> str:
        """The name under which the operators know it."""
        parts = "\0".join((self.header, self.neuron_type, self.surrogate_type, str(self.tables)))
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
            f"SNN_COMPILED_NEURON(snn::Neuron, snn::Surrogate, {self.tables:#x}u)",
            "",
        )
        return {"neuron.h": self.header, f"neuron.{suffix}": "\n".join(lines)}


def compiled_neuron_library(whole: Library, neuron: NeuronSource) -> Library:
    """Describe the library of one compiled neuron, by the flags of the whole library's kernels.

    The sources that `NeuronSource.files` writes have relative paths until they are placed.
    """
    root = f"-I{whole.csrc}"
    if whole.device_type == "cuda":
        flags = next(unit.flags for unit in whole.units if unit.is_cuda)
        units = [Unit(Path("neuron.cu"), (*flags, root))]
    else:
        conversions = next(u for u in whole.units if u.source.name == "kernels_convert.cpp")
        flags = (*conversions.flags, "-fno-tree-slp-vectorize", root)  # which crashes GCC 12
        units = [Unit(Path("neuron.cpp"), flags), conversions]
    return replace(
        whole,
        units=tuple(units),
        torch_libraries=(),
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
