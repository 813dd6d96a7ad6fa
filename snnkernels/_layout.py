"""How the dimensions of a tensor lie in memory."""

from __future__ import annotations

from collections.abc import Sequence

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
