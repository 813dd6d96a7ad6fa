"""What the main process and the peers' processes have to agree on; needs nothing but Python."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from benchmarks.case import LOW_PRECISION, Job, Neuron, Task

FIRST = "snnkernels"
"""The adapter that is ours, which everyone is compared with."""


@dataclass(frozen=True)
class Peer:
    """One thing to measure.

    ``requirements`` names a file of ``requirements/``, None for what runs with what the benchmark
    itself has. ``neuron`` says which of our settings gives the same equations; ``differs`` says in
    what it differs from all of them. ``provider`` is the implementation that has to run, where a
    library chooses among several.
    """

    name: str
    title: str
    requirements: str | None
    neuron: Neuron = field(default_factory=Neuron)
    differs: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    workloads: tuple[str, ...] = ("neuron", "linear", "shd", "conv")
    dtypes: tuple[str, ...] = ("float32", *LOW_PRECISION)
    provider: str | None = None
    framework: str = "torch"
    """What is imported before its import is timed."""
    max_steps: int | None = None
    """Steps above which it is left out, since compiling an unrolled loop takes too long."""
    build: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Variables for pip where it builds from source."""
    adapter: str = field(default="", compare=False)
    """The module that runs it, as ``peers`` found it."""


class Engine(Protocol):
    """A peer, loaded in its process."""

    versions: dict[str, str]
    """Versions of what runs, "torch" among them where there is one."""

    def prepare(self, task: Task, arrays: Mapping[str, Any]) -> Job:
        """Get a task ready, up to but without its first call.

        Arrays are numpy's, in float32. The job's outcome has, of a sequence, the rows that were
        given, and gradients of all that is learnt in one row as "gradient".

        Raises:
            Unavailable: the peer has no way to do it.
        """
        ...

    def provider(self, task: Task) -> str | None:
        """The implementation that runs, where the library tells."""
        ...

    def tidy(self) -> None:
        """Give back memory that was kept for later; others use the same device."""
        ...


def peers() -> list[Peer]:
    """Every peer, ours first, the others by the names of their files."""
    from benchmarks.peers import adapters

    names = sorted(
        (module.name for module in pkgutil.iter_modules(adapters.__path__)),
        key=lambda name: (name != FIRST, name),
    )
    modules = [importlib.import_module(f"{adapters.__name__}.{name}") for name in names]
    return [replace(peer, adapter=each.__name__) for each in modules for peer in each.PEERS]
