"""The workloads on PyTorch: a library brings its neuron, the rest is shared.

Every contender runs on this, ours in this process and those of other libraries in theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import memory
from benchmarks.case import AUTOCAST, Case, Job, Memory, Neuron, Task, Unavailable
from benchmarks.timing import TimedCall

CLASSES = 10
Arrays = Mapping[str, np.ndarray]


class Library:
    """A library's neurons; an adapter overrides what its library does otherwise.

    Every module takes and gives sequences [T, B, ...].
    """

    linear: type[nn.Linear] = nn.Linear
    """Its layer of a dense product, where it has one of its own."""
    compares_parameters = True
    """Whether what its neurons learn has the gradients of ours."""

    def lif(self, wanted: Neuron) -> nn.Module:
        """A layer of LIF neurons."""
        raise NotImplementedError

    def readout(self, wanted: Neuron) -> nn.Module:
        """Leaky integrators, which do not spike: the potential of each step."""
        return LeakyIntegrator(wanted)

    def reset(self, net: nn.Module) -> None:
        """Put the state of every neuron back, if it outlives a call."""

    def states(self, net: nn.Module) -> Sequence[Tensor]:
        """The last states of its neurons, where they are part of what a call gives."""
        return ()

    def finish(self, net: nn.Module) -> nn.Module:
        """The last touch to a network before its first call."""
        return net

    def context(self) -> AbstractContextManager[object]:
        """What a forward runs in."""
        return nullcontext()

    def provider(self, task: Task) -> str | None:
        """The implementation that runs a task, where the library tells."""
        return None

    def epoch(self, case: Case) -> Job:
        """The tutorial's epoch."""
        raise Unavailable("has no epoch of the tutorial's network")


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

    def prepare(self, task: Task, arrays: Arrays) -> Job:
        case = task.case
        if case.workload == "mnist":
            return self.library.epoch(case)
        x = tensor(case, arrays["x"])
        net, wanted = NETWORKS[case.workload](self.library, task, arrays)
        net = self.library.finish(net.to(case.device))
        if "labels" in arrays:
            labels = torch.from_numpy(arrays["labels"]).long().to(case.device)
            return NetworkJob(task, self.library, net, x, wanted, labels=labels)
        x.requires_grad_(case.mode == "training")
        upstream = tensor(case, arrays["upstream"]) if "upstream" in arrays else None
        return NetworkJob(task, self.library, net, x, (x, *wanted), upstream)

    def tidy(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class Result:
    """What a call gives: its output, the gradients of what was asked for, the last states."""

    output: Tensor
    gradients: Sequence[Tensor] = ()
    states: Sequence[Tensor] = ()

    @property
    def tensors(self) -> Sequence[Tensor]:
        return (self.output, *self.gradients, *self.states)


class TorchJob:
    """A call that is timed and measured in memory; nothing of it is compared."""

    def __init__(self, device: str, call: Callable[[], Result]) -> None:
        self.device, self.call = device, call

    def samples(self, count: int) -> list[float]:
        return TimedCall(self.call, self.device).samples(count)

    def outcome(self) -> Mapping[str, Any] | None:
        return None

    def memory(self) -> Memory:
        return Memory(memory.peak_extra(self.call, self.device))


class NetworkJob(TorchJob):
    """One network on one input.

    Gradients of ``wanted`` are those for ``upstream``, or of the cross entropy of the output's mean
    over T with ``labels``.
    """

    def __init__(
        self,
        task: Task,
        library: Library,
        net: nn.Module,
        x: Tensor,
        wanted: Sequence[Tensor],
        upstream: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        self.case, self.rows = task.case, task.rows
        training = self.case.mode == "training"
        super().__init__(self.case.device, self.train if training else self.infer)
        self.library, self.net, self.x = library, net, x
        self.wanted, self.upstream, self.labels = wanted, upstream, labels

    def forward(self) -> Tensor:
        self.library.reset(self.net)
        with autocast(self.case), self.library.context():
            out: Tensor = self.net(self.x)
        return out

    @torch.no_grad()
    def infer(self) -> Result:
        return Result(self.forward(), states=self.library.states(self.net))

    def train(self) -> Result:
        out = self.forward()
        end = out
        if self.labels is not None:
            end = F.cross_entropy(out.float().mean(0), self.labels)
        gradients = torch.autograd.grad(end, self.wanted, self.upstream)
        return Result(out.detach(), gradients, self.library.states(self.net))

    def outcome(self) -> dict[str, Tensor]:
        """Output, gradients in one row, states; what neurons alone learn is by itself."""
        result = self.call()
        found = {"output": self._given(result.output)}
        gradients = [self._given(gradient).flatten() for gradient in result.gradients]
        states = {f"state {k}": state for k, state in enumerate(result.states)}
        if gradients and self.case.workload == "neuron":
            learnt = gradients[1:] if self.library.compares_parameters else []
            named = {f"learnt {k}": gradient for k, gradient in enumerate(learnt)}
            return {**found, "gradient": gradients[0], **named, **states}
        return {**found, **({"gradient": torch.cat(gradients)} if gradients else {}), **states}

    def _given(self, tensor: Tensor) -> Tensor:
        """Of a sequence, the rows that were not repeated."""
        if self.rows and tensor.shape[:2] == self.case.shape[:2]:
            tensor = tensor[:, : self.rows]
        return tensor.detach()

    def memory(self) -> Memory:
        self.library.reset(self.net)  # states that go within a recording would be warned of
        peak = memory.peak_extra(self.call, self.device)
        return Memory(peak, self._kept() if self.case.mode == "training" else None)

    def _kept(self) -> int:
        """What the forward leaves for the backward, the neurons back at rest."""

        def forward() -> Tensor:
            out = self.forward()
            self.library.reset(self.net)
            return out

        return memory.kept(forward, self.device)


# --- the networks --------------------------------------------------------------------------------

Prepared = tuple[nn.Module, Sequence[Tensor]]
"""A network, and those of its weights that gradients are taken of."""


def dense(library: Library, weight: np.ndarray) -> nn.Linear:
    """A linear layer without bias, given its weight [out, in]."""
    layer = library.linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(torch.from_numpy(weight))
    return layer


def neuron_alone(library: Library, task: Task, arrays: Arrays) -> Prepared:
    """LIF neurons on a random input, with a random upstream gradient."""
    net = library.lif(task.neuron)
    return net, [p for p in net.parameters() if p.requires_grad]


def linear(library: Library, task: Task, arrays: Arrays) -> Prepared:
    """Linear(N, N) and LIF neurons."""
    layer = dense(library, arrays["w0"])
    return nn.Sequential(layer, library.lif(task.neuron)), [layer.weight]


def shd(library: Library, task: Task, arrays: Arrays) -> Prepared:
    """Linear-LIF-Linear-LIF-Linear-LI."""
    layers = [dense(library, arrays[name]) for name in ("w0", "w1", "w2")]
    ends = [library.lif(task.neuron), library.lif(task.neuron), library.readout(task.neuron)]
    net = nn.Sequential(*[each for pair in zip(layers, ends, strict=True) for each in pair])
    return net, [layer.weight for layer in layers]


def conv(library: Library, task: Task, arrays: Arrays) -> Prepared:
    """Conv-BatchNorm-LIF six times, a pool after every second; channels are doubled there."""
    layers: list[nn.Module] = []
    weights: list[Tensor] = []
    for index in range(6):
        weight = torch.from_numpy(arrays[f"w{index}"])
        if task.case.variant == "channels_last":
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
    head = dense(library, arrays["w6"])
    return nn.Sequential(*layers, nn.Flatten(2), head), [*weights, head.weight]


NETWORKS: Mapping[str, Callable[[Library, Task, Arrays], Prepared]] = {
    "neuron": neuron_alone,
    "linear": linear,
    "shd": shd,
    "conv": conv,
}


def tensor(case: Case, array: np.ndarray) -> Tensor:
    """An array on the case's device in its dtype, its rows repeated to the batch of the case."""
    values = torch.from_numpy(array).to(case.device, getattr(torch, case.input_dtype))
    if values.shape[1] != case.shape[1]:
        values = values[:, torch.arange(case.shape[1], device=values.device) % values.shape[1]]
    if case.variant == "channels_last":
        frames = values.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        values = frames.unflatten(0, values.shape[:2])
    return values


def autocast(case: Case) -> AbstractContextManager[object]:
    """Where a case's forward runs."""
    if case.dtype != "autocast":
        return nullcontext()
    return torch.autocast(case.device, dtype=getattr(torch, AUTOCAST[case.device]))


# --- the tutorial's epoch ------------------------------------------------------------------------


class EpochJob:
    """The tutorial's epoch in parts; a sample is the seconds that a whole epoch would take.

    Args:
        case: its options name ``parts`` and ``dataset_dir``.
        train: trains on images and labels, and the optimizer's step is in it.
        accuracy: the share of right answers on images and labels.
    """

    def __init__(
        self,
        case: Case,
        train: Callable[[Tensor, Tensor], None],
        accuracy: Callable[[Tensor, Tensor], float],
    ) -> None:
        from snnkernels.examples import ExampleError
        from snnkernels.examples._data import load_mnist

        try:
            dataset = load_mnist(Path(case.options["dataset_dir"]))
        except ExampleError as error:
            raise Unavailable(str(error)) from error
        device = torch.device(case.device)
        self._train, self._accuracy = train, accuracy
        self._samples, self._test = dataset.train.to(device), dataset.test.to(device)
        order = torch.randperm(len(self._samples), generator=torch.Generator().manual_seed(0))
        self._parts = order.to(device).chunk(case.options["parts"])
        self._timed = TimedCall(self._part, case.device)
        self._done = 0

    def _part(self) -> None:
        part = self._parts[self._done % len(self._parts)]
        self._done += 1
        self._train(self._samples.images[part], self._samples.labels[part])

    def samples(self, count: int) -> list[float]:
        return [seconds * len(self._parts) for seconds in self._timed.samples(count)]

    def outcome(self) -> dict[str, float]:
        accuracy = self._accuracy(self._test.images, self._test.labels)
        return {"accuracy": accuracy, "parts_trained": self._done}

    def memory(self) -> None:
        return None


def tutorial_net(lif: Callable[[], nn.Module]) -> nn.Sequential:
    """The tutorial's network 784-196-10, with the same weights for everyone."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(784, 196, bias=False), lif(), nn.Linear(196, CLASSES, bias=False), lif()
    )


def epoch_job(
    case: Case, net: nn.Sequential, rates: Callable[[Tensor], Tensor], reset: Callable[[], None]
) -> EpochJob:
    """An epoch written out, for a library that is called as its own tutorial calls it.

    ``rates`` gives the firing rates [B, 10] of images [B, 784].
    """
    net.to(case.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def train(images: Tensor, labels: Tensor) -> None:
        for x, y in batches(images, labels):
            with autocast(case):
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
            with autocast(case):
                right += int((rates(x).argmax(1) == y).sum())
            reset()
        return right / len(labels)

    return EpochJob(case, train, accuracy)


def batches(images: Tensor, labels: Tensor, size: int = 128) -> zip[tuple[Tensor, Tensor]]:
    """Images and labels in batches of the tutorial's size."""
    return zip(images.split(size), labels.split(size), strict=True)
