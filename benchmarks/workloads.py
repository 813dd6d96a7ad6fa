"""What is done: five workloads by letter, their cases for peers, and the arrays of a case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import LOW_PRECISION, MODES, Case, Shape
from benchmarks.environment import ROOT
from snnkernels.examples._data import has_files

SEED = 20
INPUT_MEAN = 0.5
"""Of x, which is normal with deviation 1, so that neurons fire."""
USUAL = (16, 32, 1024)
LARGE = tuple((steps, 64, 65536) for steps in (4, 8, 16, 32))
TWO_STEPS = (2, 64, 65536)
LONG = ((500, 16, 512), (500, 16, 4096), (1000, 32, 128))
TINY = (4, 1, 16)
"""So small that the time of a call is the host's."""
EPOCH_PARTS = 10
EVENT_RATE = {"linear": 0.2, "shd": 0.04}
DRIVE = 1.5
"""Standard deviation of what a spiking layer's neurons get in a step, so that they fire."""


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        letter: what it is asked for by.
        name: what its cases have as ``workload``.
        cases: gives those of a device type.
        short: a title for a few words' room.
        title: what it is.
        make: gives the arrays of a case for some rows of its batch; None where it has none.
        spikes: whether the output is spikes, and not potentials or scores.
    """

    letter: str
    name: str
    cases: Callable[[str], list[Case]]
    short: str
    title: str
    make: Callable[[Case, Shape, torch.Generator], dict[str, Tensor]] | None = None
    spikes: bool = False


def neuron_cases(device: str) -> list[Case]:
    """LIF neurons alone: the CPU gets the shapes that it does in about a second."""
    on_cpu = ((USUAL, LONG[0], LONG[2], TWO_STEPS, LARGE[0]), [USUAL])
    on_cuda = ((*LARGE[::-1], USUAL, *LONG, TWO_STEPS), [USUAL, LONG[0], LARGE[-1]])
    shapes, low = on_cuda if device == "cuda" else on_cpu
    return [
        *(Case("neuron", shape, mode, "float32", device) for mode in MODES for shape in shapes),
        *(Case("neuron", s, "training", dtype, device) for dtype in LOW_PRECISION for s in low),
        *(Case("neuron", TINY, mode, "float32", device) for mode in MODES),
    ]


def linear_cases(device: str) -> list[Case]:
    """Linear(N, N) and LIF; N = 4096 is a matter of the matrix product, too much for a CPU."""
    widths = (512, 4096) if device == "cuda" else (512,)
    return [
        Case("linear", (500, 16, width), "training", dtype, device)
        for width in widths
        for dtype in ("float32", "autocast")
    ]


def shd_cases(device: str) -> list[Case]:
    """The network for the Spiking Heidelberg Digits, on events as dense as theirs."""
    return [Case("shd", (256, 256, 128), device=device)]


def conv_cases(device: str) -> list[Case]:
    """Six convolutions on images of CIFAR's size, 128 channels wide at first, on a CPU 32."""
    options = {"width": 128 if device == "cuda" else 32}
    return [
        Case("conv", (4, 32, 3, 32, 32), device=device, variant=layout, options=options)
        for layout in ("", "channels_last")
    ]


def epoch_cases(device: str) -> list[Case]:
    """An epoch of the tutorial's MNIST network: on a CPU most of it is matrix products."""
    options = {"parts": EPOCH_PARTS}
    return [
        Case("mnist", (50, 128, 784), "training", dtype, device, options=options)
        for dtype in ("float32", "autocast")
    ]


# --- arrays --------------------------------------------------------------------------------------


def _neuron(case: Case, given: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    x = torch.randn(given, generator=generator) + INPUT_MEAN
    return {"x": x, **_upstream(case, given, generator)}


def _upstream(case: Case, given: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    if case.mode == "inference":
        return {}
    return {"upstream": torch.randn(given, generator=generator)}


def _linear(case: Case, given: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    width = case.shape[2]
    return {
        "x": _events(case, given, generator),
        "w0": _weight(generator, width, width, EVENT_RATE["linear"]),
        **_upstream(case, given, generator),
    }


def _shd(case: Case, given: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    inputs = case.shape[2]
    return {
        "x": _events(case, given, generator),
        "labels": torch.randint(20, (case.shape[1],), generator=generator),
        "w0": _weight(generator, 128, inputs, EVENT_RATE["shd"]),
        "w1": _weight(generator, 128, 128, EVENT_RATE["linear"]),
        "w2": _weight(generator, 20, 128, EVENT_RATE["linear"]),
    }


def _conv(case: Case, given: Shape, generator: torch.Generator) -> dict[str, Tensor]:
    w = case.options["width"]
    channels = (case.shape[2], w, w, 2 * w, 2 * w, 4 * w, 4 * w)
    found = {"x": torch.randn(given, generator=generator) + INPUT_MEAN}
    for index, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
        kernel = torch.randn(after, before, 3, 3, generator=generator)
        found[f"w{index}"] = kernel * math.sqrt(2 / (9 * before))
    pixels = (case.shape[3] // 8) * (case.shape[4] // 8)
    found["w6"] = torch.randn(10, 4 * w * pixels, generator=generator) / math.sqrt(4 * w * pixels)
    found["labels"] = torch.randint(10, (case.shape[1],), generator=generator)
    return found


def _events(case: Case, given: Shape, generator: torch.Generator) -> Tensor:
    rate = EVENT_RATE[case.workload]
    return (torch.rand(given, generator=generator) < rate).float()


def _weight(generator: torch.Generator, outputs: int, inputs: int, rate: float) -> Tensor:
    """A weight [out, in] that turns spikes of a rate into a drive of standard deviation DRIVE."""
    scale = DRIVE / math.sqrt(rate * inputs)
    return torch.randn(outputs, inputs, generator=generator) * scale


# --- the table -----------------------------------------------------------------------------------

WORKLOADS = {
    each.name: each
    for each in (
        Workload(
            "a", "neuron", neuron_cases, make=_neuron, spikes=True,
            short="LIF alone", title="LIF neurons alone",
        ),
        Workload(
            "b", "linear", linear_cases, make=_linear, spikes=True,
            short="Linear and LIF", title="Linear(N, N) and LIF, T = 500, batch 16",
        ),
        Workload(
            "c", "shd", shd_cases, make=_shd,
            short="SHD network", title="128-128-128-20 as for SHD, T = 256, batch 256",
        ),
        Workload(
            "d", "conv", conv_cases, make=_conv,
            short="six convolutions", title="Conv-BatchNorm-LIF six times, T = 4, batch 32",
        ),
        Workload(
            "e", "mnist", epoch_cases,
            short="MNIST, an epoch", title="an epoch of the tutorial's MNIST network, T = 50",
        ),
    )
}  # fmt: skip
LETTERS = tuple(workload.letter for workload in WORKLOADS.values())
TITLES = {each.name: f"({each.letter}) {each.title}" for each in WORKLOADS.values()}


def selected(
    letters: Sequence[str],
    device: str,
    dataset_dir: Path = ROOT / "data",
    *,
    quick: bool = False,
) -> list[Case]:
    """The cases of some workloads, each with what it needs to know besides.

    The first case of each workload comes first, then the second of each and so on, so that a run
    that is short of time has seen something of all. With ``quick`` only neurons of a usual and of a
    tiny shape in float32.
    """
    chosen = [
        workload.cases(device) for workload in WORKLOADS.values() if workload.letter in letters
    ]
    places = [(place, case) for cases in chosen for place, case in enumerate(cases)]
    cases = [case for _, case in sorted(places, key=lambda each: each[0])]
    if quick:
        cases = [c for c in cases if c.shape in (USUAL, TINY) and c.dtype == "float32"]
    folder = str(dataset_dir) if has_files(dataset_dir) else ""  # nothing is downloaded
    return [
        replace(case, options={**case.options, "dataset_dir": folder})
        if case.workload == "mnist"
        else case
        for case in cases
    ]


def arrays(case: Case, rows: int | None = None) -> dict[str, np.ndarray]:
    """The arrays of a case as float32, rounded to its dtype; the same for every contender.

    With ``rows`` only so many samples of the batch.
    """
    make = WORKLOADS[case.workload].make
    if make is None:
        return {}
    given = (case.shape[0], rows or case.shape[1], *case.shape[2:])
    values = make(case, given, torch.Generator().manual_seed(SEED))
    return {key: _rounded(case, key, value) for key, value in values.items()}


def _rounded(case: Case, key: str, value: Tensor) -> np.ndarray:
    if key in ("x", "upstream"):
        value = value.to(getattr(torch, case.input_dtype)).float()
    return value.numpy()
