"""Build a library just in time by ``torch.utils.cpp_extension``, whose ninja runs the compilers.

`cpp_extension.load` is asked for a program and given ``-shared``: so it links a library, leaves out
libtorch_python and does not load the result, which is done from the cache once it is there. What
it would look up for itself (compiler, CUDA, architectures, ninja) it is told instead.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from .description import Library
from .errors import build_error
from .process import timed_out, timeout_seconds
from .runner import Toolchain, build_failure, check_units, first_error, job_count, kernels_of

_STATUS = re.compile(r"\[\d+/\d+ [\d.]+\] (?P<command>.*)")
_NINJA_STATUS = "[%f/%t %e] "
_POLL_SECONDS = 0.1
_STOP_SECONDS = 5.0
_OWN_COMPILER = "./cxx"

_lock = threading.Lock()
"""cpp_extension reads the environment, which is the process's."""


def build_library_with_torch(
    library: Library,
    tools: Toolchain,
    folder: Path,
    *,
    archs: str,
    log: Path,
    on_step: Callable[[str], None],
    on_output: Callable[[str], None] | None = None,
) -> Path:
    """Compile and link `library` into `folder`; load nothing.

    Args:
        library: what to build; all its C++ units have the same flags, and so have its CUDA units.
        tools: what to build it with, ninja among them.
        folder: an existing folder for the result.
        archs: the GPU architectures, as ``TORCH_CUDA_ARCH_LIST`` takes them; for CUDA only.
        log: the file that receives every command and all that it prints.
        on_step: called with a step's title when it is done.
        on_output: called with each line of the log, when the user wants to see it.

    Returns:
        The shared object's path.

    Raises:
        BuildError: a command failed, there is nothing to build, or torch's helper does not work.
    """
    check_units(library)
    cpp_extension = _import_cpp_extension()
    work = folder / "build"
    work.mkdir()
    log.write_text(f"torch {tools.torch.version}, {tools}, {tools.ninja}\n", encoding="utf-8")

    def tell(line: str) -> None:
        if on_output is not None:
            on_output(line)
        status = _STATUS.match(line)
        if status:
            on_step(_title(status["command"], library))

    arguments = _arguments(library, tools, work)
    variables = _variables(tools, archs, work, log)
    watch = _Watch(log, tell, work / "ninja.pid")
    with _lock, watch, _environment(variables), _cuda_home(cpp_extension, tools):
        try:
            built = cpp_extension.load(**arguments)
        except (RuntimeError, OSError, ValueError) as error:
            if watch.gave_up:
                raise _too_slow(library, tools, log, watch) from error
            raise _failure(library, tools, log, error) from error
        finally:
            _stop_ninja(work / "ninja.pid")
    target = folder / library.file_name
    Path(built).replace(target)
    return target


def _import_cpp_extension() -> Any:
    """Import torch's helper, without its warnings of what it did not find: it is told."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        from torch.utils import cpp_extension
    except ImportError as error:
        raise build_error(
            "torch.utils.cpp_extension, which builds the kernels, does not import",
            found=str(error),
            expected="setuptools, which it needs",
            remedy="pip install 'setuptools<82'",
        ) from error
    finally:
        logger.setLevel(level)
    return cpp_extension


def _arguments(library: Library, tools: Toolchain, work: Path) -> dict[str, object]:
    """What `cpp_extension.load` is called with."""
    system: list[str] = []
    linked = ["-shared"]
    nvcc = tools.nvcc
    cuda_flags: list[str] = []
    if nvcc is not None:
        extra = [path for path in nvcc.include_dirs if path != (nvcc.root or path) / "include"]
        system = [word for path in extra for word in ("-isystem", str(path))]
        threads = max(1, job_count() // len(library.units))
        cuda_flags = [f"-ccbin={tools.cxx.program}", f"--threads={threads}"]
        if nvcc.cudart is not None:
            (work / "libcudart.so").symlink_to(nvcc.cudart)
            linked.append("-L.")
    return {
        "name": library.name,
        "sources": [str(unit.source) for unit in library.units],
        "extra_cflags": _words([*library.shared_flags(cuda=False), *system]),
        "extra_cuda_cflags": _words([*library.shared_flags(cuda=True), *system, *cuda_flags]),
        "extra_ldflags": linked,
        "extra_include_paths": [str(library.include_dir)],
        "build_directory": str(work),
        "with_cuda": nvcc is not None,
        "is_python_module": False,
        "is_standalone": True,
    }


def _words(flags: Sequence[str]) -> list[str]:
    """Quote flags for the shell that ninja calls, and for ninja."""
    return [_word(flag) for flag in flags]


def _word(text: str) -> str:
    return shlex.quote(text).replace("$", "$$")


def _variables(tools: Toolchain, archs: str, work: Path, log: Path) -> dict[str, str | None]:
    """The environment for `cpp_extension.load`; None for what must not be set."""
    programs = work / "bin"
    programs.mkdir()
    _write_ninja(programs / "ninja", tools.ninja, log, work / "ninja.pid")
    variables: dict[str, str | None] = {
        "PATH": os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath))),
        "CXX": _compiler(tools, work),
        "CC": None,
        "LC_ALL": "C",
        "MAX_JOBS": str(job_count()),
        "NINJA_STATUS": _NINJA_STATUS,
        "TORCH_DONT_CHECK_COMPILER_ABI": "1",
        "TORCH_NO_COMPILER_WRAPPER": "1",
    }
    if tools.nvcc is not None:
        variables["PYTORCH_NVCC"] = _word(tools.nvcc.path)
        variables["TORCH_CUDA_ARCH_LIST"] = archs
        variables["TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES"] = "1"
    return variables


def _compiler(tools: Toolchain, work: Path) -> str:
    """The C++ compiler as one word; a script stands in for a command of several."""
    command = tools.cxx.command
    if len(command) == 1 and _word(command[0]) == command[0]:
        return command[0]
    _write_program(work / _OWN_COMPILER, f'exec {shlex.join(command)} "$@"')
    return _OWN_COMPILER


def _write_ninja(path: Path, ninja: str, log: Path, pid: Path) -> None:
    """Write a ninja that keeps all its output in the log, where it can be followed.

    cpp_extension would hold the output back, and drop it if the build succeeds. The pid file
    names it while it runs, for `_stop_ninja`.
    """
    program, log_name, pid_name = (shlex.quote(str(word)) for word in (ninja, log, pid))
    _write_program(
        path,
        f'[ "$1" = --version ] && exec {program} "$@"',
        f'{program} "$@" >>{log_name} 2>&1 &',
        f"echo $! >{pid_name}",
        "wait $!",
        "code=$?",
        f": >{pid_name}",
        "exit $code",
    )


def _write_program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), encoding="utf-8")
    path.chmod(0o700)


def _stop_ninja(pid: Path) -> bool:
    """End a ninja whose caller was interrupted or waits no longer, and with it its compilers.

    It tells them to end when it is told to; those that do not obey are killed, where the system
    says which they are. Returns whether there was a ninja to be told.
    """
    with contextlib.suppress(OSError, ValueError):
        ninja = int(pid.read_text())
        compilers = _children(ninja)
        os.kill(ninja, signal.SIGTERM)
        end = time.monotonic() + _STOP_SECONDS
        while _runs(ninja) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        for send, process in ((os.kill, ninja), *((os.killpg, group) for group in compilers)):
            with contextlib.suppress(ProcessLookupError):
                send(process, signal.SIGKILL)
        return True
    return False


def _children(process: int) -> list[int]:
    """The processes that one has started; ninja gives each a group of its own."""
    with contextlib.suppress(OSError):  # Linux alone has this
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
        return [int(number) for number in text.split()]
    return []


def _runs(process: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


@contextlib.contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    _set_environment(variables)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _cuda_home(cpp_extension: Any, tools: Toolchain) -> Iterator[None]:
    """Give cpp_extension the toolkit that was found; it has looked only when it was imported."""
    if tools.nvcc is None:
        yield
        return
    before = cpp_extension.CUDA_HOME
    cpp_extension.CUDA_HOME = str(tools.nvcc.root)
    try:
        yield
    finally:
        cpp_extension.CUDA_HOME = before


class _Watch:
    """Follows the log while a build runs, and stops ninja if nothing comes for too long.

    Args:
        log: the file that ninja writes to: a step when it is done.
        tell: called with each line of it.
        pid: the file that holds ninja's number.
    """

    def __init__(self, log: Path, tell: Callable[[str], None], pid: Path) -> None:
        self.seconds = timeout_seconds()
        self.gave_up = False
        self._log, self._tell, self._pid = log, tell, pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        with self._log.open(encoding="utf-8", errors="replace") as stream:
            rest, ended, last = "", False, time.monotonic()
            while not ended:
                ended = self._done.wait(_POLL_SECONDS)
                *lines, rest = (rest + stream.read()).split("\n")
                for line in lines:
                    self._tell(f"{line}\n")
                if lines:
                    last = time.monotonic()
                elif time.monotonic() - last > self.seconds and not self.gave_up:
                    self.gave_up = True  # before ninja ends, and with it the build
                    self.gave_up = _stop_ninja(self._pid)


def _title(command: str, library: Library) -> str:
    """Name the step that a command does: its source, or the link."""
    named = (library.title(unit) for unit in library.units if str(unit.source) in command)
    return next(named, "link")


def _too_slow(library: Library, tools: Toolchain, log: Path, watch: _Watch) -> Exception:
    done = [found["command"] for found in map(_STATUS.match, _lines(log)) if found]
    titles = [library.title(unit) for unit in library.units]
    left = [t for t in titles if t not in {_title(command, library) for command in done}]
    what = f"compiling {', '.join(left)}" if left else "linking"
    return timed_out(
        f"{what} of {kernels_of(library)}", found=str(tools), seconds=watch.seconds, log=log
    )


def _lines(log: Path) -> list[str]:
    """The log's lines; none if somebody has removed it."""
    with contextlib.suppress(FileNotFoundError):
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    return []


def _failure(library: Library, tools: Toolchain, log: Path, error: Exception) -> Exception:
    lines = _lines(log)
    failed = next((i for i, line in enumerate(lines) if line.startswith("FAILED:")), None)
    if failed is None or failed + 1 == len(lines):
        with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as stream:
            stream.write(f"{type(error).__name__}: {error}\n")
        action = "torch.utils.cpp_extension"
        return build_failure(action, library, tools, log, first_error([*lines[1:], str(error)]))
    title = _title(lines[failed + 1], library)
    output = takewhile(lambda line: not _is_ninjas(line), lines[failed + 2 :])
    action = "linking" if title == "link" else f"compiling {title}"
    return build_failure(action, library, tools, log, first_error(list(output)))


def _is_ninjas(line: str) -> bool:
    return _STATUS.match(line) is not None or line.startswith(("FAILED:", "ninja: "))
