"""What is private in PyTorch and used here: all of it stands in this file.

Each has no public form, or one that takes longer than the kernel of a small layer. What modules
override of ``nn.Module``'s own (``_apply``, ``_replicate_for_data_parallel``) stands in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

_Function = TypeVar("_Function", bound=Callable[..., Any])

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_ABOUT_HOOKS = (
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)


def constant_when_compiled(function: _Function) -> _Function:
    """Let torch.compile call a function when it traces, and keep the result as a constant.

    ``torch.compiler.assume_constant_result`` sets the same mark but imports all of Dynamo.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def below_autograd(operator: Any, args: tuple[Any, ...]) -> Any:
    """Call an operator past autograd's kernels."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*args)


def below_python(operator: Any) -> Callable[..., Any]:
    """What an operator's overload, an object of Python, calls itself."""
    call: Callable[..., Any] = operator._op
    return call


def may_have_tangents() -> bool:
    """Whether a level of forward-mode differentiation is entered."""
    level: int = forward_ad._current_level
    return level >= 0


def is_watched() -> bool:
    """Whether transforms, a tracer or a dispatch mode see the operators that run."""
    return (
        torch._C._are_functorch_transforms_active()
        or may_have_tangents()
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._dispatch_tls_is_dispatch_key_included(torch._C.DispatchKey.PreDispatch)
    )


def is_batched(tensor: Tensor) -> bool:
    """Whether it stands for a batch, as with ``is_grads_batched``."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor)


def is_zero_tensor(tensor: Tensor) -> bool:
    """Whether it stands for zeros without memory, as autograd makes them."""
    return tensor._is_zerotensor()


def version_of(tensor: Tensor) -> int:
    """How often its memory was changed in place."""
    return tensor._version


def convolve(module: Any, x: Tensor) -> Tensor:
    """What a convolution does to one step of x, whatever a subclass adds to ``forward``."""
    y: Tensor = module._conv_forward(x, module.weight, module.bias)
    return y


def submodules(module: nn.Module) -> dict[str, nn.Module | None]:
    """The module's own, by name, to read and to replace."""
    return module._modules


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module runs more than its ``forward``."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )


def copy_hooks(source: nn.Module, target: nn.Module) -> None:
    """Let a call of ``target`` run the hooks of ``source`` too."""
    for name in (*_HOOKS, *_ABOUT_HOOKS):
        getattr(target, name).update(getattr(source, name))
    target._is_full_backward_hook = source._is_full_backward_hook
