"""What all surrogates are: a Heaviside step forward, a smooth gradient backward."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from .._codegen import Outside, SurrogateTrace, trace_surrogate
from .._core import checks
from .._core.torch_private import constant_when_compiled, has_hooks


def heaviside(x: Tensor) -> Tensor:
    """1 where ``x >= 0``, else 0 (NaN gives 0), in the shape and dtype of ``x``."""
    return (x >= 0).to(x)


CLASSES: WeakValueDictionary[str, type[SurrogateFunction]] = WeakValueDictionary()
"""Every surrogate class by its key: the name of a built-in one, else a name and a number."""
_numbers = itertools.count()


class SurrogateFunction(nn.Module):
    """Base of all surrogates: subclasses give ``gradient`` and, if there is one, ``primitive``.

    Args:
        spiking: True for the Heaviside step with a surrogate gradient, False for the primitive.

    Both static methods take the tensor and then the parameters, as ``parameter_names`` has them.
    """

    parameter_names: ClassVar[tuple[str, ...]] = ()
    key: ClassVar[str]
    """What the class is known by in ``CLASSES``."""
    has_own_forward: ClassVar[bool] = False
    """Whether a subclass gives more than ``gradient`` and ``primitive``, which no kernel runs."""
    _spike: ClassVar[type[torch.autograd.Function]]
    _smooth: ClassVar[type[torch.autograd.Function]]
    _smooth_with_tangent: ClassVar[type[torch.autograd.Function]]
    _outside: ClassVar[Outside | None] = None
    """What kernels were compiled for, of all that both functions read besides their arguments."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._spike = _spike_function(cls)
        cls._smooth, cls._smooth_with_tangent = _smooth_functions(cls)
        cls.has_own_forward = (
            cls.forward is not SurrogateFunction.forward or cls.__call__ is not nn.Module.__call__
        )
        built_in = (
            cls.__module__ == f"{__package__}.built_in" and "<locals>" not in cls.__qualname__
        )
        _know(cls, cls.__name__ if built_in else f"{cls.__name__}#{next(_numbers)}")

    @classmethod
    def traced(cls) -> SurrogateTrace:
        """Record ``gradient`` and ``primitive``, for kernels to be compiled with them.

        Raises:
            snnkernels.StepError: naming the line that cannot be compiled.
        """
        has_primitive = cls.primitive is not SurrogateFunction.primitive
        primitive = cls.primitive if has_primitive else None
        cls._outside = Outside(*filter(None, (cls.gradient, primitive)))
        return trace_surrogate(cls.gradient, primitive, cls.parameter_names)

    def __init__(self, spiking: bool = True, **parameters: float) -> None:
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, value)
        self.set_spiking_mode(spiking)

    @property
    def kernel_key(self) -> str:
        """The ``key`` of its class: another one where its functions now read other values."""
        if self._outside is not None:
            _know_again(type(self))
        return self.key

    @property
    def values(self) -> tuple[float, ...]:
        """The parameters' values, in the order of ``parameter_names``."""
        return tuple([getattr(self, name) for name in self.parameter_names])

    @property
    def is_declared(self) -> bool:
        """Whether ``gradient`` and ``primitive`` say all that a call does: there are no hooks."""
        return not (self.has_own_forward or has_hooks(self) or "forward" in self.__dict__)

    @property
    def has_primitive(self) -> bool:
        return type(self).primitive is not SurrogateFunction.primitive

    def set_spiking_mode(self, spiking: bool) -> None:
        """Choose between the step (True) and the primitive (False).

        Raises:
            ValueError: if the surrogate has no primitive and ``spiking`` is False.
        """
        if not checks.boolean("spiking", spiking) and not self.has_primitive:
            raise ValueError(
                f"{type(self).__name__} has no primitive, so spiking must be True, got False"
            )
        self.spiking = spiking

    @staticmethod
    def gradient(x: Tensor, *parameters: Any, **named: Any) -> Tensor:
        raise NotImplementedError("a surrogate needs gradient(x, *parameters)")

    @staticmethod
    def primitive(x: Tensor, *parameters: Any, **named: Any) -> Tensor:
        raise NotImplementedError("this surrogate has no primitive")

    def forward(self, x: Tensor) -> Tensor:
        """Spikes (or the primitive) of ``x``, in its shape and dtype.

        The derivative of either is ``gradient(x)``, at kinks of the primitive too.
        """
        checks.sequence("x", x, leading="[...]", minimum_rank=0)
        if self.spiking:
            return self._spike.apply(x, *self.values)
        compiling = torch.compiler.is_compiling()
        smooth = self._smooth if compiling else self._smooth_with_tangent
        return smooth.apply(x, *self.values)

    def extra_repr(self) -> str:
        pairs = [f"{name}={getattr(self, name):g}" for name in self.parameter_names]
        return ", ".join([*pairs, f"spiking={self.spiking}"])


def _know(cls: type[SurrogateFunction], key: str) -> None:
    cls.key = key
    CLASSES[key] = cls


@constant_when_compiled
def _know_again(cls: type[SurrogateFunction]) -> None:
    """Give a class another key, and so other kernels, if its functions now read other values."""
    if cls._outside is not None and cls._outside.has_changed:
        _know(cls, f"{cls.__name__}#{next(_numbers)}")
        cls._outside = None


def _spike_function(cls: type[SurrogateFunction]) -> type[torch.autograd.Function]:
    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, *parameters: float) -> Tensor:
            ctx.save_for_backward(x)
            ctx.parameters = parameters
            return heaviside(x)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
            (x,) = ctx.saved_tensors
            grad = grad_output * cls.gradient(x, *ctx.parameters)
            return grad, *[None] * len(ctx.parameters)

    return Spike


def _smooth_functions(
    cls: type[SurrogateFunction],
) -> tuple[type[torch.autograd.Function], type[torch.autograd.Function]]:
    """The primitive with ``gradient`` as its derivative; the second in forward mode too.

    torch.compile takes no function that has a forward mode.
    """

    class Smooth(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x: Tensor, *parameters: float) -> Tensor:
            return cls.primitive(x, *parameters)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
            x, *ctx.parameters = inputs
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
            (x,) = ctx.saved_tensors
            grad = grad_output * cls.gradient(x, *ctx.parameters)
            return grad, *[None] * len(ctx.parameters)

    class SmoothWithTangent(Smooth):
        @staticmethod
        def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
            (x,) = ctx.saved_tensors
            return tangent * cls.gradient(x, *ctx.parameters)

    return Smooth, SmoothWithTangent
