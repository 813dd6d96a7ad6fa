"""Surrogates of two functions: ``custom``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from .._core import checks
from .base import SurrogateFunction

_PLAIN = SurrogateFunction()
_MAX_PARAMETERS = 8
"""``kMaxSurrogateParams`` of ``surrogates.h``, which this room does not read."""


def custom(
    gradient: Callable[..., Tensor],
    primitive: Callable[..., Tensor] | None = None,
    *,
    spiking: bool = True,
    **parameters: float,
) -> SurrogateFunction:
    """A surrogate of your own, for every neuron: kernels are compiled with it at first use.

    ``surrogate.custom(gradient=lambda x, alpha: alpha / (1 + (alpha * x).abs()) ** 2, alpha=2.0)``

    Args:
        gradient: g'(x), from a tensor and the parameters by position to a tensor, in operations
            of one element at a time (those of ``snnkernels.compile_neuron``).
        primitive: g(x), likewise; None if there is none, and then it only spikes.
        spiking: True for the step with this gradient, False for the primitive.
        parameters: numbers, in the order in which both functions take them. Changing one, as in
            ``mine.alpha = 3.0``, compiles nothing.

    Raises:
        snnkernels.StepError: a function cannot be compiled; the message gives the line.
        TypeError: ``gradient`` or ``primitive`` is not a Python function, a parameter not a number.
        ValueError: there are more than 8 parameters, one is not finite, or has a name that every
            surrogate has, such as ``key``.

    It can be copied, and pickled if both functions can.
    """
    for name, function in (("gradient", gradient), ("primitive", primitive)):
        if not (inspect.isfunction(function) or (function is None and name == "primitive")):
            raise TypeError(
                f"{name} must be a function made by def or lambda, got {checks.describe(function)}"
            )
    if len(parameters) > _MAX_PARAMETERS:
        raise ValueError(
            f"parameters must be at most {_MAX_PARAMETERS}, got {len(parameters)}: "
            f"{', '.join(parameters)}"
        )
    for name in parameters:
        if hasattr(_PLAIN, name) or name in SurrogateFunction.__annotations__:
            raise ValueError(
                f"parameters must not use the name {name!r}, which every surrogate has"
            )
    values = {name: checks.number(name, value) for name, value in parameters.items()}
    return _custom_class(gradient, primitive, tuple(values))(spiking, **values)


_custom_classes: WeakValueDictionary[tuple[Any, ...], type[SurrogateFunction]] = (
    WeakValueDictionary()
)


@lru_cache(maxsize=64)
def _custom_class(
    gradient: Callable[..., Tensor], primitive: Callable[..., Tensor] | None, names: tuple[str, ...]
) -> type[SurrogateFunction]:
    """The class of two functions: one, as long as any surrogate of it lives, and the latest."""
    key = (gradient, primitive, names)
    found = _custom_classes.get(key)
    if found is None:
        found = _custom_classes[key] = _new_custom_class(gradient, primitive, names)
    return found


def _new_custom_class(
    gradient: Callable[..., Tensor], primitive: Callable[..., Tensor] | None, names: tuple[str, ...]
) -> type[SurrogateFunction]:
    class Custom(SurrogateFunction):
        parameter_names = names

        def __reduce__(self) -> Any:
            values = dict(zip(names, self.values, strict=True))
            return _rebuild_custom, (gradient, primitive, self.spiking, values)

    Custom.gradient = staticmethod(gradient)  # type: ignore[method-assign]
    if primitive is not None:
        Custom.primitive = staticmethod(primitive)  # type: ignore[method-assign]
    Custom.traced()
    return Custom


def _rebuild_custom(
    gradient: Callable[..., Tensor],
    primitive: Callable[..., Tensor] | None,
    spiking: bool,
    values: dict[str, float],
) -> SurrogateFunction:
    return custom(gradient, primitive, spiking=spiking, **values)


_rebuild_custom.__module__ = __package__  # what pickles name, wherever it is defined
