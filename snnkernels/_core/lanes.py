"""How the dimensions of a tensor lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


def is_dense(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether dimensions, from slowest to fastest, lie side by side without gap or overlap."""
    expected = 1
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def slowest_first(strides: Sequence[int]) -> list[int]:
    """The dimensions in the order of memory, of equal strides the earlier first."""
    order: list[int] = []
    for d, stride in enumerate(strides):
        place = len(order)
        while place > 0 and strides[order[place - 1]] < stride:
            place -= 1
        order.insert(place, d)
    return order


def is_dense_in_any_order(x: Tensor) -> bool:
    """Whether the elements lie side by side, in whatever order of the dimensions."""
    shape, strides = x.shape, x.stride()
    if is_dense(shape, strides):
        return True
    order = slowest_first(strides)
    return is_dense([shape[d] for d in order], [strides[d] for d in order])


class Lanes:
    """How the dimensions [B, ...] of one step map to lanes side by side in memory.

    ``order`` lists the step's dimensions from the slowest to the fastest in memory, so that a
    channels_last step becomes lanes by a view; ``shape`` is the step's shape in that order. A step
    that is not dense is copied, once, in the dimensions' own order.
    """

    def __init__(self, x_seq: Tensor) -> None:
        self.shape = x_seq.shape[1:]
        self.dense = self.in_order = x_seq.is_contiguous()
        if self.in_order:
            return
        shape, strides = self.shape, x_seq.stride()[1:]
        self.order = slowest_first(strides)
        in_memory = torch.Size([shape[d] for d in self.order])
        self.dense = is_dense(in_memory, [strides[d] for d in self.order])
        self.in_order = not self.dense or is_dense(shape, strides)
        if not self.in_order:
            self.shape = in_memory
            self.inverse = [self.order.index(d) for d in range(len(shape))]

    def arrange_sequence(self, x_seq: Tensor) -> Tensor:
        """[T, B, ...], the dimensions of a step in the lanes' order, and each step dense."""
        if not self.in_order:
            x_seq = x_seq.permute(0, *[1 + d for d in self.order])
        if x_seq.is_contiguous() or is_dense(self.shape, x_seq.stride()[1:]):
            return x_seq
        return x_seq.contiguous()

    def arrange(self, states: Tensor) -> Tensor:
        """[..., B, ...], contiguous, the dimensions of a step in the lanes' order."""
        if not self.in_order:
            lead = states.dim() - len(self.order)
            states = states.permute(*range(lead), *[lead + d for d in self.order])
        return states.contiguous()

    def restore(self, arranged: Tensor) -> Tensor:
        """[..., B, ...] from the lanes' order back to the sequence's."""
        if self.in_order:
            return arranged
        lead = arranged.dim() - len(self.order)
        return arranged.permute(*range(lead), *[lead + d for d in self.inverse])

    def restore_(self, arranged: Tensor) -> Tensor:
        """``restore`` of a contiguous tensor in place, which makes no view of it.

        What an autograd function returns may only then be changed in place.
        """
        if self.in_order:
            return arranged
        full = self.restore(arranged)
        return arranged.as_strided_(full.shape, full.stride())

    def table(self, p: Tensor) -> tuple[Tensor, int]:
        """A broadcastable parameter as (table, inner): lane l reads table[l // inner % len(table)].

        Holds for scalars, channels, neurons and whatever else varies along one run of dimensions
        that are side by side in memory; other patterns are expanded to one value per lane.
        """
        if p.numel() == 1:
            return p.reshape(1), 1
        if p.dim() == 1 and self.in_order and p.shape[0] == self.shape[-1]:
            return p, 1  # as below, without views for autograd to walk back through
        rank = len(self.shape)
        aligned = p.reshape(*[1] * (rank - p.dim()), *p.shape)
        ordered = aligned if self.in_order else aligned.permute(self.order)
        varying = [k for k in range(rank) if ordered.shape[k] != 1]
        first, last = varying[0], varying[-1]
        if list(ordered.shape[first : last + 1]) == list(self.shape[first : last + 1]):
            return ordered.reshape(-1), prod(self.shape[last + 1 :])
        return ordered.expand(self.shape).reshape(-1), 1
