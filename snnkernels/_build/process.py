"""The programs that a build runs: each ends in time, with all that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import BuildError, build_error

TIMEOUT_VARIABLE = "SNNKERNELS_BUILD_TIMEOUT"
DEFAULT_TIMEOUT = 1800.0

_GROUPS = sys.platform != "win32"


def timeout_seconds() -> float:
    """Return how long to wait for a compiler, or for another process that is building.

    It is ``$SNNKERNELS_BUILD_TIMEOUT`` seconds.

    Raises:
        ValueError: the variable is not a number of seconds above zero.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_TIMEOUT
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{TIMEOUT_VARIABLE}: expected seconds above zero, got {text!r}")
    return seconds


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    errors_apart: bool = False,
    folder: Path | None = None,
) -> subprocess.Popen[str]:
    """Start a program in a process group of its own, without input, with its output in pipes.

    Args:
        command: the program and its arguments.
        environment: variables to set beside those of this process.
        errors_apart: give stderr a pipe of its own, rather than that of stdout.
        folder: where it runs.

    Raises:
        OSError: it does not start.
    """
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if errors_apart else subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
        cwd=folder,
        start_new_session=_GROUPS,
    )


def finish(process: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    """Wait for a program of :func:`start`; return what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was stopped.
    """
    with process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            stop(process)
            raise
    return output, errors or ""


def stop(process: subprocess.Popen[str]) -> None:
    """End a program of :func:`start`, and all that it has started."""
    if not _GROUPS:
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def timed_out(what: str, *, found: str, seconds: float, log: Path | None = None) -> BuildError:
    """Make the error of a program that was stopped for taking longer than :func:`timeout_seconds`.

    Args:
        what: what it was doing, as in "compiling ops.cpp".
        found: the program, for people.
        seconds: the limit.
        log: the saved build log.
    """
    return build_error(
        f"{what} took longer than {seconds:g} s, and was stopped",
        found=found,
        expected=f"a compiler that ends within {seconds:g} s",
        remedy=f"raise {TIMEOUT_VARIABLE} (seconds) if it is slow; if it hangs, CXX and CUDA_HOME "
        "choose other compilers",
        log=log,
    )
