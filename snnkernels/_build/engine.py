"""Build what is planned: the library, a neuron by itself, and what goes into a wheel.

Torch's helper writes the build file (`build_file.py`), ninja runs the compilers.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from . import process
from .build_file import write_build_file
from .cache import LOG, Manifest
from .checks import check_arithmetic, check_library
from .errors import BuildError, build_error
from .plan import Plan
from .progress import BuildProgress
from .specification import Specification
from .toolchain import Toolchain

_STATUS = re.compile(r"\[\d+/\d+ [\d.]+\] (?P<command>.*)")
_NINJA_STATUS = "[%f/%t %e] "
_EXCERPT_LINES = 12


def make(plan: Plan, folder: Path, root: Path, *, why: str) -> Manifest:
    """Build a library into the folder of an entry, check it, and say what it is.

    Args:
        plan: what to build.
        folder: an empty folder.
        root: where the log is, until the build has succeeded.
        why: why it is built, for the progress line.

    Raises:
        BuildError: the tools do not compute as they must, a command failed or took too long, there
            is nothing to build, torch's helper does not work, or the result does not load.
        ValueError: a variable that says how to build can't be read.
    """
    logs = root / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{plan.name}.log"
    reason = f"{why} ({plan.tools}, for {plan.target})"
    with BuildProgress(plan.what, reason, plan.steps) as progress:
        check_arithmetic(plan.spec, plan.tools, folder)
        path = _build(plan.spec, plan.tools, folder, log=log, progress=progress)
        if plan.runs_here:
            check_library(path, plan.spec, plan.tools, log)
    with contextlib.suppress(FileNotFoundError):  # somebody cleared the logs
        log.replace(folder / LOG)
    return plan.manifest


def _build(
    spec: Specification, tools: Toolchain, folder: Path, *, log: Path, progress: BuildProgress
) -> Path:
    """Compile and link a library into a folder; the log receives every command and its output."""
    if not spec.sources:
        raise build_error(
            f"there are no {spec.device_type.upper()} kernel sources to build",
            found=f"no sources for {spec.name}",
            expected=f"sources under csrc/{spec.device_type}",
            remedy="reinstall snnkernels; its csrc folder is incomplete",
        )
    jobs = process.job_count()
    spec = spec.written_into(folder)
    work = folder / "build"
    work.mkdir()
    log.write_text(f"torch {tools.torch.version}, {tools}, {tools.ninja}\n", encoding="utf-8")
    try:
        built = write_build_file(spec, tools, work, jobs=jobs)
    except BuildError:
        raise
    except Exception as error:  # whatever torch's helper raises
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{type(error).__name__}: {error}\n")
        action = "torch.utils.cpp_extension"
        raise _failed(action, spec, tools, log, str(error).splitlines()) from error
    _run_ninja(spec, tools, work, jobs, log, progress)
    target = folder / spec.file_name
    built.replace(target)
    shutil.rmtree(work)
    return target


def _run_ninja(
    spec: Specification,
    tools: Toolchain,
    work: Path,
    jobs: int,
    log: Path,
    progress: BuildProgress,
) -> None:
    seconds = process.timeout_seconds()
    command = (tools.ninja, "-v", f"-j{jobs}")
    variables = {"NINJA_STATUS": _NINJA_STATUS, "CLICOLOR_FORCE": "0"}
    lines: list[str] = []
    with log.open("a", encoding="utf-8", buffering=1) as stream:

        def tell(line: str) -> None:
            lines.append(line.rstrip("\n"))
            stream.write(line)
            progress.output(line)
            if status := _STATUS.match(line):
                progress.step(_step(status["command"], spec))

        try:
            ninja = process.start(command, environment=variables, folder=work)
        except OSError as error:
            raise _failed("ninja", spec, tools, log, [str(error)]) from error
        try:
            process.follow(ninja, seconds, tell)
        except subprocess.TimeoutExpired as error:
            raise _too_slow(spec, tools, log, lines, seconds) from error
    if ninja.returncode:
        raise _failure(spec, tools, log, [*lines, f"ninja ended with {ninja.returncode}"])


def _step(command: str, spec: Specification) -> str:
    """Name the step that a command does: its source, or the link."""
    named = (spec.title(source) for source in spec.sources if f"/{source.name}" in command)
    return next(named, "link")


def _too_slow(
    spec: Specification, tools: Toolchain, log: Path, lines: Sequence[str], seconds: float
) -> BuildError:
    done = {_step(found["command"], spec) for found in map(_STATUS.match, lines) if found}
    left = [title for title in map(spec.title, spec.sources) if title not in done]
    what = f"compiling {', '.join(left)}" if left else "linking"
    return build_error(
        f"{what} of {spec.kernels} took longer than {seconds:g} s, and was stopped",
        found=str(tools),
        expected=f"a compiler that ends within {seconds:g} s",
        remedy=f"raise {process.TIMEOUT_VARIABLE} (seconds) if it is slow; if it hangs, CXX and "
        "CUDA_HOME choose other compilers",
        log=log,
    )


def _failure(spec: Specification, tools: Toolchain, log: Path, lines: Sequence[str]) -> BuildError:
    """The error of the first command that failed, else that of ninja itself."""
    failed = next((i for i, line in enumerate(lines) if line.startswith("FAILED:")), None)
    if failed is None or failed + 1 == len(lines):
        return _failed("ninja", spec, tools, log, lines)
    step = _step(lines[failed + 1], spec)
    output = takewhile(lambda line: not _is_ninjas(line), lines[failed + 2 :])
    action = "linking" if step == "link" else f"compiling {step}"
    return _failed(action, spec, tools, log, list(output))


def _is_ninjas(line: str) -> bool:
    return _STATUS.match(line) is not None or line.startswith(("FAILED:", "ninja"))


def _failed(
    action: str, spec: Specification, tools: Toolchain, log: Path, output: Sequence[str]
) -> BuildError:
    return build_error(
        f"{action} failed while building {spec.kernels}",
        found=f"{tools}, torch {tools.torch.version}",
        expected="a C++17 compiler with its standard library, and torch's headers",
        remedy=f"python -m snnkernels build --device {spec.device_type} --force, after mending "
        "the error below (CXX, CUDA_HOME choose other compilers)",
        log=log,
        excerpt=_first_error(output),
    )


def _first_error(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines that tell what went wrong: from the first error on, else the last ones."""
    marks = ("error", "fatal", "undefined reference", "killed", "cannot", "no space left")
    for index, line in enumerate(lines):
        if any(mark in line.lower() for mark in marks):
            return lines[index : index + _EXCERPT_LINES]
    return lines[-_EXCERPT_LINES:]
