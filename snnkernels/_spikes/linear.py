"""Linear layers on spikes: ``functional.linear``, behind ``layer.Linear``.

Where the input holds nothing but 0 and 1 and few ones, a product with a matrix is a sum of a few of
its rows. On the CPU the input is packed as ``snnkernels._spikes.storage`` packs it, the kernels
add up what fired, and the packed form is what the backward keeps. Anything else, on any device, is
``torch.nn.functional.linear``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._backends import headers, selection
from .._backends.operators import differentiable_once
from .._core.torch_private import is_batched, is_watched, is_zero_tensor
from . import storage


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, backend_name: str) -> Tensor:
    """``functional.linear``, its arguments in order."""
    devices = selection.KERNEL_DEVICES[selection.check_backend(backend_name)]
    if "cpu" in devices and _is_fit(x, weight, bias):
        backend = selection.chosen(backend_name, "cpu")
        words = _spikes(x, backend.operators) if backend.devices else None
        if words is not None:
            y: Tensor = _SpikeLinear.apply(x, weight, bias, words, backend.operators)
            return y.view(*x.shape[:-1], weight.shape[0])
    return F.linear(x, weight, bias)


def _spikes(x: Tensor, operators: Any) -> Tensor | None:
    """x in packed words, if it holds few enough spikes and nothing else."""
    packed = storage.pack(x, operators)
    if packed is None:
        return None
    most = headers.LAUNCH["SNN_CPU_LINEAR_MAX_PERCENT"] * x.numel()
    spikes: int = operators.count_spikes(packed.words)
    return packed.words if 100 * spikes <= most else None


def _is_fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the kernels take these tensors and gain by it, and nobody needs to see more of it."""
    given = (x, weight) if bias is None else (x, weight, bias)
    return (
        not torch.compiler.is_compiling()
        and all(_is_plain(tensor) for tensor in given)
        and x.dim() > 1
        and weight.dim() == 2
        and x.shape[-1] == weight.shape[1]
        and (bias is None or bias.shape == weight.shape[:1])
        and _is_large(x, weight)
        and not torch.is_autocast_enabled("cpu")
        and not is_watched()
    )


def _is_large(x: Tensor, weight: Tensor) -> bool:
    outputs, inputs = weight.shape
    rows = x.numel() // inputs if inputs else 0
    sizes = {"ROWS": rows, "INPUTS": inputs, "OUTPUTS": outputs}
    sizes["PRODUCTS"] = rows * inputs * outputs
    return all(n >= headers.LAUNCH[f"SNN_CPU_LINEAR_MIN_{name}"] for name, n in sizes.items())


def _is_plain(tensor: Tensor) -> bool:
    return (
        type(tensor) in (Tensor, torch.nn.Parameter)
        and tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and tensor.layout == torch.strided
        and tensor.is_contiguous()
        and not is_zero_tensor(tensor)
    )


class _SpikeLinear(torch.autograd.Function):
    """x W^T + b of the packed x [..., inputs], as [rows, outputs]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        words: Tensor,
        operators: Any,
    ) -> Tensor:
        wants_x, wants_weight, *_ = ctx.needs_input_grad
        ctx.save_for_backward(weight if wants_x else None, words if wants_weight else None)
        ctx.x_shape, ctx.operators = x.shape, operators
        y: Tensor = operators.spike_linear(words, weight, bias, x.numel() // x.shape[-1])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weight, words = ctx.saved_tensors
        inputs, wants_bias = ctx.x_shape[-1], ctx.needs_input_grad[2]
        gradients = partial(_gradients, ctx.operators)
        grad_x, *others = differentiable_once(
            "a linear layer on spikes", gradients, grad, weight, words, inputs, wants_bias
        )
        return None if grad_x is None else grad_x.view(ctx.x_shape), *others, None, None


def _gradients(
    operators: Any,
    grad: Tensor,
    weight: Tensor | None,
    words: Tensor | None,
    inputs: int,
    wants_bias: bool,
) -> tuple[Tensor | None, ...]:
    """Of x [rows, inputs], weight and bias, as far as they are wanted, given that of y."""
    grad = grad.contiguous()
    return (
        None if weight is None else _product(operators, grad, weight),
        None if words is None else operators.spike_linear_weight(words, grad, inputs),
        grad.sum(0) if wants_bias else None,
    )


def _product(operators: Any, a: Tensor, b: Tensor) -> Tensor:
    """a b, in memory that is kept for later: in fresh memory a large one can take twice as long."""
    if torch.compiler.is_compiling() or is_watched() or is_batched(a):
        return a @ b
    out = operators.empty_from_cpu_cache(a, (a.shape[0], b.shape[1]))
    return torch.mm(a, b, out=out)
