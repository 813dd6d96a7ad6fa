"""The programs that a build runs: each ends in time, with all that it has started."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

TIMEOUT_VARIABLE = "SNNKERNELS_BUILD_TIMEOUT"
DEFAULT_TIMEOUT = 1800.0

_SESSIONS = sys.platform != "win32"
_PROCESSES = Path("/proc")  # where the system is Linux
_STOP_SECONDS = 5.0


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
    return min(seconds, threading.TIMEOUT_MAX)


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


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    errors_apart: bool = False,
    folder: Path | None = None,
) -> subprocess.Popen[str]:
    """Start a program in a session of its own, without input, with its output in pipes.

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
        start_new_session=_SESSIONS,
    )


def finish(process: subprocess.Popen[str], seconds: float) -> tuple[str, str]:
    """Wait for a program of ``start``; return what it wrote to stdout and stderr.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was stopped.
    """
    with _stopped_by_errors(process):
        output, errors = process.communicate(timeout=seconds)
        return output, errors or ""


def follow(process: subprocess.Popen[str], seconds: float, tell: Callable[[str], None]) -> None:
    """Wait for a program of ``start``, and hand on each line as it comes.

    Raises:
        subprocess.TimeoutExpired: it wrote nothing for so many seconds, and was stopped.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    with _stopped_by_errors(process):
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()
        try:
            while line := lines.get(timeout=seconds):
                tell(line)
        except queue.Empty:
            raise subprocess.TimeoutExpired(process.args, seconds) from None
        process.wait(seconds)


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Put each line into the queue, and last an empty one."""
    assert process.stdout is not None
    with contextlib.suppress(ValueError):  # it was closed: the program has been stopped
        for line in process.stdout:
            lines.put(line)
    lines.put("")


@contextlib.contextmanager
def _stopped_by_errors(process: subprocess.Popen[str]) -> Iterator[None]:
    with process:
        try:
            yield
        except BaseException:
            stop(process)
            raise


def stop(process: subprocess.Popen[str]) -> None:
    """End a program of ``start``, and all that it has started.

    Ninja hands on what it is told, and each of its compilers has a group of its own; what does not
    end when it is told to is killed, where the system says what runs in the session.
    """
    if not _SESSIONS:
        process.kill()
        return
    _signal({process.pid}, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    left = _groups(session=process.pid) if _PROCESSES.is_dir() else {process.pid}
    _signal(left, signal.SIGKILL)


def _groups(session: int) -> set[int]:
    found = set()
    for folder in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            process = int(folder.name)
            if os.getsid(process) == session:
                found.add(os.getpgid(process))
    return found


def _signal(groups: Iterable[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
