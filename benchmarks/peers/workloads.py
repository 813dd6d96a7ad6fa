"""What peers are measured on: five workloads by letter, their cases, and the cases' tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.contenders import INPUT_MEAN, SEED
from benchmarks.environment import ROOT
from benchmarks.peers.spec import LOW_PRECISION, Task
from snnkernels.examples import _data

MODES = ("training", "inference")
LARGE = tuple((steps, 64, 65536) for steps in (4, 8, 16, 32))
TWO_STEPS = (2, 64, 65536)
USUAL = (16, 32, 1024)
LONG = ((500, 16, 512), (500, 16, 4096), (1000, 32, 128))
TINY = (4, 1, 16)
"""So small that the time of a call is the host's."""
GIVEN_ELEMENTS = 4 * 1024**2
"""Elements of x that peers are handed and compared on; more are made by repeating samples."""
EPOCH_PARTS = 10
EVENT_RATE = {"linear": 0.2, "shd": 0.04}
DRIVE = 1.5
"""Standard deviation of what a spiking layer's neurons get in a step, so that they fire."""
DATA_FOLDERS = (ROOT / "data", ROOT.parent / "shared" / "data")


@dataclass(frozen=True)
class Workload:
    """``cases`` gives the tasks of a device type."""

    letter: str
    name: str
    title: str
    cases: Callable[[str], list[Task]]


def neuron_cases(device: str) -> list[Task]:
    """LIF neurons alone: the CPU gets the shapes that it does in about a second."""
    on_cpu = ((USUAL, LONG[0], LONG[2], TWO_STEPS, LARGE[0]), [USUAL])
    on_cuda = ((*LARGE[::-1], USUAL, *LONG, TWO_STEPS), [USUAL, LONG[0], LARGE[-1]])
    shapes, low = on_cuda if device == "cuda" else on_cpu
    plain = [Task("neuron", shape, mode, device=device) for mode in MODES for shape in shapes]
    reduced = [
        Task("neuron", shape, dtype=dtype, device=device)
        for dtype in LOW_PRECISION
        for shape in low
    ]
    tiny = [Task("neuron", TINY, mode, device=device) for mode in MODES]
    return [*plain, *reduced, *tiny]


def linear_cases(device: str) -> list[Task]:
    """Linear(N, N) and LIF; N = 4096 is a matter of the matrix product, too much for a CPU."""
    widths = (512, 4096) if device == "cuda" else (512,)
    return [
        Task("linear", (500, 16, width), dtype=dtype, device=device)
        for width in widths
        for dtype in ("float32", "autocast")
    ]


def shd_cases(device: str) -> list[Task]:
    """The network for the Spiking Heidelberg Digits, on events as dense as theirs."""
    return [Task("shd", (256, 256, 128), device=device)]


def conv_cases(device: str) -> list[Task]:
    """Six convolutions on images of CIFAR's size, 128 channels wide at first, on a CPU 32."""
    width = 128 if device == "cuda" else 32
    return [
        Task("conv", (4, 32, 3, 32, 32), device=device, layout=layout, width=width)
        for layout in ("", "channels_last")
    ]


def epoch_cases(device: str) -> list[Task]:
    """An epoch of the tutorial's MNIST network: on a CPU most of it is matrix products."""
    options = {"parts": EPOCH_PARTS}
    return [
        Task("mnist", (50, 128, 784), dtype=dtype, device=device, options=options)
        for dtype in ("float32", "autocast")
    ]


WORKLOADS = (
    Workload("a", "neuron", "LIF neurons alone", neuron_cases),
    Workload("b", "linear", "Linear(N, N) and LIF, T = 500, batch 16", linear_cases),
    Workload("c", "shd", "128-128-128-20 as for SHD, T = 256, batch 256", shd_cases),
    Workload("d", "conv", "Conv-BatchNorm-LIF six times, T = 4, batch 32", conv_cases),
    Workload("e", "mnist", "an epoch of the tutorial's MNIST network, T = 50", epoch_cases),
)
LETTERS = tuple(workload.letter for workload in WORKLOADS)


def selected(
    letters: Sequence[str], device: str, dataset_dir: Path | None = None, *, quick: bool = False
) -> list[Task]:
    """The tasks of some workloads, each with what it needs to know besides.

    The first case of each workload comes first, then the second of each and so on, so that a run
    that is short of time has seen something of all. With ``quick`` only neurons of a usual and of a
    tiny shape in float32.
    """
    places = [
        (place, task)
        for workload in WORKLOADS
        if workload.letter in letters
        for place, task in enumerate(workload.cases(device))
    ]
    tasks = [task for _, task in sorted(places, key=lambda each: each[0])]
    if quick:
        tasks = [t for t in tasks if t.shape in (USUAL, TINY) and t.dtype == "float32"]
    found = mnist_folder(dataset_dir)
    return [
        replace(task, options={**task.options, "dataset_dir": str(found or "")})
        if task.workload == "mnist"
        else replace(task, rows=given_rows(task))
        for task in tasks
    ]


def mnist_folder(asked: Path | None) -> Path | None:
    """The folder of MNIST's files, None if they are not there; nothing is downloaded."""
    folders = DATA_FOLDERS if asked is None else (asked,)
    whole = (folder for folder in folders if not _data._missing_files(folder, "MNIST"))
    return next(whole, None)


def given_rows(task: Task) -> int:
    """How many samples of the batch are distinct."""
    per_sample = task.elements // task.shape[1]
    return min(task.shape[1], max(1, GIVEN_ELEMENTS // per_sample))


def name(task: Task) -> str:
    """A task in words, as tables and JSON have it."""
    shape = "[" + ",".join(map(str, task.shape)) + "]"
    return " ".join(filter(None, [task.workload, shape, task.dtype, task.mode, task.layout]))


# --- tensors -------------------------------------------------------------------------------------


def arrays(task: Task) -> dict[str, np.ndarray]:
    """The tensors of a task as float32, rounded to its dtype; the same for every peer."""
    make = {"neuron": _neuron, "linear": _linear, "shd": _shd, "conv": _conv}.get(task.workload)
    if make is None:
        return {}
    values = make(task, torch.Generator().manual_seed(SEED))
    return {key: _rounded(task, key, value) for key, value in values.items()}


def _rounded(task: Task, key: str, value: Tensor) -> np.ndarray:
    if key in ("x", "upstream"):
        value = value.to(getattr(torch, task.input_dtype)).float()
    return value.numpy()


def _given(task: Task) -> tuple[int, ...]:
    return (task.shape[0], task.rows, *task.shape[2:])


def _neuron(task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    x = torch.randn(_given(task), generator=generator) + INPUT_MEAN
    return {"x": x, **_upstream(task, generator)}


def _upstream(task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    if task.mode == "inference":
        return {}
    return {"upstream": torch.randn(_given(task), generator=generator)}


def _linear(task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    width = task.shape[2]
    return {
        "x": _events(task, generator),
        "w0": _weight(generator, width, width, EVENT_RATE["linear"]),
        **_upstream(task, generator),
    }


def _shd(task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    inputs = task.shape[2]
    return {
        "x": _events(task, generator),
        "labels": torch.randint(20, (task.shape[1],), generator=generator),
        "w0": _weight(generator, 128, inputs, EVENT_RATE["shd"]),
        "w1": _weight(generator, 128, 128, EVENT_RATE["linear"]),
        "w2": _weight(generator, 20, 128, EVENT_RATE["linear"]),
    }


def _conv(task: Task, generator: torch.Generator) -> dict[str, Tensor]:
    w = task.width
    channels = (task.shape[2], w, w, 2 * w, 2 * w, 4 * w, 4 * w)
    found = {"x": torch.randn(_given(task), generator=generator) + INPUT_MEAN}
    for index, (before, after) in enumerate(zip(channels, channels[1:], strict=False)):
        kernel = torch.randn(after, before, 3, 3, generator=generator)
        found[f"w{index}"] = kernel * math.sqrt(2 / (9 * before))
    pixels = (task.shape[3] // 8) * (task.shape[4] // 8)
    found["w6"] = torch.randn(10, 4 * w * pixels, generator=generator) / math.sqrt(4 * w * pixels)
    found["labels"] = torch.randint(10, (task.shape[1],), generator=generator)
    return found


def _events(task: Task, generator: torch.Generator) -> Tensor:
    rate = EVENT_RATE[task.workload]
    return (torch.rand(_given(task), generator=generator) < rate).float()


def _weight(generator: torch.Generator, outputs: int, inputs: int, rate: float) -> Tensor:
    """A weight [out, in] that turns spikes of a rate into a drive of standard deviation DRIVE."""
    scale = DRIVE / math.sqrt(rate * inputs)
    return torch.randn(outputs, inputs, generator=generator) * scale
