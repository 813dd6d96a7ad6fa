"""The workloads on torch, in a peer's process: an adapter brings its neuron, the rest is shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.memory import measure
from benchmarks.peers.spec import Job, Neuron, Task, Unsupported
from benchmarks.timing import clock_for

CLASSES = 10
AUTOCAST = {"cpu": torch.bfloat16, "cuda": torch.float16}
"""What autocast gives where nothing else is asked for."""


class Library:
    """A library's neurons; an adapter overrides what its library does otherwise.

    Every module takes and gives sequences [T, B, ...].
    """

    linear: type[nn.Linear] = nn.Linear
    """Its layer of a dense product, where it has one of its own."""

    def dense(self, weight: np.ndarray) -> nn.Linear:
        """A linear layer without bias, given its weight [out, in]."""
        layer = self.linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(torch.from_numpy(weight))
        return layer

    def lif(self, neuron: Neuron) -> nn.Module:
        """A layer of LIF neurons."""
        raise NotImplementedError

    def readout(self, neuron: Neuron) -> nn.Module:
        """Leaky integrators, which do not spike: the potential of each step."""
        return LeakyIntegrator(neuron)

    def reset(self, net: nn.Module) -> None:
        """Put the state of every neuron back, if it outlives a call."""

    def finish(self, net: nn.Module, task: Task) -> nn.Module:
        """The last touch to a network before its first call."""
        return net

    def provider(self, task: Task) -> str | None:
        """The implementation that runs a task, where the library tells."""
        return None

    def epoch(self, task: Task, arrays: Mapping[str, np.ndarray]) -> Job:
        """The tutorial's epoch."""
        raise Unsupported("has no epoch of the tutorial's network")


class LeakyIntegrator(nn.Module):
    """V += (X - V) / tau, step by step; for a library that has no such neuron of its own."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.neuron = neuron

    def forward(self, x_seq: Tensor) -> Tensor:
        v, potentials = torch.zeros_like(x_seq[0]), []
        for x in x_seq:
            decayed = v - v / self.neuron.tau
            v = decayed + (x / self.neuron.tau if self.neuron.decay_input else x)
            potentials.append(v)
        return torch.stack(potentials)


class StepByStep(nn.Module):
    """A loop over T around a cell ``(x, state) -> (out, state)`` whose state begins as None."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x_seq: Tensor) -> Tensor:
        state, out = None, []
        for x in x_seq:
            y, state = self.cell(x, state)
            out.append(y)
        return torch.stack(out)


class OverTime(nn.Module):
    """A layer that knows no time axis, on the first two axes merged."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_seq: Tensor) -> Tensor:
        return self.layer(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])


class TorchEngine:
    """Runs the workloads with a library's neurons."""

    def __init__(self, library: Library, **versions: str) -> None:
        self.library = library
        self.versions = {"torch": torch.__version__, **versions}

    def provider(self, task: Task) -> str | None:
        return self.library.provider(task)

    def prepare(self, task: Task, arrays: Mapping[str, np.ndarray]) -> Job:
        if task.workload == "mnist":
            return self.library.epoch(task, arrays)
        prepare = NETWORKS.get(task.workload, neuron_alone)
        return TorchJob(self.library, task, *prepare(self.library, task, arrays))

    def tidy(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Result:
    """What a call gives: output and gradients."""

    output: Tensor
    gradients: tuple[Tensor, ...] = ()

    @property
    def tensors(self) -> Sequence[Tensor]:
        return (self.output, *self.gradients)


@dataclass(frozen=True)
class Inputs:
    """The tensors of a task; ``close`` turns the output into what the backward starts from."""

    x: Tensor
    wanted: tuple[Tensor, ...]
    """What gradients are taken of."""
    upstream: Tensor | None = None
    labels: Tensor | None = None
    weights: tuple[Tensor, ...] = ()

    @property
    def given(self) -> tuple[Tensor, ...]:
        others = (self.upstream, self.labels)
        return (self.x, *self.weights, *(t for t in others if t is not None))

    def gradients(self, out: Tensor) -> tuple[Tensor, ...]:
        """Gradients for the upstream gradient, or of the cross entropy of the mean over T."""
        if self.labels is None:
            return torch.autograd.grad(out, self.wanted, self.upstream)
        loss = F.cross_entropy(out.float().mean(0), self.labels)
        return torch.autograd.grad(loss, self.wanted)


class TorchJob:
    """One network on one input, timed, and measured in memory."""

    def __init__(self, library: Library, task: Task, net: nn.Module, inputs: Inputs) -> None:
        self.library, self.task, self.inputs = library, task, inputs
        self.net = library.finish(net, task)
        self.clock = clock_for(task.device)

    def call(self) -> Result:
        self.library.reset(self.net)
        if self.task.mode == "inference":
            with torch.no_grad(), autocast(self.task):
                return Result(self.net(self.inputs.x))
        with autocast(self.task):
            out = self.net(self.inputs.x)
        return Result(out.detach(), self.inputs.gradients(out))

    def samples(self, count: int) -> list[float]:
        return self.clock.samples(self.call, count)

    def outcome(self) -> dict[str, np.ndarray]:
        result = self.call()
        found = {"output": self._rows(result.output)}
        if result.gradients:
            ours = [self._rows(g).ravel() for g in result.gradients]
            found["gradient"] = np.concatenate(ours)
        return found

    def _rows(self, tensor: Tensor) -> np.ndarray:
        """As float32 on the host; of a sequence, the rows that were not repeated."""
        if self.task.rows and tensor.shape[:2] == self.task.shape[:2]:
            tensor = tensor[:, : self.task.rows]
        return tensor.detach().float().cpu().contiguous().numpy()

    def memory(self) -> dict[str, int | None]:
        compiled = isinstance(self.net, torch._dynamo.eval_frame.OptimizedModule)
        found = measure(self.call, self.task.device, self.inputs.given, record_saved=not compiled)
        return {"peak_extra": found.peak_extra, "saved": found.saved}


# --- the networks --------------------------------------------------------------------------------

Prepared = tuple[nn.Module, Inputs]


def neuron_alone(library: Library, task: Task, arrays: Mapping[str, np.ndarray]) -> Prepared:
    """LIF neurons on a random input, with a random upstream gradient."""
    net = library.lif(task.neuron).to(task.device)
    x = tensor(task, arrays["x"]).requires_grad_(task.mode == "training")
    upstream = tensor(task, arrays["upstream"]) if "upstream" in arrays else None
    if task.dtype == "autocast":  # what the layer before it would give
        low = AUTOCAST[task.device]
        x = x.detach().to(low).requires_grad_(x.requires_grad)
        upstream = None if upstream is None else upstream.to(low)
    return net, Inputs(x, (x,), upstream)


def linear(library: Library, task: Task, arrays: Mapping[str, np.ndarray]) -> Prepared:
    """Linear(N, N) and LIF neurons; the gradients of input and weight are taken."""
    net = nn.Sequential(library.dense(arrays["w0"]), library.lif(task.neuron)).to(task.device)
    x = tensor(task, arrays["x"]).requires_grad_(task.mode == "training")
    upstream = tensor(task, arrays["upstream"]) if "upstream" in arrays else None
    weights = tuple(net[0].parameters())
    return net, Inputs(x, (x, *weights), upstream, weights=weights)


def shd(library: Library, task: Task, arrays: Mapping[str, np.ndarray]) -> Prepared:
    """Linear-LIF-Linear-LIF-Linear-LI; the gradients of the weights are taken."""
    dense_layers = [library.dense(arrays[name]) for name in ("w0", "w1", "w2")]
    net = nn.Sequential(
        dense_layers[0],
        library.lif(task.neuron),
        dense_layers[1],
        library.lif(task.neuron),
        dense_layers[2],
        library.readout(task.neuron),
    ).to(task.device)
    return net, classified(task, arrays, [layer.weight for layer in dense_layers])


def conv(library: Library, task: Task, arrays: Mapping[str, np.ndarray]) -> Prepared:
    """Conv-BatchNorm-LIF six times, a pool after every second; channels are doubled there."""
    layers: list[nn.Module] = []
    weights: list[Tensor] = []
    for index in range(6):
        weight = torch.from_numpy(arrays[f"w{index}"])
        if task.layout == "channels_last":
            weight = weight.contiguous(memory_format=torch.channels_last)
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
        layer.weight = nn.Parameter(weight)
        weights.append(layer.weight)
        layers += [
            OverTime(nn.Sequential(layer, nn.BatchNorm2d(weight.shape[0]))),
            library.lif(task.neuron),
        ]
        if index % 2:
            layers.append(OverTime(nn.AvgPool2d(2)))
    head = library.dense(arrays["w6"])
    net = nn.Sequential(*layers, nn.Flatten(2), head).to(task.device)
    return net, classified(task, arrays, [*weights, head.weight])


NETWORKS: dict[str, Callable[[Library, Task, Mapping[str, np.ndarray]], Prepared]] = {
    "linear": linear,
    "shd": shd,
    "conv": conv,
}


def classified(task: Task, arrays: Mapping[str, np.ndarray], weights: Sequence[Tensor]) -> Inputs:
    """Inputs of a network that is trained on labels."""
    x = tensor(task, arrays["x"])
    if task.layout == "channels_last":
        frames = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = frames.unflatten(0, x.shape[:2])
    labels = torch.from_numpy(arrays["labels"]).long().to(task.device)
    return Inputs(x, tuple(weights), labels=labels, weights=tuple(weights))


def tensor(task: Task, array: np.ndarray) -> Tensor:
    """An array on the task's device in its dtype, its rows repeated to the batch of the task."""
    values = torch.from_numpy(array).to(task.device, getattr(torch, task.input_dtype))
    batch = task.shape[1]
    if values.shape[1] != batch:
        index = torch.arange(batch, device=values.device) % values.shape[1]
        values = values[:, index]
    return values


def autocast(task: Task) -> AbstractContextManager[object]:
    """Where a task's forward runs."""
    if task.dtype != "autocast":
        return nullcontext()
    return torch.autocast(task.device, dtype=AUTOCAST[task.device])


# --- the tutorial's epoch ------------------------------------------------------------------------


class EpochJob:
    """The tutorial's epoch in parts; a sample is the seconds that a whole epoch would take.

    Args:
        task: its options name ``parts`` and ``dataset_dir``.
        train: trains on images and labels, and the optimizer's step is in it.
        accuracy: the share of right answers on images and labels.
    """

    def __init__(
        self,
        task: Task,
        train: Callable[[Tensor, Tensor], None],
        accuracy: Callable[[Tensor, Tensor], float],
    ) -> None:
        from pathlib import Path

        from snnkernels.examples._data import load_mnist

        dataset = load_mnist(Path(task.options["dataset_dir"]))
        device = torch.device(task.device)
        self._train, self._accuracy = train, accuracy
        self._samples, self._test = dataset.train.to(device), dataset.test.to(device)
        order = torch.randperm(len(self._samples), generator=torch.Generator().manual_seed(0))
        self._parts = order.to(device).chunk(task.options["parts"])
        self._clock = clock_for(task.device)
        self._done = 0

    def _part(self) -> None:
        part = self._parts[self._done % len(self._parts)]
        self._done += 1
        self._train(self._samples.images[part], self._samples.labels[part])

    def samples(self, count: int) -> list[float]:
        return [s * len(self._parts) for s in self._clock.samples(self._part, count)]

    def outcome(self) -> dict[str, Any]:
        return {
            "accuracy": self._accuracy(self._test.images, self._test.labels),
            "parts_trained": self._done,
        }

    def memory(self) -> dict[str, int | None]:
        return {}


def tutorial_net(lif: Callable[[], nn.Module]) -> nn.Sequential:
    """The tutorial's network 784-196-10, with the same weights for everyone."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 196, bias=False), lif(), nn.Linear(196, CLASSES, bias=False), lif()
    )


def epoch_job(
    task: Task, net: nn.Sequential, rates: Callable[[Tensor], Tensor], reset: Callable[[], None]
) -> EpochJob:
    """An epoch written out, for a library that is called as its own tutorial calls it.

    ``rates`` gives the firing rates [B, 10] of images [B, 784].
    """
    net.to(task.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def train(images: Tensor, labels: Tensor) -> None:
        for x, y in batches(images, labels):
            with autocast(task):
                found = rates(x)
            loss = F.mse_loss(found.float(), F.one_hot(y, CLASSES).float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            reset()

    @torch.no_grad()
    def accuracy(images: Tensor, labels: Tensor) -> float:
        right = 0
        for x, y in batches(images, labels):
            with autocast(task):
                right += int((rates(x).argmax(1) == y).sum())
            reset()
        return right / len(labels)

    return EpochJob(task, train, accuracy)


def batches(images: Tensor, labels: Tensor, size: int = 128) -> zip[tuple[Tensor, Tensor]]:
    """Images and labels in batches of the tutorial's size."""
    return zip(images.split(size), labels.split(size), strict=True)
