"""How much of the processors others took while something was timed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
BUSY_FIELDS = (0, 1, 2, 5, 6, 7)
"""user, nice, system, irq, softirq and stolen in the first line of /proc/stat."""


class Watch:
    """Counts processor time from its making on, of the machine and of some processes.

    ``cores()`` is how many cores all others kept busy on average, what a hypervisor took from the
    machine included; None where the system does not tell.
    """

    def __init__(self, processes: Iterable[int], proc: Path = PROC) -> None:
        self._processes, self._proc = [os.getpid(), *processes], proc
        self._start, self._foreign = time.monotonic(), self._others()

    def cores(self) -> float | None:
        now = self._others()
        if now is None or self._foreign is None:
            return None
        seconds = max(time.monotonic() - self._start, 1e-9)
        return max(now - self._foreign, 0.0) / seconds

    def _others(self) -> float | None:
        """Processor seconds of everything but the processes; None if they cannot be read."""
        try:
            fields = self._proc.joinpath("stat").read_text().splitlines()[0].split()[1:]
            own = [self._ticks(process) for process in self._processes]
        except (OSError, ValueError, IndexError):
            return None
        return (sum(int(fields[i]) for i in BUSY_FIELDS) - sum(own)) / os.sysconf("SC_CLK_TCK")

    def _ticks(self, process: int) -> int:
        """Processor time of a process; its name, in brackets, may hold anything."""
        said = self._proc.joinpath(str(process), "stat").read_text()
        user, system = said.rpartition(")")[2].split()[11:13]
        return int(user) + int(system)
