"""Argument checks. Each names the argument, what was got and what was expected."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPE_NAMES = ", ".join(str(d).removeprefix("torch.") for d in FLOAT_DTYPES)


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of state and arithmetic for inputs of ``dtype``: never narrower than float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"{value!r} ({type(value).__name__})"


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def number(
    name: str,
    value: object,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    above: float = -math.inf,
    whole: bool = False,
) -> float:
    """``value`` as a float, if it is a finite number in [minimum, maximum] and greater than above.

    With ``whole`` it must have no fraction.

    Raises:
        TypeError: if ``value`` is not a number.
        ValueError: if it is not finite or out of range.
    """
    if (
        type(value) is float
        and minimum <= value <= maximum
        and above < value < math.inf > -value
        and not whole
    ):
        return value  # nearly always
    if not is_number(value):
        raise TypeError(f"{name} must be a number, got {describe(value)}")
    result = float(value)  # type: ignore[arg-type]
    finite = -math.inf < result < math.inf
    fits = finite and minimum <= result <= maximum and result > above
    if fits and (result.is_integer() or not whole):
        return result
    limits = ["finite"]
    if above > -math.inf:
        limits.append(f"> {above:g}")
    if minimum > -math.inf:
        limits.append(f">= {minimum:g}")
    if maximum < math.inf:
        limits.append(f"<= {maximum:g}")
    if whole:
        limits.append("whole")
    raise ValueError(f"{name} must be {' and '.join(limits)}, got {value!r}")


def choice(name: str, value: object, options: Collection[str]) -> str:
    if value not in options:
        listed = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}")
    return str(value)


def boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {describe(value)}")
    return value


def arguments(
    name: str,
    defaults: Mapping[str, Any],
    positional: Sequence[str],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    signature: Callable[[], inspect.Signature],
) -> dict[str, Any]:
    """The arguments of a call by name: ``signature.bind`` in a tenth of its time.

    Args:
        name: that of the function.
        defaults: of all that it takes.
        positional: those that may be given by position.
        args, kwargs: what was given.
        signature: asked for what is wrong with them.

    Raises:
        TypeError: naming what does not fit.
    """
    values = {**defaults, **kwargs}
    if args or len(values) > len(defaults):
        twice = [given for given in positional[: len(args)] if given in kwargs]
        if twice or len(args) > len(positional) or len(values) > len(defaults):
            try:
                signature().bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}() {error}") from None
        values.update(zip(positional, args, strict=False))
    return values


def sequence(name: str, x: object, *, leading: str, minimum_rank: int) -> Tensor:
    """``x`` as a floating-point tensor of at least ``minimum_rank`` dimensions."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor of shape {leading}, got {describe(x)}")
    if x.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name} must have one of the dtypes {_DTYPE_NAMES}, got {describe(x)}")
    dense(name, x)
    if x.dim() < minimum_rank:
        raise ValueError(
            f"{name} must have shape {leading}, at least {minimum_rank} dimensions, "
            f"got {describe(x)}"
        )
    return x


def dense(name: str, tensor: Tensor) -> None:
    """Refuse what is no array of elements: sparse and nested tensors.

    Raises:
        TypeError: naming the argument.
    """
    if tensor.layout != torch.strided or tensor.is_nested:
        kind = "nested tensor" if tensor.is_nested else f"tensor of layout {tensor.layout}"
        raise TypeError(f"{name} must be a dense tensor, got a {kind}")


def same_device(name: str, tensor: Tensor, x: Tensor) -> None:
    if tensor.device != x.device:
        raise ValueError(
            f"{name} must be on the input's device {x.device}, got a tensor on {tensor.device}"
        )


def widen(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """``tensor`` in ``dtype`` where that loses nothing.

    Raises:
        TypeError: if ``tensor`` is not floating-point or is wider than ``dtype``.
    """
    if tensor.dtype == dtype:
        return tensor
    if tensor.dtype not in FLOAT_DTYPES or torch.promote_types(tensor.dtype, dtype) != dtype:
        raise TypeError(
            f"{name} must be floating-point and no wider than the arithmetic's {dtype}, "
            f"got {describe(tensor)}"
        )
    return tensor.to(dtype)


def state(name: str, value: object, x: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """A carried state: a tensor of one step's shape, on x's device, in the arithmetic's dtype.

    One that inference mode made is copied outside it, where autograd could not save it.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a number or a tensor, got {describe(value)}")
    same_device(name, value, x)
    dense(name, value)
    if value.shape != shape:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, but one step of the input has shape "
            f"{tuple(shape)}. If the input's shape changed on purpose, call reset() on the neuron "
            "(or functional.reset_net(net)) before the new batch"
        )
    if (
        not torch.compiler.is_compiling()
        and value.is_inference()
        and not torch.is_inference_mode_enabled()
    ):
        value = value.clone()
    return widen(name, value, dtype)


def broadcast(name: str, value: Tensor, shape: torch.Size) -> Tensor:
    """``value``, dense, reshaped so that it broadcasts over one step of shape [B, ...].

    A scalar stays one. One dimension means one value per channel: [C] against [B, C, ...]
    (against [B], one per element). More dimensions follow the usual rules.
    """
    dense(name, value)
    if value.numel() == 1:
        return value.reshape(())
    if value.dim() == 1 and len(shape) > 2:
        aligned = value.reshape(-1, *[1] * (len(shape) - 2))
    else:
        aligned = value
    fits = aligned.dim() <= len(shape) and all(
        a == 1 or a == b for a, b in zip(reversed(aligned.shape), reversed(shape), strict=False)
    )
    if not fits:
        channel = f", one value per channel ({shape[1]},)" if len(shape) > 1 else ""
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected a number, a scalar tensor{channel} "
            f"or a shape that broadcasts over one step {tuple(shape)}"
        )
    return aligned
