"""The main process's end of a peer: starts its process, asks, and does not wait for ever."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.environment import ROOT
from benchmarks.memory import Memory
from benchmarks.peers.spec import Peer, Task

START_SECONDS = 120.0
CALL_SECONDS = 120.0
TAIL_LINES = 3


class PeerFailed(Exception):
    """A peer's process crashed, gave no answer or reported an error; the message says which."""

    def __init__(self, peer: str, problem: str) -> None:
        super().__init__(problem)
        self.peer = peer


class PeerUnsupported(Exception):
    """A peer cannot do a task; the message is its reason."""


@dataclass(frozen=True)
class Hello:
    """What a process says once it has loaded its peer."""

    versions: Mapping[str, str]
    import_seconds: float


class PeerProcess:
    """A peer's process.

    Args:
        peer: who is in it.
        adapter: the module that has ``PEERS`` and ``load``.
        python: the interpreter of its environment.
        log: where its stderr goes.
        threads: CPU threads that it may use.

    Raises:
        PeerFailed: it does not start, or its library does not load.
    """

    def __init__(self, peer: Peer, adapter: str, python: Path, log: Path, threads: int) -> None:
        self.peer = peer
        self._log = log
        self._buffer = b""
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [str(python), "-m", "benchmarks.peers.worker", adapter, peer.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=ROOT,
                env={
                    **os.environ,
                    **peer.variables,
                    "PYTHONPATH": path,
                    "OMP_NUM_THREADS": str(threads),
                },
            )
        self.hello = self._greet()

    def _greet(self) -> Hello:
        try:
            said = self._read(START_SECONDS, "when it started")
        except PeerFailed:
            self.close()
            raise
        return Hello(said["versions"], said["import_seconds"])

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, op: str, *, limit: float = CALL_SECONDS, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer, ``limit`` seconds at most.

        Raises:
            PeerUnsupported: the peer cannot do it.
            PeerFailed: it reported an error, or crashed, or did not answer and was ended.
        """
        assert self._process.stdin is not None
        line = json.dumps({"op": op, **request}) + "\n"
        try:
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failed(self._epitaph(f"before {op}")) from None
        return self._read(limit, f"in {op}")

    def _read(self, limit: float, where: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._read_line(limit, where))
        if answer["ok"]:
            return answer
        if answer.get("unsupported"):
            raise PeerUnsupported(answer["error"])
        raise self._failed(f"{where}: {answer['error']}")

    def _read_line(self, limit: float, where: str) -> bytes:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        end = time.monotonic() + limit
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([pipe], [], [], max(end - time.monotonic(), 0))
            if not ready:
                self.close()
                raise self._failed(f"no answer within {limit:.0f} s {where}")
            said = os.read(pipe, 1 << 16)
            if not said:
                raise self._failed(self._epitaph(where))
            self._buffer += said
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _failed(self, problem: str) -> PeerFailed:
        return PeerFailed(self.peer.name, problem)

    def _epitaph(self, where: str) -> str:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"its process ended {where} ({how}): {' | '.join(said[-TAIL_LINES:])}"

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class RemoteRun:
    """A run of a peer, as ``benchmarks.contenders.Run`` asks for; its first call is made here.

    Raises:
        PeerFailed, PeerUnsupported: as :meth:`PeerProcess.ask`.
    """

    def __init__(
        self,
        process: PeerProcess,
        task: Task,
        arrays: Mapping[str, Path],
        name: str,
        *,
        limit: float,
    ) -> None:
        self._process = process
        self._name = name
        files = {key: str(path) for key, path in arrays.items()}
        said = process.ask("prepare", limit=limit, id=name, task=task.to_json(), arrays=files)
        self.first_seconds: float = said["first_seconds"]
        self.provider: str | None = said["provider"]

    @property
    def compile_seconds(self) -> float:
        return self.first_seconds

    @property
    def process(self) -> int:
        """The id of the process that it runs in."""
        return self._process.pid

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row, measured in the peer's process."""
        seconds: list[float] = self._process.ask("samples", id=self._name, count=count)["seconds"]
        return seconds

    def outcome(self, folder: Path) -> dict[str, Any]:
        """The result of one call: numbers, and arrays in float32."""
        found = self._process.ask("outcome", id=self._name, folder=str(folder))["outcome"]
        return {key: _taken(value) for key, value in found.items()}

    def memory(self) -> Memory | None:
        """The memory of one call, None if the peer cannot tell."""
        found = self._process.ask("memory", id=self._name)["memory"]
        return Memory(**found) if found else None

    def release(self) -> None:
        """Let the peer forget the task."""
        if self._process.alive:
            self._process.ask("release", id=self._name)


def _taken(value: Any) -> Any:
    """An array that was handed over in a file, which goes; numbers as they are."""
    if not isinstance(value, str):
        return value
    array = np.load(value)
    Path(value).unlink()
    return array
