"""Let `torch.utils.cpp_extension` write the build file that ninja reads.

`cpp_extension.load` takes the compiler, CUDA and more from the environment, and runs ninja. Here it
is told all of these, by an environment of its own, and runs nothing: that is left to `engine.py`,
which can follow what ninja prints, keep it, and end it in time with all that it has started.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from .errors import build_error
from .specification import LINK_FLAGS, Specification
from .toolchain import Toolchain

_OWN_COMPILER = "./cxx"


def write_build_file(spec: Specification, tools: Toolchain, work: Path, *, jobs: int) -> Path:
    """Write what ninja reads into a fresh folder; return where ninja will put the library.

    Args:
        spec: what to build.
        tools: what to build it with.
        work: the folder.
        jobs: how many compilers will run at once; where that is more than there are sources, nvcc
            is told to use the rest.

    Raises:
        BuildError: torch's helper does not import.
        Exception: whatever that raises.
    """
    helper = _helper(tools, _variables(tools, work))
    built = helper.load(**_arguments(spec, tools, work, jobs))
    file = work / "build.ninja"
    text = file.read_text(encoding="utf-8")
    # A library that is moved to another machine must not be told where this one has its torch.
    text = text.replace(f"-Wl,-rpath,{helper.TORCH_LIB_PATH}", "")
    if tools.nvcc is not None:
        root = str(tools.nvcc.root)
        text = text.replace(f" -L{root}/", f" -L{_word(root)}/")
    for source in spec.sources:
        written = os.path.abspath(source).replace(" ", "$ ")
        text = text.replace(f" {written}\n", f" {_ninja_path(source, work)}\n")
    file.write_text(text, encoding="utf-8")
    return Path(built)


def _helper(tools: Toolchain, variables: dict[str, str]) -> Any:
    """Return a private copy of cpp_extension, with an environment of its own, that runs no program.

    No other thread sees these variables, nor does a process that one starts meanwhile.
    """
    logger = logging.getLogger("torch.utils.cpp_extension")
    this = threading.get_ident()
    logger.addFilter(silence := lambda record: record.thread != this)  # of what it did not find
    try:
        from torch.utils import cpp_extension

        loader, spec = cpp_extension.__loader__, cpp_extension.__spec__
        helper: Any = importlib.util.module_from_spec(spec)
        loader.exec_module(helper)
    except ImportError as error:
        raise build_error(
            "torch.utils.cpp_extension, which builds the kernels, does not import",
            found=str(error),
            expected="setuptools, which it needs",
            remedy="pip install 'setuptools<82'",
        ) from error
    finally:
        logger.removeFilter(silence)
    helper.os = _changed(os, environ=variables, getenv=variables.get)
    helper.sys = _changed(sys, stdout=io.StringIO(), stderr=io.StringIO())
    helper.shlex = _changed(shlex, quote=_word)
    helper.subprocess = _changed(subprocess, run=_do_nothing, check_output=_do_nothing)
    helper.TORCH_LIB_PATH = _word(helper.TORCH_LIB_PATH)
    helper.CUDA_HOME = str(tools.nvcc.root) if tools.nvcc else None
    helper.CUDNN_HOME = None
    return helper


def _changed(module: ModuleType, **changes: object) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(module), **changes})


def _do_nothing(*_: object, **__: object) -> bytes:
    return b""


def _variables(tools: Toolchain, work: Path) -> dict[str, str]:
    """The environment for `cpp_extension.load`."""
    variables = {
        **os.environ,
        "CXX": _compiler(tools, work),
        "TORCH_DONT_CHECK_COMPILER_ABI": "1",
        "TORCH_NO_COMPILER_WRAPPER": "1",
    }
    variables.pop("CC", None)  # nvcc would be given it beside the compiler that was found
    if tools.nvcc is not None:
        variables["PYTORCH_NVCC"] = _word(tools.nvcc.path)
        variables["TORCH_EXTENSION_SKIP_NVCC_GEN_DEPENDENCIES"] = "1"
    return variables


def _compiler(tools: Toolchain, work: Path) -> str:
    """The C++ compiler as one word; a script stands in for a command of several."""
    command = tools.cxx.command
    if len(command) == 1 and _word(command[0]) == command[0]:
        return command[0]
    script = work / _OWN_COMPILER
    script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
    script.chmod(0o700)
    return _OWN_COMPILER


def _arguments(spec: Specification, tools: Toolchain, work: Path, jobs: int) -> dict[str, object]:
    """What `cpp_extension.load` is called with.

    It is asked for a program and given ``-shared``: so it links a library, leaves out
    libtorch_python and does not load the result.
    """
    own = [f"-I{path}" for path in spec.include_dirs]
    linked = [*LINK_FLAGS]
    nvcc = tools.nvcc
    cuda_flags: list[str] = []
    if nvcc is not None:
        extra = [path for path in nvcc.include_dirs if path != (nvcc.root or path) / "include"]
        own += [word for path in extra for word in ("-isystem", str(path))]
        threads = max(1, jobs // len(spec.sources))
        cuda_flags = [f"-ccbin={tools.cxx.program}", f"--threads={threads}"]
        if nvcc.cudart is not None:
            (work / "libcudart.so").symlink_to(nvcc.cudart)
            linked.append("-L.")
    return {
        "name": spec.name,
        "sources": [str(source) for source in spec.sources],
        "extra_cflags": _words([*spec.cxx_flags, *own]),
        "extra_cuda_cflags": _words([*spec.cuda_flags, *own, *cuda_flags]),
        "extra_ldflags": linked,
        "build_directory": str(work),
        "with_cuda": nvcc is not None,
        "is_python_module": False,
        "is_standalone": True,
    }


def _words(flags: Iterable[str]) -> list[str]:
    return [_word(flag) for flag in flags]


def _word(text: str) -> str:
    """Quote a word for the shell that ninja calls, and for ninja."""
    return shlex.quote(text).replace("$", "$$")


def _ninja_path(source: Path, work: Path) -> str:
    """A source as ninja must read it; relative where it is beside the work folder."""
    if source.is_relative_to(work.parent):
        source = Path("..", source.relative_to(work.parent))
    return re.sub(r"[$ :]", r"$\g<0>", str(source))
