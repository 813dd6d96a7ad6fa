"""A training step captured in a CUDA graph, whose replay costs the host one launch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn, optim


class TrainingStep(Protocol):
    """A step of training on images and labels that gives the loss and the firing rates.

    ``share`` is what the loss counts in the average over processes.
    """

    model: nn.Module

    def __call__(
        self, images: Tensor, labels: Tensor, share: float = 1.0
    ) -> tuple[Tensor, Tensor]: ...


_WARM_UP_STEPS = 3


class CapturedStep:
    """``step``, captured for batches of the shape of ``images``; others run it as it is.

    Weights, buffers, the optimizer's state and torch's generator are afterwards what they were. A
    graph has random numbers of its own: a step that draws some draws others than uncaptured.

    Args:
        step: does the work; it must leave no state between calls but in tensors that stay.
        optimizer: what it moves, with ``capturable=True``.
        images: a batch ``[B, pixels]`` on the GPU.
        labels: its labels ``[B]``.
    """

    def __init__(
        self,
        step: TrainingStep,
        optimizer: optim.Optimizer,
        images: Tensor,
        labels: Tensor,
    ) -> None:
        self.model, self._step = step.model, step
        self._images, self._labels = images.clone(), labels.clone()
        random = torch.cuda.get_rng_state(images.device)
        with unchanged(self.model, optimizer):
            self._warm_up()
            optimizer.zero_grad()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._loss, self._rates = step(self._images, self._labels)
        torch.cuda.set_rng_state(random, images.device)

    def _warm_up(self) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                self._step(self._images, self._labels)
        torch.cuda.current_stream().wait_stream(stream)

    def __call__(self, images: Tensor, labels: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and rates of a batch; those of a replay are overwritten by the next."""
        if images.shape != self._images.shape or share != 1.0:
            return self._step(images, labels, share)
        self._images.copy_(images)
        self._labels.copy_(labels)
        self._graph.replay()
        return self._loss, self._rates


@contextmanager
def unchanged(model: nn.Module, optimizer: optim.Optimizer) -> Iterator[None]:
    """Put weights, buffers and the optimizer's state back in place afterwards.

    State that the optimizer made meanwhile becomes zero, with which Adam's begins.
    """
    before = {id(t): t.detach().clone() for t in _tensors(model, optimizer)}
    yield
    with torch.no_grad():
        for tensor in _tensors(model, optimizer):
            if id(tensor) in before:
                tensor.copy_(before[id(tensor)])
            else:
                tensor.zero_()


def _tensors(model: nn.Module, optimizer: optim.Optimizer) -> list[Tensor]:
    state = [value for values in optimizer.state.values() for value in values.values()]
    return [*model.parameters(), *model.buffers(), *(t for t in state if isinstance(t, Tensor))]
