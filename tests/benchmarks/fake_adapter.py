"""An adapter for tests, whose peers behave and misbehave in a few ways; it needs numpy alone."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.case import Job, Memory, Task, Unavailable
from benchmarks.peers.spec import Peer

KINDS = (
    "full",
    "native",
    "faithful",
    "flipped",
    "loud",
    "crashes",
    "hangs",
    "raises",
    "refuses",
    "late",
)
PEERS = (
    *(Peer(kind, f"Fake {kind}", None, framework="") for kind in KINDS),
    Peer("chooses", "Fake chooser", None, framework="", provider="fast"),
    Peer("short", "Fake short", None, framework="", max_steps=2),
    Peer("installed", "Fake installed", "installed"),
    Peer("missing", "Fake missing", "missing"),
    Peer("unloadable", "Fake unloadable", None, framework=""),
)


def load(peer: Peer) -> FakeEngine:
    if peer.name == "unloadable":
        raise ImportError("nothing here")
    return FakeEngine(peer)


class OutOfMemoryError(Exception):
    """Of the name that torch gives it."""


class FakeEngine:
    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.versions = {"fake": "1.0", "pid": str(os.getpid())}
        if peer.name == "loud":
            print("this is no JSON")
        if peer.requirements:
            import fakepeer
            import torch

            self.versions["fake"] = fakepeer.VERSION
            self.versions["torch"] = torch.__version__

    def provider(self, task: Task) -> str | None:
        return "slow" if self.peer.provider else None

    def tidy(self) -> None:
        pass

    def prepare(self, task: Task, arrays: Mapping[str, Any]) -> Job:
        if self.peer.name == "crashes":
            os.write(2, b"last words\n")
            os._exit(3)
        if self.peer.name == "hangs":
            time.sleep(600)
        if self.peer.name == "raises":
            raise ValueError("bad luck\nwith details")
        if self.peer.name == "refuses":
            raise Unavailable("does not do this")
        return FakeJob(self.peer.name, arrays)


class FakeJob:
    def __init__(self, kind: str, arrays: Mapping[str, Any]) -> None:
        self.kind, self.arrays, self.calls = kind, arrays, 0

    def samples(self, count: int) -> list[float]:
        self.calls += count
        if self.kind == "late" and self.calls > 3:
            os._exit(4)
        if self.kind == "full" and self.calls > 3:
            raise OutOfMemoryError
        return [0.001] * count

    def outcome(self) -> dict[str, Any]:
        output = (self.arrays["x"] > 1).astype(np.float32)
        if self.kind == "flipped":
            output = 1 - output
        found = {"output": output}
        if "upstream" in self.arrays:
            found["gradient"] = self.arrays["upstream"].ravel()
        return found

    def memory(self) -> Memory:
        return Memory(8, 4)
