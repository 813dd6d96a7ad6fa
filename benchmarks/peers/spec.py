"""What the main process and the peers' processes have to agree on; needs nothing but Python."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

LOW_PRECISION = ("float16", "bfloat16", "autocast")


class Unsupported(Exception):
    """A peer has no way to do a task; the message is the reason."""


@dataclass(frozen=True)
class Neuron:
    """The LIF that a peer computes, in the words of ``snnkernels.functional.lif``."""

    tau: float = 2.0
    decay_input: bool = True
    v_reset: float | None = 0.0
    detach_reset: bool = False
    surrogate: str = "ATan"
    alpha: float | None = None
    """The surrogate's first parameter; None for its default."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs installed; every requirement is pinned, none brings its own along.

    ``{cuda_major}`` in a requirement stands for the major CUDA version of torch. ``sources`` are
    compiled on the machine against the torch there, with ``build_variables`` set.
    """

    requirements: tuple[str, ...]
    sources: tuple[str, ...] = ()
    build_requirements: tuple[str, ...] = ()
    build_variables: Mapping[str, str] = field(default_factory=dict)
    shares_torch: bool = True
    """Whether the environment sees the torch of the interpreter that made it."""


@dataclass(frozen=True)
class Peer:
    """One thing to measure.

    ``environment`` is None for what runs where the benchmark itself does. ``neuron`` says which of
    our settings gives the same equations; ``differs`` says in what it differs from all of them.
    ``provider`` is the implementation that has to run, where a library chooses among several.
    """

    name: str
    title: str
    environment: Environment | None
    neuron: Neuron = Neuron()
    differs: str = ""
    devices: tuple[str, ...] = ("cpu", "cuda")
    workloads: tuple[str, ...] = ("neuron", "linear", "shd", "conv")
    dtypes: tuple[str, ...] = ("float32", *LOW_PRECISION)
    provider: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    compiles: bool = False
    """Whether its first call compiles, and is worth a column of its own."""
    max_steps: int | None = None
    """Steps above which it is left out, since compiling an unrolled loop takes too long."""


@dataclass(frozen=True)
class Task:
    """What a peer is asked to prepare.

    ``shape`` is [T, B, ...] of the input, of which ``rows`` samples are given and repeated to B.
    ``mode`` is "training" (forward and backward) or "inference".
    """

    workload: str
    shape: tuple[int, ...]
    mode: str = "training"
    dtype: str = "float32"
    device: str = "cpu"
    layout: str = ""
    rows: int = 0
    width: int = 0
    neuron: Neuron = Neuron()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def input_dtype(self) -> str:
        """Under autocast the tensors themselves are float32."""
        return "float32" if self.dtype == "autocast" else self.dtype

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Task:
        fields = {**found, "shape": tuple(found["shape"]), "neuron": Neuron(**found["neuron"])}
        return cls(**fields)


class Job(Protocol):
    """A task that stands ready in a peer's process. Arrays are numpy's, in float32."""

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...

    def outcome(self) -> Mapping[str, Any]:
        """What a call gives: "output", in training also "gradient"; whole numbers or arrays."""
        ...

    def memory(self) -> Mapping[str, int | None]:
        """Bytes of one call: "peak_extra" and "saved"; empty if that cannot be had."""
        ...


class Engine(Protocol):
    """A peer, loaded in its process."""

    versions: dict[str, str]
    """Versions of what runs, "torch" among them where there is one."""

    def prepare(self, task: Task, arrays: Mapping[str, Any]) -> Job:
        """Get a task ready, up to but without its first call.

        Raises:
            Unsupported: the peer has no way to do it.
        """
        ...

    def provider(self, task: Task) -> str | None:
        """The implementation that runs, where the library tells."""
        ...

    def tidy(self) -> None:
        """Give back memory that was kept for later; others use the same device."""
        ...


def steps(shape: Sequence[int]) -> int:
    """T of a shape [T, B, ...]."""
    return shape[0]
