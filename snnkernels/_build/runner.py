"""Run a build ahead of time: compile a library's units side by side, link them, keep a log.

The compilers are called directly: a portable CPU library compiles one source several times with
other flags, which `torch.utils.cpp_extension` (see `jit.py`) can't.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from . import process
from .description import Library, Unit
from .errors import BuildError, build_error
from .toolchain import Compiler, Nvcc, TorchInfo, ask

_EXCERPT_LINES = 12
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


@dataclass(frozen=True)
class Toolchain:
    """What a library is compiled with and for."""

    torch: TorchInfo
    cxx: Compiler
    nvcc: Nvcc | None = None
    ninja: str = ""
    """The ninja that a build just in time runs; empty for one ahead of time."""

    def __str__(self) -> str:
        tools = [str(self.cxx)] + ([str(self.nvcc)] if self.nvcc else [])
        return " and ".join(tools)


@dataclass(frozen=True)
class Command:
    """One command of a build."""

    title: str
    words: tuple[str, ...]


def job_count() -> int:
    """Return how many compilers run at once: ``MAX_JOBS``, or the cores this process may use.

    Raises:
        ValueError: MAX_JOBS is not a positive whole number.
    """
    text = os.environ.get("MAX_JOBS", "").strip()
    if not text:
        affinity = getattr(os, "sched_getaffinity", None)
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"MAX_JOBS: expected a positive whole number, got {text!r}")
    return int(text)


def compile_command(
    unit: Unit, library: Library, tools: Toolchain, folder: Path, extra_flags: Sequence[str] = ()
) -> Command:
    """Return the command that compiles one unit into `folder`."""
    system = [tools.torch.include_dir, *(tools.nvcc.include_dirs if tools.nvcc else ())]
    includes = [f"-I{library.include_dir}"]
    includes += [word for path in system for word in ("-isystem", str(path))]
    compiler = tools.cxx.command
    if unit.is_cuda:
        if tools.nvcc is None:
            raise ValueError(f"{unit.source.name}: a CUDA source needs a tool chain with nvcc")
        threads = max(1, job_count() // len(library.units))
        compiler = (tools.nvcc.path, f"-ccbin={tools.cxx.program}", f"--threads={threads}")
    target = ("-c", str(unit.source), "-o", str(folder / unit.object_name))
    return Command(library.title(unit), (*compiler, *unit.flags, *includes, *extra_flags, *target))


def link_command(library: Library, tools: Toolchain, folder: Path) -> Command:
    """Return the command that links the units' objects in `folder`."""
    objects = [str(folder / unit.object_name) for unit in library.units]
    libraries = [f"-L{tools.torch.library_dir}", *(f"-l{name}" for name in library.torch_libraries)]
    if tools.nvcc is not None and tools.nvcc.cudart is not None:
        libraries.append(str(tools.nvcc.cudart))
    output = ("-o", str(folder / library.file_name))
    return Command("link", (*tools.cxx.command, "-shared", *objects, *libraries, *output))


def build_library(
    library: Library,
    tools: Toolchain,
    folder: Path,
    *,
    log: Path,
    on_step: Callable[[str], None],
    on_output: Callable[[str], None] | None = None,
    extra_flags: Sequence[str] = (),
) -> Path:
    """Compile and link `library` in `folder`.

    Args:
        library: what to build.
        tools: what to build it with.
        folder: an existing folder for the objects and the result.
        log: the file that receives every command and all that it prints.
        on_step: called with a command's title when it is done.
        on_output: called with each command and what it printed, when the user wants to see it.
        extra_flags: flags for every unit, after its own.

    Returns:
        The shared object's path.

    Raises:
        BuildError: a command failed, or there is nothing to build.
    """
    check_units(library)
    with log.open("w", encoding="utf-8") as stream:
        runner = _Runner(library, tools, stream.write, on_step, on_output, log)
        every = (library, tools, folder, extra_flags)
        runner.run_all([compile_command(unit, *every) for unit in library.units])
        runner.run(link_command(library, tools, folder))
    return folder / library.file_name


def check_arithmetic(library: Library, tools: Toolchain, folder: Path) -> None:
    """Compile a product and a sum with each set of the library's flags, and look for one operation.

    No macro tells of a wrapper or a setting that lets them be one, after our flags said no.

    Raises:
        BuildError: they were compiled into one.
    """
    source = folder / "arithmetic.cpp"
    source.write_text("double f(double x, double y, double z) { return x * y + z; }\n")
    for flags in dict.fromkeys(unit.flags for unit in library.units if not unit.is_cuda):
        listing, _ = ask((*tools.cxx.command, *flags, "-S", str(source), "-o", "-"))
        fused = _FUSED.search(listing)
        if fused:
            raise build_error(
                "the C++ compiler makes one operation of a product and a sum, though told not to",
                found=f"{fused[1]} by {tools.cxx}",
                expected="x * y + z rounded twice, as PyTorch does",
                remedy="leave -ffp-contract=fast out of what calls it, or set CXX to another",
            )
    source.unlink()


def check_library(path: Path, library: Library, tools: Toolchain, log: Path) -> None:
    """Load what the compilers made into another process.

    Raises:
        BuildError: it does not load, ends the process, or lacks its symbol.
    """
    problem = _why_not_loadable(path, library, tools)
    if problem:
        raise build_error(
            f"what was built as {kernels_of(library)} does not load",
            found=f"{problem}; {tools}",
            expected="a shared library that loads, on a disk that may hold programs",
            remedy="set CXX (CUDA_HOME) to a compiler that works, or SNNKERNELS_CACHE_DIR to "
            "another folder",
            log=log,
        )


def _why_not_loadable(path: Path, library: Library, tools: Toolchain) -> str:
    if not sys.executable or getattr(sys, "frozen", False):
        return ""  # a program that embeds Python: there is no other to ask
    variable = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    places = filter(None, (str(tools.torch.library_dir), os.environ.get(variable, "")))
    child = process.start(
        (sys.executable, "-c", _TRIAL, str(path.absolute()), library.symbol),
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


class _Runner:
    """Runs commands side by side; the first failure, or an interrupt, ends the others."""

    def __init__(
        self,
        library: Library,
        tools: Toolchain,
        write: Callable[[str], object],
        on_step: Callable[[str], None],
        on_output: Callable[[str], None] | None,
        log: Path,
    ) -> None:
        self._library = library
        self._tools = tools
        self._write = write
        self._on_step = on_step
        self._on_output = on_output
        self._log = log
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run_all(self, commands: Sequence[Command]) -> None:
        with ThreadPoolExecutor(job_count()) as pool:
            futures = [pool.submit(self.run, command) for command in commands]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self._stop()
                pool.shutdown(cancel_futures=True)
                raise

    def run(self, command: Command) -> None:
        start = time.monotonic()
        code, output = self._call(command)
        seconds = time.monotonic() - start
        with self._lock:
            if self._stopped:
                return
            text = f"$ {shlex.join(command.words)}\n{output}[{seconds:.1f} s, exit code {code}]\n\n"
            self._write(text)
            if self._on_output is not None:
                self._on_output(text)
            if code == 0:
                self._on_step(command.title)
                return
        excerpt = first_error(output.rstrip().splitlines())
        raise build_failure(_action(command), self._library, self._tools, self._log, excerpt)

    def _call(self, command: Command) -> tuple[int, str]:
        with self._lock:
            if self._stopped:
                return 1, ""
            try:
                program = process.start(command.words)
            except OSError as error:
                return 127, f"{error}\n"
            self._running.add(program)
        limit = process.timeout_seconds()
        try:
            output, _ = process.finish(program, limit)
        except subprocess.TimeoutExpired:
            raise process.timed_out(
                f"{_action(command)} of {kernels_of(self._library)}",
                found=shlex.join(command.words),
                seconds=limit,
                log=self._log,
            ) from None
        finally:
            with self._lock:
                self._running.discard(program)
        return program.returncode, output

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for program in self._running:
                process.stop(program)


def _action(command: Command) -> str:
    return "linking" if command.title == "link" else f"compiling {command.title}"


def kernels_of(library: Library) -> str:
    """Name a library's kernels for people."""
    return f"the {library.device_type.upper()} kernels of {library.owner}"


def check_units(library: Library) -> None:
    """Refuse a library without sources.

    Raises:
        BuildError: there is nothing to build.
    """
    if not library.units:
        raise build_error(
            f"there are no {library.device_type.upper()} kernel sources to build",
            found=f"no units for {library.name}",
            expected=f"sources under csrc/{library.device_type}",
            remedy="reinstall snnkernels; its csrc folder is incomplete",
        )


def build_failure(
    action: str, library: Library, tools: Toolchain, log: Path, excerpt: Sequence[str]
) -> BuildError:
    """Make the error of a command that failed, such as "linking"; the excerpt is of its output."""
    return build_error(
        f"{action} failed while building {kernels_of(library)}",
        found=f"{tools}, torch {tools.torch.version}",
        expected="a C++17 compiler with its standard library, and torch's headers",
        remedy=f"python -m snnkernels build --device {library.device_type} --force, after mending "
        "the error below (CXX, CUDA_HOME choose other compilers)",
        log=log,
        excerpt=excerpt,
    )


def first_error(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines that tell what went wrong: from the first error on, else the last ones."""
    marks = ("error", "fatal", "undefined reference", "killed", "cannot", "no space left")
    for index, line in enumerate(lines):
        if any(mark in line.lower() for mark in marks):
            return lines[index : index + _EXCERPT_LINES]
    return lines[-_EXCERPT_LINES:]
