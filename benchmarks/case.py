"""What is measured, and the bytes that it has to move; needs nothing but Python.

The bytes model of neurons alone: inference reads x and writes the spikes, 2 accesses per
element-step, 8 bytes in float32. Training reads x and writes the spikes, then reads x and the
upstream gradient and writes the gradient of x: 5 accesses, 20 bytes. States, parameters and
whatever a contender keeps for its backward are not counted: this is the work that every
implementation has to do, so a share of the copy bandwidth says how far it is from the least time
possible. A copy is measured over the same footprint: the distinct tensors of the case (2 in
inference; x, spikes, upstream gradient and gradient of x in training) make up source and
destination, half each, and its bytes are those read plus those written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

MODES = ("training", "inference")
DEVICES = ("cpu", "cuda")
LOW_PRECISION = ("float16", "bfloat16", "autocast")
AUTOCAST = {"cpu": "bfloat16", "cuda": "float16"}
"""What autocast gives where nothing else is asked for."""
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
ACCESSES = {"inference": 2, "training": 5}
TENSORS = {"inference": 2, "training": 4}
GIVEN_ELEMENTS = 4 * 1024**2
"""Elements of x that another process is handed; more are made by repeating samples."""

Shape = tuple[int, ...]


class Unavailable(Exception):
    """A contender has no way to do a case; the message is the reason."""


@dataclass(frozen=True)
class Case:
    """One piece of work that contenders do in turns.

    ``shape`` is that of the input, ``[T, B, ...]`` where there is time; ``mode`` is "training"
    (forward and backward) or "inference"; ``variant`` tells it from other cases of its shape;
    ``options`` are what its workload wants to know besides.
    """

    workload: str
    shape: Shape
    mode: str = "training"
    dtype: str = "float32"
    device: str = "cpu"
    variant: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> str:
        """The shape as a reader knows it."""
        return f"[{', '.join(map(str, self.shape))}]"

    @property
    def label(self) -> str:
        """What tells it from the others of its workload."""
        return " ".join(filter(None, [self.variant, self.size, self.dtype, self.mode]))

    def __str__(self) -> str:
        return f"{self.device} {self.workload} {self.label}"

    @property
    def input_dtype(self) -> str:
        """The dtype of x: under autocast that which the layer before would give."""
        alone = self.workload == "neuron"
        wide = AUTOCAST[self.device] if alone else "float32"
        return wide if self.dtype == "autocast" else self.dtype

    @property
    def few_rows(self) -> int:
        """How many samples of the batch are distinct where x is handed to another process."""
        return min(self.shape[1], max(1, GIVEN_ELEMENTS * self.shape[1] // math.prod(self.shape)))

    @property
    def input_bytes(self) -> int:
        return math.prod(self.shape) * ITEM_BYTES[self.input_dtype]

    @property
    def traffic_bytes(self) -> int:
        """Bytes that neurons alone read and write at least."""
        return ACCESSES[self.mode] * self.input_bytes

    @property
    def copy_bytes(self) -> int:
        """Bytes of the distinct tensors, which a copy of that footprint reads and writes."""
        return TENSORS[self.mode] * self.input_bytes

    def columns(self) -> dict[str, Any]:
        """The case as columns of a table."""
        return {**{key: getattr(self, key) for key in KEYS}, "shape": list(self.shape)}


KEYS = tuple(field.name for field in fields(Case) if field.compare)
"""The columns that tell cases apart."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one call.

    ``peak_extra`` is the peak beyond inputs and outputs. ``saved`` is what a forward leaves for its
    backward beside both; None where there is none.
    """

    peak_extra: int
    saved: int | None = None


@dataclass(frozen=True)
class Neuron:
    """The neuron that a contender computes: "if", "lif", "plif" or "cuba", and its parameters."""

    kind: str = "lif"
    tau: float = 2.0
    decay_input: bool = True
    v_reset: float | None = 0.0
    detach_reset: bool = False
    surrogate: str = "ATan"
    alpha: float | None = None
    """The surrogate's first parameter; None for its default."""


@dataclass(frozen=True)
class Task:
    """A case by the equations of ``neuron``: what an engine is asked to prepare.

    ``rows`` samples of x are given, repeated to its batch, and handed back; None for all.
    """

    case: Case
    neuron: Neuron = Neuron()
    rows: int | None = None


class Job(Protocol):
    """A contender that stands ready for one case, here or in a process of its own."""

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...

    def outcome(self) -> Mapping[str, Any] | None:
        """What a call gives, as arrays or tensors: "output" and what else is to be compared.

        None where nothing is.
        """
        ...

    def memory(self) -> Memory | None:
        """The memory of one call, None where that cannot be had."""
        ...
