"""A peer's process: reads one JSON request a line, answers with one JSON line.

    {"op": "prepare", "id": 3, "task": {...}, "arrays": {"x": "x.npy", ...}}
    {"ok": true, "first_seconds": 0.2, ...}        or {"ok": false, "error": "..."}

What libraries print on stdout goes to stderr instead. The process ends with its input.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from benchmarks.peers.spec import Engine, Job, Task, Unsupported


class Worker:
    """The requests that a process answers, over one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.jobs: dict[str, Job] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "prepare": self.prepare,
            "samples": self.samples,
            "outcome": self.outcome,
            "memory": self.memory,
            "release": self.release,
        }
        return operations[request["op"]](request)

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Load the arrays, get the task ready and make the first call."""
        import numpy

        task = Task.from_json(request["task"])
        arrays = {name: numpy.load(path) for name, path in request["arrays"].items()}
        job = self.engine.prepare(task, arrays)
        first = job.samples(1)[0]
        self.jobs[request["id"]] = job
        return {"first_seconds": first, "provider": self.engine.provider(task)}

    def samples(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"seconds": self.jobs[request["id"]].samples(request["count"])}

    def outcome(self, request: dict[str, Any]) -> dict[str, Any]:
        """Save the arrays of a call to files, hand over numbers as they are."""
        import numpy

        found: dict[str, Any] = {}
        for name, value in self.jobs[request["id"]].outcome().items():
            if isinstance(value, (int, float)):
                found[name] = value
                continue
            path = Path(request["folder"]) / f"{request['id']}-{name}.npy"
            numpy.save(path, value)
            found[name] = str(path)
        return {"outcome": found}

    def memory(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"memory": dict(self.jobs[request["id"]].memory())}

    def release(self, request: dict[str, Any]) -> dict[str, Any]:
        self.jobs.pop(request["id"], None)
        self.engine.tidy()
        return {}


def serve(make: Callable[[], Engine], requests: TextIO, replies: TextIO) -> None:
    """Load the engine, say what it is, then answer until the requests end."""

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    start = time.perf_counter()
    try:
        worker = Worker(make())
    except Exception as error:
        traceback.print_exc()
        reply({"ok": False, "error": describe(error)})
        return
    seconds = time.perf_counter() - start
    reply({"ok": True, "versions": dict(worker.engine.versions), "import_seconds": seconds})
    for line in requests:
        try:
            reply({"ok": True, **worker.answer(json.loads(line))})
        except Unsupported as reason:
            reply({"ok": False, "unsupported": True, "error": str(reason)})
        except Exception as error:
            traceback.print_exc()
            reply({"ok": False, "error": describe(error)})


def describe(error: Exception) -> str:
    """An error in one line."""
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__


def main(adapter: str, peer: str) -> None:
    """Serve a peer of an adapter on this process's pipes."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module = importlib.import_module(adapter)
    (spec,) = [each for each in module.PEERS if each.name == peer]
    serve(lambda: module.load(spec), sys.stdin, replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
