"""Linear layers on spikes: ``functional.linear``, behind ``layer.Linear``.

Where the input holds nothing but 0 and 1 and few ones, a product with a matrix is a sum of a few of
its rows. On the CPU the input is packed as :mod:`snnkernels.spike_storage` packs it, the kernels
add up what fired, and the packed form is what the backward keeps. Anything else, on any device, is
``torch.nn.functional.linear``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from . import backend, ops, registry, spike_storage


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, backend_name: str) -> Tensor:
    """``functional.linear``, its arguments in order."""
    backend.check(backend_name)
    words = _spikes(x, weight, bias) if backend_name != "torch" else None
    if words is None:
        return F.linear(x, weight, bias)
    y: Tensor = _SpikeLinear.apply(x, weight, bias, words)
    return y.view(*x.shape[:-1], weight.shape[0])


def _spikes(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor | None:
    """x in packed words, if the kernels can take it and are worth it."""
    if torch.compiler.is_compiling() or not _is_fit(x, weight, bias):
        return None
    if not _is_large(x, weight) or backend.name_for("auto", "cpu") != "native":
        return None
    packed = spike_storage.pack(x)
    if packed is None:
        return None
    most = registry.LAUNCH["SNN_CPU_LINEAR_MAX_PERCENT"] * x.numel()
    spikes: int = _operators().count_spikes(packed.words)
    return packed.words if 100 * spikes <= most else None


def _operators() -> Any:
    return ops.namespace("native")


def _is_fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels take these tensors, and nobody looks on who needs to see more of it."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return (
        all(_is_plain(tensor) for tensor in given)
        and x.dim() > 1
        and weight.dim() == 2
        and 0 < x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _is_large(x: Tensor, weight: Tensor) -> bool:
    outputs, inputs = weight.shape
    rows = x.numel() // inputs
    return (
        rows >= registry.LAUNCH["SNN_CPU_LINEAR_MIN_ROWS"]
        and rows * inputs * outputs >= registry.LAUNCH["SNN_CPU_LINEAR_MIN_PRODUCTS"]
    )


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
    )


class _SpikeLinear(torch.autograd.Function):
    """x W^T + b of the packed x [..., inputs], as [rows, outputs]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, words: Tensor) -> Tensor:
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(weight if wants_x else None, words if wants_weight else None)
        ctx.x_shape = x.shape
        y: Tensor = _operators().spike_linear(words, weight, bias, x.numel() // x.shape[-1])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, words = ctx.saved_tensors
        settings = ctx.x_shape, ctx.needs_input_grad[2]
        gradients = ops.differentiable_once(
            "a linear layer on spikes", _gradients, grad, weight, words, *settings
        )
        return *gradients, None


def _gradients(
    grad: Tensor,
    weight: Tensor | None,
    words: Tensor | None,
    x_shape: torch.Size,
    wants_bias: bool,
) -> tuple[Tensor | None, ...]:
    """Of x, weight and bias, as far as they are wanted, given that of y [rows, outputs]."""
    grad, inputs = grad.contiguous(), x_shape[-1]
    return (
        None if weight is None else _product(grad, weight).view(x_shape),
        None if words is None else _operators().spike_linear_weight(words, grad, inputs),
        grad.sum(0) if wants_bias else None,
    )


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b, in memory that is kept for later: in fresh memory a large one can take twice as long."""
    out = _operators().empty_from_cpu_cache(a, (a.shape[0], b.shape[1]))
    return torch.mm(a, b, out=out)
