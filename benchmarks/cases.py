"""What is measured: one case is a neuron, dtype, shape, mode, device and surrogate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import torch

Shape = tuple[int, ...]

NEURONS = ("if", "lif", "plif", "cuba")
DTYPES = ("float32", "float64", "float16", "bfloat16")
MODES = ("training", "inference")
DEVICES = ("cpu", "cuda")
SHAPES: tuple[Shape, ...] = (
    (4, 32, 4096),
    (16, 32, 1024),
    (16, 32, 16384),
    (64, 32, 1024),
    (128, 64, 4096),
    (500, 16, 512),
)
QUICK_SHAPES: tuple[Shape, ...] = ((4, 32, 4096), (16, 32, 1024))
TARGET_SHAPES: tuple[Shape, ...] = ((16, 32, 1024), (64, 32, 1024))
DEFAULT_SURROGATE = "ATan"


@dataclass(frozen=True)
class Case:
    """One thing to time.

    ``shape`` is ``[T, B, ...]``; ``mode`` is ``"training"`` (forward and backward, a dense random
    upstream gradient, x requires grad) or ``"inference"`` (forward under ``torch.no_grad``).
    """

    neuron: str
    dtype: str
    shape: Shape
    mode: str
    device: str
    surrogate: str = DEFAULT_SURROGATE

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def elements(self) -> int:
        """Element-steps: T times the number of neurons."""
        return math.prod(self.shape)

    @property
    def input_bytes(self) -> int:
        """Bytes of x."""
        return self.elements * self.torch_dtype.itemsize

    @property
    def shape_text(self) -> str:
        return "[" + ",".join(map(str, self.shape)) + "]"

    @property
    def layer(self) -> str:
        """Neuron, surrogate, dtype and shape: the case without its device and mode."""
        return f"{self.neuron} {self.surrogate} {self.dtype} {self.shape_text}"

    def __str__(self) -> str:
        return f"{self.device} {self.mode} {self.layer}"

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "shape": list(self.shape)}


@dataclass(frozen=True)
class Axes:
    """The values asked for along each axis; None where the user said nothing."""

    neurons: Sequence[str] | None = None
    dtypes: Sequence[str] | None = None
    shapes: Sequence[Shape] | None = None
    modes: Sequence[str] | None = None

    @property
    def untouched(self) -> bool:
        return not any((self.neurons, self.dtypes, self.shapes, self.modes))


def parse_shape(text: str) -> Shape:
    """Read ``"16,32,1024"`` or ``"[16, 32, 1024]"`` as ``(16, 32, 1024)``.

    Raises:
        ValueError: not two or more positive integers separated by commas.
    """
    try:
        shape = tuple(int(part) for part in text.strip().strip("[]()").split(","))
    except ValueError:
        shape = ()
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"shape: got {text!r}, expected T,B,... as two or more positive integers "
            "separated by commas, such as 16,32,1024"
        )
    return shape


def product(
    device: str,
    surrogate: str,
    *,
    neurons: Sequence[str] = ("lif",),
    dtypes: Sequence[str] = ("float32",),
    shapes: Sequence[Shape] = SHAPES,
    modes: Sequence[str] = MODES,
) -> list[Case]:
    """Every combination of the given axes on one device."""
    return [
        Case(neuron, dtype, shape, mode, device, surrogate)
        for mode, neuron, dtype, shape in itertools.product(modes, neurons, dtypes, shapes)
    ]


def full_selection(device: str, surrogate: str, axes: Axes = Axes()) -> list[Case]:
    """Neurons x dtypes x shapes x modes, restricted to the axes given."""
    return product(
        device,
        surrogate,
        neurons=axes.neurons or NEURONS,
        dtypes=axes.dtypes or DTYPES,
        shapes=axes.shapes or SHAPES,
        modes=axes.modes or MODES,
    )


def default_selection(device: str, surrogate: str) -> list[Case]:
    """Rows that stand for the whole: every shape once, every neuron and dtype at a usual shape."""
    usual = [(16, 32, 1024)]
    return _unique(
        product(device, surrogate)
        + target_selection(device)
        + product(device, surrogate, neurons=NEURONS, shapes=usual)
        + product(device, surrogate, dtypes=DTYPES, shapes=usual)
        + product(device, surrogate, dtypes=["float16", "bfloat16"], shapes=[(16, 32, 16384)])
    )


def quick_selection(device: str, surrogate: str, axes: Axes = Axes()) -> list[Case]:
    """A handful of small rows; an axis that is given replaces the quick one."""
    rows = product(
        device,
        surrogate,
        neurons=axes.neurons or ("lif",),
        dtypes=axes.dtypes or ("float32",),
        shapes=axes.shapes or QUICK_SHAPES,
        modes=axes.modes or MODES,
    )
    if axes.untouched:
        rows += product(
            device,
            surrogate,
            neurons=NEURONS,
            dtypes=["float32", "bfloat16"],
            shapes=QUICK_SHAPES[-1:],
            modes=["training"],
        )
    return _unique(rows)


def main_case(shape: Shape, **changes: str) -> Case:
    """The case that the targets speak of, at a shape, perhaps with another dtype or surrogate."""
    return Case(
        neuron="lif",
        dtype=changes.get("dtype", "float32"),
        shape=shape,
        mode="training",
        device="cpu",
        surrogate=changes.get("surrogate", DEFAULT_SURROGATE),
    )


def target_selection(device: str) -> list[Case]:
    """The rows that the package's targets speak of."""
    return _unique(
        product(device, "ATan", modes=["training"])
        + product(device, "Sigmoid", shapes=TARGET_SHAPES, modes=["training"])
        + product(device, "ATan", dtypes=["bfloat16"], shapes=TARGET_SHAPES, modes=["training"])
    )


def select(
    devices: Iterable[str],
    surrogate: str = DEFAULT_SURROGATE,
    axes: Axes = Axes(),
    *,
    full: bool = False,
    quick: bool = False,
    targets: bool = False,
) -> list[Case]:
    """The cases of a run, in the order in which they are measured.

    With neither ``full``, ``quick`` nor ``targets``: the default selection, or, once an axis is
    given, the product of the axes, where one that is not given is lif, float32, all six shapes,
    both modes.
    """
    rows: list[Case] = []
    for device in devices:
        if targets:
            rows += target_selection(device)
        elif full:
            rows += default_selection(device, surrogate) if axes.untouched else []
            rows += full_selection(device, surrogate, axes)
        elif quick:
            rows += quick_selection(device, surrogate, axes)
        elif axes.untouched:
            rows += default_selection(device, surrogate)
        else:
            rows += product(
                device,
                surrogate,
                neurons=axes.neurons or ("lif",),
                dtypes=axes.dtypes or ("float32",),
                shapes=axes.shapes or SHAPES,
                modes=axes.modes or MODES,
            )
    return _unique(rows)


def _unique(rows: Iterable[Case]) -> list[Case]:
    return list(dict.fromkeys(rows))
