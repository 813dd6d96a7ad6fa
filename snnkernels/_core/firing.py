"""``spike(u)``: where a step function fires, by the surrogate of the node that runs it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

Fire = Callable[[Tensor], Tensor]

_in_use = threading.local()
_outside_of_nodes: list[Fire] = []


def spike(u: Tensor) -> Tensor:
    """1 where ``u >= 0``, else 0, with the gradient of the surrogate in use.

    Inside a neuron's step that is the node's ``surrogate_function``; elsewhere, and inside of a
    surrogate, it is ``surrogate.Sigmoid()``.
    """
    function = getattr(_in_use, "surrogate", None)
    if function is None:
        return _outside_of_nodes[0](u)
    _in_use.surrogate = None
    try:
        return function(u)
    finally:
        _in_use.surrogate = function


@contextmanager
def with_surrogate(function: Fire) -> Iterator[None]:
    """Let ``spike`` be ``function`` for a while."""
    before = getattr(_in_use, "surrogate", None)
    _in_use.surrogate = function
    try:
        yield
    finally:
        _in_use.surrogate = before


def use_outside_of_nodes(function: Fire) -> None:
    """Let ``spike`` be ``function`` where no node runs."""
    _outside_of_nodes[:] = [function]
