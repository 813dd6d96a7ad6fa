"""The peers, as the adapters' files name them."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass

from benchmarks.peers import adapters
from benchmarks.peers.spec import Peer

FIRST = "snnkernels"
"""The adapter that is ours, which everyone is compared with."""


@dataclass(frozen=True)
class Entry:
    """A peer and the module that runs it."""

    peer: Peer
    adapter: str


def entries() -> list[Entry]:
    """Every peer, ours first, the others by the names of their files."""
    names = sorted(
        (module.name for module in pkgutil.iter_modules(adapters.__path__)),
        key=lambda name: (name != FIRST, name),
    )
    found = []
    for name in names:
        module = f"{adapters.__name__}.{name}"
        found += [Entry(peer, module) for peer in importlib.import_module(module).PEERS]
    return found
