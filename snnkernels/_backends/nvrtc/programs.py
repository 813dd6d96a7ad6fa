"""What NVRTC compiles: one kernel at a time, from the headers of ``csrc``, kept in the cache."""

from __future__ import annotations

import hashlib
import posixpath
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as memoised
from pathlib import Path
from typing import Literal

from ..._build import cache, specification
from ..._build.errors import BuildError, build_error
from ..._build.progress import say, verbose
from .toolkit import Compiled, CompileError, Nvrtc, nvrtc_package

# Strict arithmetic, as for nvcc: see _build/specification.py. What has no annotation, as lambdas
# have none, is for the device: before 13.5 NVRTC took it for the host, and refused it.
_ARITHMETIC = ("-fmad=false", "-ftz=false", "-prec-div=true", "-prec-sqrt=true")
FLAGS = ("-std=c++17", "-default-device", *_ARITHMETIC, *specification.LAUNCH_FLAGS)

_INCLUDE = re.compile(r'^#include ["<]([^">]+)[">]$', re.MULTILINE)


Direction = Literal["forward", "backward"]

ELEMENTS = (
    ("double", "double"),
    ("float", "float"),
    ("__half", "float"),
    ("__nv_bfloat16", "float"),
)
"""The C++ types of elements and of their arithmetic, by the elements' numbers in ``scan.h``."""


@dataclass(frozen=True)
class Program:
    """One kernel to compile.

    Attributes:
        source: the file of ``csrc/nvrtc``.
        kernel: the kernel as a C++ expression.
        neuron: the neuron that is compiled by itself, for ``compiled_neuron.cu``.
    """

    source: str
    kernel: str
    neuron: specification.NeuronSource | None = None

    @property
    def title(self) -> str:
        return f"{self.kernel} of {self.neuron.title}" if self.neuron else self.kernel

    @property
    def defines(self) -> tuple[str, ...]:
        if self.neuron is None:
            return ()
        return (
            f"-DSNN_NEURON={self.neuron.neuron_type}",
            f"-DSNN_SURROGATE={self.neuron.surrogate_type}",
            f"-DSNN_TABLES={self.neuron.tables:#x}u",
            f"-DSNN_SHARED={self.neuron.shared:#x}u",
            f"-DSNN_STATES={self.neuron.states}",
            f"-DSNN_PARAMS={self.neuron.params}",
            f"-DSNN_OUTPUTS={self.neuron.outputs}",
        )

    @property
    def headers(self) -> dict[str, str]:
        """Contents of all that the source can include, by the names in its directives."""
        own = {} if self.neuron is None else {"neuron.h": self.neuron.header}
        return {**shared_headers(specification.csrc_dir()), **own}

    @property
    def text(self) -> str:
        return (specification.csrc_dir() / "nvrtc" / self.source).read_text(encoding="utf-8")


@memoised
def scan_program(
    neuron: specification.NeuronSource,
    direction: Direction,
    element: int,
    width: int,
    plain: bool,
) -> Program:
    """The kernel of a neuron that is compiled by itself.

    Args:
        neuron: what it is compiled for.
        direction: of the scan.
        element: the number in ``scan.h`` of x's element type.
        width: the lanes to a thread.
        plain: whether it is for plain calls alone (``grid.h``).
    """
    of_x, arithmetic = ELEMENTS[element]
    which = f"snn::Traits, {of_x}, {width}, {str(plain).lower()}, {arithmetic}"
    return Program("compiled_neuron.cu", f"snn::cuda::{direction}_kernel<{which}>", neuron)


@memoised
def shared_headers(csrc: Path) -> Mapping[str, str]:
    """The headers of ``csrc`` that device code includes, by their names within it.

    NVRTC finds a header by the name in the directive alone, so directives that are relative to the
    file that holds them are spelt out.
    """
    places = ((csrc / "include", "**/*.h"), (csrc, "cuda/*.cuh"), (csrc / "nvrtc", "*.h"))
    found = {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for root, pattern in places
        for path in sorted(root.glob(pattern))
    }
    return {name: _spelt_out(name, text, found) for name, text in found.items()}


def _spelt_out(name: str, text: str, headers: Mapping[str, str]) -> str:
    def directive(match: re.Match[str]) -> str:
        relative = posixpath.join(posixpath.dirname(name), match[1])
        return f'#include "{relative if relative in headers else match[1]}"'

    return _INCLUDE.sub(directive, text)


def compile_program(program: Program, nvrtc: Nvrtc, capability: tuple[int, int]) -> Compiled:
    """Compile a program for GPUs of a compute capability; ``ensure`` keeps the result.

    Raises:
        snnkernels.BuildError: it does not compile, or NVRTC does not know such GPUs.
    """
    check_capability(nvrtc, capability)
    flags = (*FLAGS, *program.defines, f"-arch={_target(capability)}")
    name = f"nvrtc/{program.source}"
    try:
        compiled = nvrtc.compile(program.text, name, program.headers, flags, program.kernel)
        if not compiled.cubin:
            raise CompileError("it gave no machine code")
        return compiled
    except CompileError as error:
        raise build_error(
            f"{nvrtc} could not compile {program.title}",
            found=str(nvrtc),
            expected="a compiler that takes this package's kernels",
            remedy=f"pip install --upgrade {nvrtc_package(nvrtc.version[0])}, and report it if it "
            "stays",
            excerpt=str(error).splitlines()[:5],
        ) from error


def _target(capability: tuple[int, int]) -> str:
    return f"sm_{capability[0]}{capability[1]}"


def check_capability(nvrtc: Nvrtc, capability: tuple[int, int]) -> None:
    """Refuse GPUs that NVRTC does not compile for.

    Raises:
        snnkernels.BuildError: it knows no such compute capability.
    """
    major, minor = capability
    if 10 * major + minor not in nvrtc.capabilities:
        known = ", ".join(f"{n // 10}.{n % 10}" for n in nvrtc.capabilities)
        raise build_error(
            f"{nvrtc} can't compile for this GPU, of compute capability {major}.{minor}",
            found=f"{nvrtc}, for {known}",
            expected=f"an NVRTC that knows {major}.{minor}",
            remedy=f"pip install --upgrade {nvrtc_package(nvrtc.version[0])}",
        )


def _sources_digest(program: Program) -> str:
    pairs = (part for pair in sorted(program.headers.items()) for part in pair)
    return hashlib.sha256("\0".join((program.text, *pairs)).encode()).hexdigest()


def ensure(program: Program, nvrtc: Nvrtc, capability: tuple[int, int]) -> Compiled:
    """The compiled kernel: from the cache, else compiled now and kept there.

    Where the cache can't be used, one warning says why, and the kernel serves this process alone.

    Raises:
        snnkernels.BuildError: it can't be compiled.
    """
    sources = _sources_digest(program)
    target = _target(capability)
    flags = (program.source, program.kernel, *FLAGS, *program.defines)
    key = hashlib.sha256("\0".join((str(nvrtc), target, sources, *flags)).encode()).hexdigest()

    made: list[Compiled] = []

    def make(folder: Path, root: Path) -> cache.Manifest:
        start = time.perf_counter()
        compiled = compile_program(program, nvrtc, capability)
        made.append(compiled)
        if verbose():
            say(f"{nvrtc} compiled {program.title} in {time.perf_counter() - start:.2f} s")
        (folder / cache.library_name("nvrtc")).write_bytes(compiled.cubin)
        return cache.Manifest(
            device_type="nvrtc",
            key=key,
            family=key,
            sources=sources,
            torch="any",
            compilers=str(nvrtc),
            target=target,
            flags=flags,
            cuda=f"{nvrtc.version[0]}.{nvrtc.version[1]}",
            symbol=compiled.symbol,
        )

    try:
        entry, _ = cache.obtain("nvrtc", key, program.title, make)
        return Compiled(entry.library.read_bytes(), entry.manifest.symbol)
    except (BuildError, OSError) as problem:
        compiled = made[0] if made else compile_program(program, nvrtc, capability)
        cache.warn_once(f"kernels by NVRTC are compiled again in each process: {problem}")
        return compiled
