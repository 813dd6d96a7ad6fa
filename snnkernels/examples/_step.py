"""A step of training, as it is or captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

from snnkernels import functional

from ._data import CLASSES, Samples

_WARM_UP_STEPS = 3


def firing_loss(rates: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the firing rates ``[B, 10]`` against the one-hot labels ``[B]``."""
    return F.mse_loss(rates, F.one_hot(labels, CLASSES).float())


class TrainingStep:
    """Forward and backward of ``model``, from images to firing rates, and ``optimizer``'s step."""

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer) -> None:
        self.model, self._optimizer = model, optimizer

    def __call__(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and firing rates ``[B, 10]`` of images ``[B, pixels]`` and labels ``[B]``.

        ``share`` is what the loss counts in the average over processes.
        """
        rates = self.model(images)
        loss = firing_loss(rates, labels)
        self._optimizer.zero_grad()
        (loss * share).backward()
        self._optimizer.step()
        functional.reset_net(self.model)  # the next images begin with neurons at rest
        return loss, rates


class CapturedStep(TrainingStep):
    """A step captured in a CUDA graph for batches of the size of ``batch``; others run as is.

    Weights, buffers, the optimizer's state and torch's generator are afterwards what they were. A
    graph has random numbers of its own: a step that draws some draws others than uncaptured.
    ``optimizer`` is capturable, and ``batch`` is on a GPU.
    """

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer, batch: Samples) -> None:
        super().__init__(model, optimizer)
        self._images, self._labels = batch.images.clone(), batch.labels.clone()
        gpu = batch.images.device  # streams and graphs are those of the current one
        with torch.cuda.device(gpu), torch.random.fork_rng([gpu]), unchanged(model, optimizer):
            self._warm_up()
            optimizer.zero_grad()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._found = super().__call__(self._images, self._labels)

    def _warm_up(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                super().__call__(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)

    def __call__(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and rates of a batch; those of a replay are overwritten by the next."""
        if images.shape != self._images.shape:
            return super().__call__(images, labels, share)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._found


@contextmanager
def unchanged(model: nn.Module, optimizer: optim.Optimizer) -> Iterator[None]:
    """Put weights, buffers and the optimizer's state back in place afterwards.

    State that the optimizer made meanwhile becomes zero, with which Adam's begins.
    """

    def tensors() -> list[Tensor]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        return [*model.parameters(), *model.buffers(), *states]

    before = {id(t): t.detach().clone() for t in tensors()}
    yield
    with torch.no_grad():
        for tensor in tensors():
            tensor.copy_(before.get(id(tensor), torch.tensor(0.0)))
