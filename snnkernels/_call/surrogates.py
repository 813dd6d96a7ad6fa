"""What a call asks of a surrogate."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn

from .. import surrogate
from .._backends import selection
from .._core import checks


def check_surrogate(surrogate_function: object) -> None:
    """Refuse what is not a surrogate at all.

    Raises:
        TypeError: naming the argument.
    """
    if isinstance(surrogate_function, type) or not callable(surrogate_function):
        raise TypeError(
            "surrogate_function must be an instance such as surrogate.ATan() or another callable "
            f"module from tensor to tensor, got {checks.describe(surrogate_function)}"
        )


def gives_spikes(surrogate_function: nn.Module) -> bool:
    """Whether what a surrogate gives is known to be 0 or 1."""
    return is_declared(surrogate_function) and surrogate_function.spiking


def is_declared(surrogate_function: nn.Module) -> TypeGuard[surrogate.SurrogateFunction]:
    """Whether its gradient and primitive say all that a surrogate does."""
    return (
        isinstance(surrogate_function, surrogate.SurrogateFunction)
        and surrogate_function.is_declared
    )


def has_kernel(
    surrogate_function: nn.Module, backend_name: str
) -> TypeGuard[surrogate.SurrogateFunction]:
    """Whether kernels can be had with a surrogate; warns once where auto falls back for it.

    Raises:
        ValueError: if they can't, and a backend with kernels was asked for by name.
    """
    if is_declared(surrogate_function):
        return True
    selection.fall_back(backend_name, without_kernel(surrogate_function))
    return False


def without_kernel(surrogate_function: nn.Module) -> str:
    """What to say of a surrogate that is not declared."""
    kind = type(surrogate_function).__name__
    if not getattr(surrogate_function, "has_own_forward", True):
        kind = f"{kind} with hooks or a forward of its own"
    return (
        f"the surrogate {kind} has no kernel; those of snnkernels.surrogate and "
        "surrogate.custom have one"
    )
