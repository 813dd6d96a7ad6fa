"""Let `torch.utils.cpp_extension` write the build file that ninja reads.

`cpp_extension.load` is told all that it would look up for itself (compiler, CUDA, architectures),
and gets to run no ninja: that is left to `engine.py`, which can follow what it prints, keep it, and
end it in time with all that it has started.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import build_error
from .locks import lock_of_process
from .specification import Specification
from .toolchain import Toolchain

_OWN_COMPILER = "./cxx"
_ONLY_WHAT_IS_USED = "-Wl,-dead_strip_dylibs" if sys.platform == "darwin" else "-Wl,--as-needed"

_lock = lock_of_process()
"""cpp_extension reads the environment, which is the process's."""


def write_build_file(spec: Specification, tools: Toolchain, work: Path, *, jobs: int) -> Path:
    """Write ``build.ninja`` into a fresh folder; return where ninja will put the library.

    Args:
        spec: what to build.
        tools: what to build it with.
        work: the folder.
        jobs: how many compilers will run at once; where that is more than there are sources, nvcc
            is told to use the rest.

    Raises:
        BuildError: torch's helper does not import.
        OSError, RuntimeError, ValueError: it failed.
    """
    cpp_extension = _import_cpp_extension()
    arguments = _arguments(spec, tools, work, jobs)
    variables = _variables(tools, work)
    with _lock, _environment(variables), _cuda_home(cpp_extension, tools):
        built = cpp_extension.load(**arguments)
    file = work / "build.ninja"
    rules = file.read_text(encoding="utf-8")
    # A library that is moved to another machine must not be told where this one has its torch.
    rules = rules.replace(f"-Wl,-rpath,{cpp_extension.TORCH_LIB_PATH}", "")
    file.write_text(rules, encoding="utf-8")
    return Path(built)


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


def _arguments(spec: Specification, tools: Toolchain, work: Path, jobs: int) -> dict[str, object]:
    """What `cpp_extension.load` is called with.

    It is asked for a program and given ``-shared``: so it links a library, leaves out
    libtorch_python and does not load the result.
    """
    system: list[str] = []
    linked = ["-shared", _ONLY_WHAT_IS_USED]
    nvcc = tools.nvcc
    cuda_flags: list[str] = []
    if nvcc is not None:
        extra = [path for path in nvcc.include_dirs if path != (nvcc.root or path) / "include"]
        system = [word for path in extra for word in ("-isystem", str(path))]
        threads = max(1, jobs // len(spec.sources))
        cuda_flags = [f"-ccbin={tools.cxx.program}", f"--threads={threads}"]
        if nvcc.cudart is not None:
            (work / "libcudart.so").symlink_to(nvcc.cudart)
            linked.append("-L.")
    return {
        "name": spec.name,
        "sources": [str(source) for source in spec.sources],
        "extra_cflags": _words([*spec.cxx_flags, *system]),
        "extra_cuda_cflags": _words([*spec.cuda_flags, *system, *cuda_flags]),
        "extra_ldflags": linked,
        "extra_include_paths": [str(path) for path in spec.include_dirs],
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


def _variables(tools: Toolchain, work: Path) -> dict[str, str | None]:
    """The environment for `cpp_extension.load`; None for what must not be set."""
    programs = work / "bin"
    programs.mkdir()
    # The ninja that cpp_extension finds runs nothing in this folder, and elsewhere is the real one.
    here, ninja = shlex.quote(str(work)), shlex.quote(tools.ninja)
    _write_program(programs / "ninja", f'[ . -ef {here} ] || exec {ninja} "$@"')
    variables: dict[str, str | None] = {
        "PATH": os.pathsep.join((str(programs), os.environ.get("PATH", os.defpath))),
        "CXX": _compiler(tools, work),
        "CC": None,
        "TORCH_DONT_CHECK_COMPILER_ABI": "1",
        "TORCH_NO_COMPILER_WRAPPER": "1",
    }
    if tools.nvcc is not None:
        variables["PYTORCH_NVCC"] = _word(tools.nvcc.path)
        variables["TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES"] = "1"
    return variables


def _compiler(tools: Toolchain, work: Path) -> str:
    """The C++ compiler as one word; a script stands in for a command of several."""
    command = tools.cxx.command
    if len(command) == 1 and _word(command[0]) == command[0]:
        return command[0]
    _write_program(work / _OWN_COMPILER, f'exec {shlex.join(command)} "$@"')
    return _OWN_COMPILER


def _write_program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
    path.chmod(0o700)


@contextlib.contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables for a moment."""
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
