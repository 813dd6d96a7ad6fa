"""What is on this machine to compile with: probes that run nothing but version queries."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from . import process
from .errors import build_error
from .specification import TORCH_FLOOR, instruction_sets
from .strict import refused_flag, why_not_strict

DEFAULT_CUDA = "/usr/local/cuda"
_QUERY_SECONDS = 60.0
_STOPPED = "and was stopped"
_NVCC_VARIABLES = ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS")
"""Flags that nvcc adds to all that it is called with."""


@dataclass(frozen=True)
class TorchInfo:
    """The torch that kernels are built for."""

    version: str
    cuda: str | None
    root: Path

    @property
    def library_dir(self) -> Path:
        return self.root / "lib"


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that was asked about itself.

    Attributes:
        origin: where it was found.
        command: how it is called.
        version: its name and version.
        target: a hash of all it predefines for this very CPU (version, target, instruction sets).
        native_flags: the flags that target this very CPU.
        instruction_sets: the vector instruction sets those flags turn on, for people.
        problem: why it can't be used; empty when it can.
    """

    origin: str
    command: tuple[str, ...]
    version: str = ""
    target: str = ""
    native_flags: tuple[str, ...] = ()
    instruction_sets: tuple[str, ...] = ()
    problem: str = ""

    @property
    def program(self) -> str:
        """The compiler itself, where the command also has a launcher (ccache) or flags."""
        return [self.command[0], *(w for w in self.command[1:] if not w.startswith("-"))][-1]

    def __str__(self) -> str:
        return f"{self.version or 'no version'} ({shlex.join(self.command)}, {self.origin})"


@dataclass(frozen=True)
class Nvcc:
    """A CUDA compiler and its toolkit.

    Attributes:
        origin: where it was found.
        path: the program.
        version: the toolkit's version, "13.0".
        root: the toolkit's folder, wrappers resolved.
        include_dirs: where the CUDA headers are.
        cudart: the shared runtime library to link.
        archs: the architectures it knows, as nvcc numbers ("75", ..., "121").
        flags: what the environment adds to its command line.
        problem: why it can't be used; empty when it can.
    """

    origin: str
    path: str
    version: str = ""
    root: Path | None = None
    include_dirs: tuple[Path, ...] = ()
    cudart: Path | None = None
    archs: tuple[str, ...] = ()
    flags: str = ""
    problem: str = ""

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0]) if self.version else 0

    def __str__(self) -> str:
        return f"nvcc {self.version or 'of no known version'} ({self.path}, {self.origin})"


@dataclass(frozen=True)
class Toolchain:
    """What a library is compiled with and for; `nvcc` is None for the CPU's."""

    torch: TorchInfo
    cxx: Compiler
    ninja: str
    nvcc: Nvcc | None = None

    def __str__(self) -> str:
        tools = [str(self.cxx)] + ([str(self.nvcc)] if self.nvcc else [])
        return " and ".join(tools)


def torch_info() -> TorchInfo:
    """Describe the installed torch.

    Raises:
        BuildError: there is none, or it is older than the stable ABI that the kernels use.
    """
    floor = ".".join(map(str, TORCH_FLOOR))
    try:
        import torch
    except ImportError as error:
        raise build_error(
            "building the kernels needs torch at build time",
            found=f"no torch in {sys.prefix} ({error})",
            expected=f"torch {floor} or newer",
            remedy="pip install torch, then pip install --no-build-isolation .",
        ) from error
    version = str(torch.__version__)
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < TORCH_FLOOR:
        raise build_error(
            "this torch is too old for the native kernels",
            found=f"torch {version}",
            expected=f"torch {floor} or newer",
            remedy=f"pip install 'torch>={floor}'",
        )
    cuda = torch.version.cuda
    return TorchInfo(version, cuda, Path(torch.__file__).resolve().parent)


def gpu_capabilities() -> tuple[tuple[int, int], ...]:
    """Return the compute capabilities of the GPUs that this process sees, ascending."""
    import torch

    if not torch.cuda.is_available():
        return ()
    devices = range(torch.cuda.device_count())
    return tuple(sorted({torch.cuda.get_device_capability(index) for index in devices}))


def cpu_instruction_sets() -> tuple[str, ...]:
    """Return those of a wheel's instruction sets that this CPU has, widest first.

    It is PyTorch that looks, so ``ATEN_CPU_CAPABILITY`` has the same say as over its own kernels.
    """
    import torch

    names = tuple(instruction_sets(platform.machine()))
    widest = torch.backends.cpu.get_cpu_capability().lower()
    return names[names.index(widest) :] if widest in names else names[-1:]


def cpu_identity() -> str:
    """Hash what the operating system says of this CPU; empty where it says too little."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    lines = re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)
    facts = "\n".join(sorted(set(lines)))
    return hashlib.sha256(facts.encode()).hexdigest() if facts else ""


def find_cxx() -> Compiler:
    """Return the C++ compiler to use: ``$CXX`` if set, else the first usable c++, g++ or clang++.

    Raises:
        BuildError: none works; says of each why not.
    """
    probes = cxx_probes()
    for probe in probes:
        if not probe.problem:
            return probe
    raise build_error(
        "no usable C++ compiler",
        found="; ".join(f"{probe.origin}: {probe.problem}" for probe in probes),
        expected="a C++17 compiler: g++ 9 or newer, or clang++ 10 or newer, whose flags leave "
        "arithmetic as IEEE 754 has it",
        remedy="unset CXX, or set it to a compiler that is there, without such flags"
        if _named_cxx()
        else "apt-get install g++ (or conda install gxx), or set CXX to the compiler's path",
    )


def cxx_probes() -> list[Compiler]:
    """Ask every candidate C++ compiler about itself, in the order of preference."""
    named = _named_cxx()
    if not named:
        return [_probe_cxx(f"{name} on PATH", (name,)) for name in ("c++", "g++", "clang++")]
    try:
        return [_probe_cxx("$CXX", tuple(shlex.split(named)))]
    except ValueError as error:
        return [Compiler("$CXX", (named,), problem=f"{named!r} can't be read: {error}")]


def _named_cxx() -> str:
    return os.environ.get("CXX", "").strip()


@functools.cache
def _query_cxx(origin: str, command: tuple[str, ...]) -> Compiler:
    problem = ""
    for native in (("-march=native",), ("-mcpu=native",), ()):
        query = (*command, "-std=c++17", *native, "-dM", "-E", "-x", "c++", "-")
        output, problem = ask(query)
        if not problem:
            return _describe_cxx(origin, command, native, output)
        if problem.endswith(_STOPPED):
            break
    return Compiler(origin, command, problem=problem)


def _probe_cxx(origin: str, command: tuple[str, ...]) -> Compiler:
    if sys.platform == "win32":
        return Compiler(origin, command, problem="Windows is not supported by the native kernels")
    path = _which(command[0])
    if path is None:
        return Compiler(origin, command, problem=f"{command[0]!r} is not there")
    flag = refused_flag(shlex.join(command))
    if flag:
        return Compiler(origin, command, problem=f"{flag} changes what is computed: leave it out")
    return _query_cxx(origin, (path, *map(_absolute, command[1:])))


def _describe_cxx(
    origin: str, command: tuple[str, ...], native: tuple[str, ...], predefined: str
) -> Compiler:
    macros = dict(re.findall(r"^#define (\w+) (.*)$", predefined, re.MULTILINE))
    if int(re.sub(r"\D", "", macros.get("__cplusplus", "0"))) < 201703:
        return Compiler(origin, command, problem="does not know C++17")
    problem = why_not_strict(macros)
    if problem:
        return Compiler(origin, command, problem=problem)
    kind = "clang" if "__clang__" in macros else "g++"
    version = f"{kind} {macros.get('__VERSION__', '').strip(chr(34))}"
    shown = {"__AVX512F__": "AVX-512", "__AVX2__": "AVX2", "__F16C__": "F16C", "__ARM_NEON": "NEON"}
    return Compiler(
        origin,
        command,
        version=version,
        target=hashlib.sha256("\n".join(sorted(predefined.splitlines())).encode()).hexdigest(),
        native_flags=native,
        instruction_sets=tuple(name for macro, name in shown.items() if macro in macros),
    )


def find_ninja() -> str:
    """Return the ninja to use: the one on PATH, else that of the ``ninja`` package.

    Raises:
        BuildError: there is none that runs.
    """
    problems = []
    for path in _ninja_candidates():
        problem = _why_not_ninja(path)
        if not problem:
            return path
        problems.append(problem)
    raise build_error(
        "no usable ninja, with which torch.utils.cpp_extension builds the kernels",
        found="; ".join(problems) or "none on PATH, no ninja package in this Python environment",
        expected="ninja 1.3 or newer",
        remedy="pip install ninja",
    )


@functools.cache
def _why_not_ninja(path: str) -> str:
    return ask((path, "--version"))[1]


def _ninja_candidates() -> Iterator[str]:
    on_path = _which("ninja")
    if on_path:
        yield on_path
    # The package's program need not be on PATH: an environment need not be activated.
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("ninja") or ():
            if file.name == "ninja":
                yield str(Path(str(file.locate())).resolve())


def find_nvcc(torch_cuda: str | None) -> Nvcc:
    """Return the nvcc whose major version is that of torch's CUDA.

    ``$CUDACXX`` or ``$CUDA_HOME`` (``$CUDA_PATH``), if set, are the only place looked at. Else:
    nvcc on PATH, the nvidia packages of this Python environment, /usr/local/cuda.

    Args:
        torch_cuda: ``torch.version.cuda``; None for a torch without CUDA.

    Raises:
        BuildError: none fits; says of each why not.
    """
    if torch_cuda is None:
        raise build_error(
            "this torch has no CUDA, so CUDA kernels can neither be linked nor loaded",
            found="a CPU-only (or non-NVIDIA) torch: torch.version.cuda is None",
            expected="a torch built for CUDA",
            remedy="install a CUDA build of torch (see pytorch.org), for example torch==2.11.0",
        )
    probes = nvcc_probes(torch_cuda)
    for probe in probes:
        if not probe.problem:
            return probe
    named = " and ".join(name for name in _NVCC_VARIABLES if os.environ.get(name))
    major = torch_cuda.split(".")[0]
    places = "$CUDACXX, $CUDA_HOME, PATH, the nvidia packages, /usr/local/cuda"
    raise build_error(
        "no usable CUDA compiler",
        found="; ".join(f"{probe.path} ({probe.origin}): {probe.problem}" for probe in probes)
        or f"no nvcc (looked at {places})",
        expected=f"nvcc {major}.x, because torch was built for CUDA {torch_cuda}",
        remedy=f"pip install 'cuda-toolkit[nvcc,crt,nvvm,cccl]=={torch_cuda}.*', or set CUDA_HOME "
        f"to a CUDA {major} toolkit" + (f", or take such flags out of {named}" if named else ""),
    )


def nvcc_probes(torch_cuda: str | None) -> list[Nvcc]:
    """Ask every candidate nvcc about itself, in the order of preference."""
    seen: dict[str, Nvcc] = {}
    for origin, path in _nvcc_candidates():
        probe = _probe_nvcc(origin, path, _nvcc_flags())
        identity = str(probe.root or path)
        if identity not in seen:
            seen[identity] = _compared(probe, torch_cuda)
    return list(seen.values())


def _nvcc_flags() -> str:
    return " ".join(f"{name}={os.environ[name]}" for name in _NVCC_VARIABLES if name in os.environ)


def _nvcc_candidates() -> Iterator[tuple[str, str]]:
    named = os.environ.get("CUDACXX", "").strip()
    if named:
        yield "$CUDACXX", named
        return
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        root = os.environ.get(variable, "").strip()
        if root:
            yield f"${variable}", os.path.join(root, "bin", "nvcc")
            return
    on_path = _which("nvcc")
    if on_path:
        yield "PATH", on_path
    for path in _pip_files("bin/nvcc"):
        yield "nvidia packages", path
    if os.path.exists(os.path.join(DEFAULT_CUDA, "bin", "nvcc")):
        yield DEFAULT_CUDA, os.path.join(DEFAULT_CUDA, "bin", "nvcc")


def _pip_files(pattern: str) -> list[str]:
    folder = glob.escape(os.path.join(sysconfig.get_path("purelib"), "nvidia"))
    return sorted(glob.glob(os.path.join(folder, "*", pattern)), reverse=True)


def _compared(probe: Nvcc, torch_cuda: str | None) -> Nvcc:
    if probe.problem or torch_cuda is None or probe.major == int(torch_cuda.split(".")[0]):
        return probe
    problem = f"is {probe.version}, torch was built for CUDA {torch_cuda}"
    return replace(probe, problem=problem)


@functools.cache
def _probe_nvcc(origin: str, path: str, flags: str) -> Nvcc:
    resolved = _which(path)
    if resolved is None:
        return Nvcc(origin, path, problem="is not there")
    output, problem = ask((resolved, "--version"))
    release = re.search(r"release (\d+\.\d+)", output)
    if problem or release is None:
        return Nvcc(origin, path, problem=problem or "printed no version")
    # nvcc may be a wrapper script; its own dry run says where the toolkit really is, and with
    # which flags its parts are called, wherever they come from.
    dry_run, _ = ask((resolved, "--dryrun", "-fmad=false", "-x", "cu", os.devnull), errors=True)
    top = re.search(r"^#\$ TOP=(.*)$", dry_run, re.MULTILINE)
    root = Path(top.group(1) if top else os.path.join(os.path.dirname(resolved), "..")).resolve()
    probe = Nvcc(origin, resolved, release.group(1), root, flags=flags)
    flag = refused_flag(f"{flags} {dry_run}")
    if flag:
        return replace(probe, problem=f"{flag} changes what is computed: leave it out")
    includes = _include_dirs(root)
    cudart = _cudart(root, probe.major)
    if not includes:
        return replace(
            probe, problem=f"no cuda_runtime.h in {root}/include nor the nvidia packages"
        )
    if cudart is None:
        return replace(probe, problem=f"no libcudart.so in {root}/lib64 nor the nvidia packages")
    archs, _ = ask((resolved, "--list-gpu-arch"))
    known = tuple(sorted(set(re.findall(r"compute_(\d+)", archs)), key=int))
    return replace(probe, include_dirs=includes, cudart=cudart, archs=known)


def _include_dirs(root: Path) -> tuple[Path, ...]:
    """The CUDA headers: one folder in a toolkit, one per package in those of CUDA 12."""
    if (root / "include" / "cuda_runtime.h").is_file():
        return (root / "include",)
    headers = [Path(path).parent for path in _pip_files("include/cuda_runtime.h")]
    return (headers[0], root / "include") if headers else ()


def _cudart(root: Path, major: int) -> Path | None:
    names = ("libcudart.so", f"libcudart.so.{major}")
    folders = [root / "lib64", root / "lib", *sorted(root.glob("targets/*/lib"))]
    folders += [Path(path) for path in _pip_files("lib")]
    found = (folder / name for folder in folders for name in names if (folder / name).exists())
    return next(found, None)


def _which(program: str) -> str | None:
    """Find a program, for whatever folder it will be called in."""
    found = shutil.which(program)
    return found and os.path.abspath(found)


def _absolute(word: str) -> str:
    """Give a word of a command that names a file, relative to this folder, its whole path."""
    names_file = os.sep in word and not word.startswith("-") and os.path.exists(word)
    return os.path.abspath(word) if names_file else word


def ask(command: Sequence[str], *, errors: bool = False) -> tuple[str, str]:
    """Run a query; return what it printed and, if it failed, why."""
    try:
        program = process.start(command, errors_apart=True)
        output, complaint = process.finish(program, _QUERY_SECONDS)
    except OSError as error:
        return "", str(error)
    except subprocess.TimeoutExpired:
        waited = f"gave no answer within {_QUERY_SECONDS:g} s"
        return "", f"{shlex.join(command)} {waited}, {_STOPPED}"
    if program.returncode and not errors:
        last = (complaint.strip() or output.strip()).splitlines()[:1]
        return "", f"{shlex.join(command)} failed: {' '.join(last) or program.returncode}"
    return output + (complaint if errors else ""), ""
