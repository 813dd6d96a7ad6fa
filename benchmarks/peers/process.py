"""The main process's end of a peer: starts its process, asks, and does not wait for ever."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from benchmarks.case import Memory, Task, Unavailable
from benchmarks.environment import ROOT
from benchmarks.peers.spec import Peer

START_SECONDS = 120.0
CALL_SECONDS = 120.0
TAIL_LINES = 3


class PeerFailed(Unavailable):
    """A peer's process crashed, gave no answer or reported an error; the message says which."""

    def __init__(self, peer: str, problem: str) -> None:
        super().__init__(problem)
        self.peer = peer


class PeerProcess(AbstractContextManager["PeerProcess"]):
    """A peer's process.

    Args:
        peer: who is in it.
        packages: a folder of packages that come before those of this interpreter, or None.
        log: where its stderr goes.
        threads: CPU threads that it may use.

    Attributes:
        versions: of what it loaded.
        import_seconds: how long that took.

    Raises:
        PeerFailed: it does not start, or its library does not load.
    """

    def __init__(self, peer: Peer, packages: Path | None, log: Path, threads: int) -> None:
        self.peer = peer
        self._log = log
        self._pipe, theirs = multiprocessing.Pipe()
        places = [str(ROOT), *([str(packages)] if packages else []), os.environ.get("PYTHONPATH")]
        with log.open("ab") as stderr, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", peer.adapter, peer.name,
                 str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, places)),
                    "OMP_NUM_THREADS": str(threads),
                },
            )  # fmt: skip
        try:
            self.versions, self.import_seconds = self._answer(START_SECONDS, "when it started")
        except PeerFailed:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, method: str, *arguments: Any, limit: float = CALL_SECONDS) -> Any:
        """Call a method of its worker and wait for the answer, ``limit`` seconds at most.

        Raises:
            Unavailable: the peer cannot do it.
            PeerFailed: it reported an error, or crashed, or did not answer and was ended.
        """
        try:
            self._pipe.send((method, *arguments))
        except OSError:
            raise self._ended(f"before {method}") from None
        return self._answer(limit, f"in {method}")

    def _answer(self, limit: float, where: str) -> Any:
        try:
            if not self._pipe.poll(limit):
                self.close()
                raise self._failed(f"no answer within {limit:.0f} s {where}")
            kind, value = self._pipe.recv()
        except (EOFError, OSError):
            raise self._ended(where) from None
        if kind == "unavailable":
            raise Unavailable(value)
        if kind == "failed":
            raise self._failed(f"{where}: {value}")
        return value

    def _failed(self, problem: str) -> PeerFailed:
        return PeerFailed(self.peer.name, problem)

    def _ended(self, where: str) -> PeerFailed:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        said_last = " | ".join(said[-TAIL_LINES:])
        return self._failed(f"its process ended {where} ({how}): {said_last}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        self._pipe.close()

    def __exit__(self, *error: object) -> None:
        self.close()


class RemoteJob:
    """A job of a peer; its first call is made here.

    Raises:
        Unavailable, PeerFailed: as ``PeerProcess.ask``.
    """

    def __init__(
        self, process: PeerProcess, name: str, task: Task, arrays: Mapping[str, Any], limit: float
    ) -> None:
        self.process, self._name = process, name
        self.first_seconds, self.provider = process.ask("prepare", name, task, arrays, limit=limit)

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row, measured in the peer's process."""
        seconds: list[float] = self.process.ask("samples", self._name, count)
        return seconds

    def outcome(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.process.ask("outcome", self._name)
        return found

    def memory(self) -> Memory | None:
        found: Memory | None = self.process.ask("memory", self._name)
        return found

    def release(self) -> None:
        """Let the peer forget the task."""
        if self.process.alive:
            self.process.ask("release", self._name)
