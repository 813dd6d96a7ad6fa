"""A peer's process: answers calls of ``Worker``'s methods that come through a pipe.

A call is ``(name, *arguments)``, its answer ``("ok", value)``, or ``("unavailable", reason)`` or
``("failed", reason)``. The first answer, which nobody asked for, is the peer's versions and the
seconds of its import. What libraries print on stdout goes to stderr instead. The process ends when
the pipe does.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.case import Job, Memory, Task, Unavailable
from benchmarks.peers.spec import Engine


class Worker:
    """What a process can be asked for, over one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.jobs: dict[str, Job] = {}

    def prepare(self, name: str, task: Task, arrays: Mapping[str, Any]) -> tuple[float, str | None]:
        """Get a task ready and make the first call: its seconds, and the provider."""
        job = self.engine.prepare(task, arrays)
        seconds = job.samples(1)[0]
        self.jobs[name] = job
        return seconds, self.engine.provider(task)

    def samples(self, name: str, count: int) -> list[float]:
        return self.jobs[name].samples(count)

    def outcome(self, name: str) -> Mapping[str, Any]:
        """Arrays as numpy's in float32, numbers as they are."""
        found = self.jobs[name].outcome() or {}
        return {key: _portable(value) for key, value in found.items() if "state" not in key}

    def memory(self, name: str) -> Memory | None:
        return self.jobs[name].memory()

    def release(self, name: str) -> None:
        self.jobs.pop(name, None)
        self.engine.tidy()


def _portable(value: Any) -> Any:
    return value.float().cpu().numpy() if hasattr(value, "cpu") else value


def serve(make: Callable[[], Engine], pipe: Connection) -> None:
    """Load the engine, say what it is, then answer until the pipe ends."""
    start = time.perf_counter()
    try:
        worker = Worker(make())
    except Exception as error:
        traceback.print_exc()
        pipe.send(("failed", describe(error)))
        return
    pipe.send(("ok", (worker.engine.versions, time.perf_counter() - start)))
    with contextlib.suppress(EOFError):
        while True:
            name, *arguments = pipe.recv()
            pipe.send(_answer(getattr(worker, name), arguments))


def _answer(method: Callable[..., Any], arguments: list[Any]) -> tuple[str, Any]:
    try:
        return "ok", method(*arguments)
    except Unavailable as reason:
        return "unavailable", str(reason)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":
            return "unavailable", "out of memory"
        traceback.print_exc()
        return "failed", describe(error)


def describe(error: Exception) -> str:
    """An error in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def main(adapter: str, peer: str, descriptor: str) -> None:
    """Serve a peer of an adapter on a pipe that this process was given."""
    os.dup2(2, 1)
    module = importlib.import_module(adapter)
    (spec,) = [each for each in module.PEERS if each.name == peer]
    if spec.framework:
        importlib.import_module(spec.framework)  # whose own import nobody is charged with
    serve(lambda: module.load(spec), Connection(int(descriptor)))


if __name__ == "__main__":
    main(*sys.argv[1:])
