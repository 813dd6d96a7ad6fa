"""``spike(u)``: where a step function fires, by the surrogate of the node that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from . import surrogate

_surrogate: Callable[[Tensor], Tensor] | None = None


def spike(u: Tensor) -> Tensor:
    """1 where ``u >= 0``, else 0, with the gradient of the surrogate in use.

    Inside a neuron of :func:`snnkernels.compile_neuron` that is the node's ``surrogate_function``;
    elsewhere it is ``surrogate.Sigmoid()``.
    """
    if _surrogate is None:
        return surrogate.Sigmoid()(u)
    return _surrogate(u)


@contextmanager
def with_surrogate(function: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Let ``spike`` be ``function`` for a while."""
    global _surrogate
    before, _surrogate = _surrogate, function
    try:
        yield
    finally:
        _surrogate = before
