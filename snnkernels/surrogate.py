"""Surrogate gradients: a Heaviside step forward, a smooth gradient backward.

Each class is a module that works on any floating-point tensor: ``surrogate.ATan(alpha=2.0)(x)`` is
1 where ``x >= 0`` and 0 elsewhere, and its gradient is ``gradient(x)``. With ``spiking=False`` it
is the primitive of that gradient instead, a smooth function.

The formulas here are plain PyTorch and serve as the reference for the kernels, which hold their own
(``csrc/include/snnkernels/surrogates.h``) under the same names.

A surrogate of your own is made by :func:`custom`, or is a subclass of :class:`SurrogateFunction`;
kernels are compiled with it. Any other module from tensor to tensor, such as one around a
``torch.autograd.Function`` or a subclass with a ``forward`` of its own, runs on the reference path.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from . import _checks

if TYPE_CHECKING:
    from .codegen import Outside, SurrogateTrace

__all__ = [
    "ATan",
    "Erf",
    "FakeNumericalGradient",
    "FastSigmoid",
    "Gaussian",
    "LeakyKReLU",
    "LogTailedReLU",
    "NonzeroSignLogAbs",
    "PiecewiseExp",
    "PiecewiseLeakyReLU",
    "PiecewiseQuadratic",
    "QPseudoSpike",
    "Rect",
    "S2NN",
    "Sigmoid",
    "SoftSign",
    "SquarewaveFourierSeries",
    "SuperSpike",
    "SurrogateFunction",
    "custom",
    "heaviside",
]


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
    """What the class is known by in :data:`CLASSES`."""
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
        built_in = cls.__module__ == __name__ and "<locals>" not in cls.__qualname__
        _know(cls, cls.__name__ if built_in else f"{cls.__name__}#{next(_numbers)}")

    @classmethod
    def traced(cls) -> SurrogateTrace:
        """Record ``gradient`` and ``primitive``, for kernels to be compiled with them.

        Raises:
            snnkernels.StepError: naming the line that cannot be compiled.
        """
        from . import codegen

        has_primitive = cls.primitive is not SurrogateFunction.primitive
        primitive = cls.primitive if has_primitive else None
        cls._outside = codegen.Outside(*filter(None, (cls.gradient, primitive)))
        return codegen.trace_surrogate(cls.gradient, primitive, cls.parameter_names)

    def __init__(self, spiking: bool = True, **parameters: float) -> None:
        super().__init__()
        for name, value in parameters.items():
            setattr(self, name, value)
        self.set_spiking_mode(spiking)

    @property
    def values(self) -> tuple[float, ...]:
        """The parameters' values, in the order of ``parameter_names``."""
        if self._outside is not None:
            _know_again(type(self))
        return tuple([getattr(self, name) for name in self.parameter_names])

    @property
    def is_declared(self) -> bool:
        """Whether ``gradient`` and ``primitive`` say all that a call does: there are no hooks."""
        return not (
            self.has_own_forward
            or self._forward_hooks
            or self._forward_pre_hooks
            or self._backward_hooks
            or self._backward_pre_hooks
            or "forward" in self.__dict__
        )

    @property
    def has_primitive(self) -> bool:
        return type(self).primitive is not SurrogateFunction.primitive

    def set_spiking_mode(self, spiking: bool) -> None:
        """Choose between the step (True) and the primitive (False).

        Raises:
            ValueError: if the surrogate has no primitive and ``spiking`` is False.
        """
        if not _checks.boolean("spiking", spiking) and not self.has_primitive:
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
        _checks.sequence("x", x, leading="[...]", minimum_rank=0)
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


def _know_again(cls: type[SurrogateFunction]) -> None:
    """Give a class another key, and so other kernels, if its functions now read other values."""
    if cls._outside is not None and cls._outside.has_changed:
        _know(cls, f"{cls.__name__}#{next(_numbers)}")
        cls._outside = None


# As units.kernel_for: torch.compile evaluates it at trace time.
_know_again._dynamo_marked_constant = True  # type: ignore[attr-defined]


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


class Sigmoid(SurrogateFunction):
    """g(x) = sigmoid(alpha x), g'(x) = alpha sigmoid(alpha x) (1 - sigmoid(alpha x)); alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 4.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        s = torch.sigmoid(alpha * x)
        return alpha * s * (1 - s)

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return torch.sigmoid(alpha * x)


class ATan(SurrogateFunction):
    """g(x) = arctan(pi/2 alpha x) / pi + 1/2, g'(x) = alpha/2 / (1 + (pi/2 alpha x)^2).

    ``alpha`` > 0.
    """

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 2.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return (alpha / 2) / (1 + (math.pi / 2 * alpha * x).square())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return (math.pi / 2 * alpha * x).atan() / math.pi + 0.5


class Erf(SurrogateFunction):
    """g(x) = erfc(-alpha x) / 2, g'(x) = alpha / sqrt(pi) exp(-(alpha x)^2); alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 2.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha / math.sqrt(math.pi) * torch.exp(-(alpha * x).square())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return torch.erfc(-alpha * x) / 2


class PiecewiseQuadratic(SurrogateFunction):
    """The triangle: g'(x) = max(0, alpha - alpha^2 |x|); g its integral, from 0 to 1; alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 1.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return (alpha - alpha**2 * x.abs()).clamp(min=0)

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        inside = -(alpha**2) / 2 * x * x.abs() + alpha * x + 0.5
        return torch.where(
            x < -1 / alpha,
            torch.zeros_like(x),
            torch.where(x > 1 / alpha, torch.ones_like(x), inside),
        )


class PiecewiseExp(SurrogateFunction):
    """g'(x) = alpha/2 exp(-alpha |x|); g(x) = exp(alpha x)/2 below 0, 1 - exp(-alpha x)/2 above."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 1.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha / 2 * torch.exp(-alpha * x.abs())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        tail = torch.exp(-alpha * x.abs()) / 2
        return torch.where(x < 0, tail, 1 - tail)


class SoftSign(SurrogateFunction):
    """g(x) = (alpha x / (1 + |alpha x|) + 1) / 2, g'(x) = alpha / (2 (1 + |alpha x|)^2).

    ``alpha`` > 0.
    """

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 2.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha / (2 * (1 + (alpha * x).abs()).square())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        y = alpha * x
        return (y / (1 + y.abs()) + 1) / 2


class SuperSpike(SurrogateFunction):
    """g(x) = alpha x / (1 + |x|), g'(x) = alpha / (1 + |x|)^2 (Zenke 2018); alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 1.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha / (1 + x.abs()).square()

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return alpha * x / (1 + x.abs())


class FastSigmoid(SurrogateFunction):
    """g(x) = x / (1 + slope |x|), g'(x) = 1 / (1 + slope |x|)^2; slope > 0."""

    parameter_names = ("slope",)

    def __init__(self, slope: float = 25.0, spiking: bool = True) -> None:
        super().__init__(spiking, slope=_checks.number("slope", slope, above=0))

    @staticmethod
    def gradient(x: Tensor, slope: float) -> Tensor:
        return (1 + slope * x.abs()).square().reciprocal()

    @staticmethod
    def primitive(x: Tensor, slope: float) -> Tensor:
        return x / (1 + slope * x.abs())


class Rect(SurrogateFunction):
    """The boxcar: g'(x) = alpha where |x| < 1/(2 alpha), else 0; alpha > 0.

    g(x) = clip(alpha x + 1/2, 0, 1).
    """

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 1.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha * ((alpha * x).abs() < 0.5).to(x)

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return (alpha * x + 0.5).clamp(0, 1)


class Gaussian(SurrogateFunction):
    """The normal distribution's density of standard deviation sigma > 0, and its integral."""

    parameter_names = ("sigma",)

    def __init__(self, sigma: float = 0.5, spiking: bool = True) -> None:
        super().__init__(spiking, sigma=_checks.number("sigma", sigma, above=0))

    @staticmethod
    def gradient(x: Tensor, sigma: float) -> Tensor:
        return torch.exp(-(x / sigma).square() / 2) / (sigma * math.sqrt(2 * math.pi))

    @staticmethod
    def primitive(x: Tensor, sigma: float) -> Tensor:
        return (1 + torch.erf(x / (sigma * math.sqrt(2)))) / 2


class NonzeroSignLogAbs(SurrogateFunction):
    """g(x) = sign(x) ln(|alpha x| + 1), g'(x) = 1 / (1/alpha + |x|); alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 1.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return 1 / (1 / alpha + x.abs())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        return (1 - 2 * (x < 0).to(x)) * torch.log((alpha * x).abs() + 1)


class PiecewiseLeakyReLU(SurrogateFunction):
    """Slope 1/(2w) within [-w, w] and c outside; g its integral; w > 0, c >= 0."""

    parameter_names = ("w", "c")

    def __init__(self, w: float = 1.0, c: float = 0.01, spiking: bool = True) -> None:
        super().__init__(
            spiking,
            w=_checks.number("w", w, above=0),
            c=_checks.number("c", c, minimum=0),
        )

    @staticmethod
    def gradient(x: Tensor, w: float, c: float) -> Tensor:
        return torch.where(x.abs() > w, torch.full_like(x, c), torch.full_like(x, 1 / (2 * w)))

    @staticmethod
    def primitive(x: Tensor, w: float, c: float) -> Tensor:
        inside = x / (2 * w) + 0.5
        outside = torch.where(x < -w, c * x + c * w, c * x - c * w + 1)
        return torch.where(x.abs() > w, outside, inside)


class LeakyKReLU(SurrogateFunction):
    """g(x) = k x for x >= 0, else leak x; g' its slope."""

    parameter_names = ("leak", "k")

    def __init__(self, leak: float = 0.0, k: float = 1.0, spiking: bool = True) -> None:
        super().__init__(
            spiking,
            leak=_checks.number("leak", leak, minimum=0),
            k=_checks.number("k", k, minimum=0),
        )

    @staticmethod
    def gradient(x: Tensor, leak: float, k: float) -> Tensor:
        return torch.where(x >= 0, torch.full_like(x, k), torch.full_like(x, leak))

    @staticmethod
    def primitive(x: Tensor, leak: float, k: float) -> Tensor:
        return torch.where(x >= 0, k * x, leak * x)


class LogTailedReLU(SurrogateFunction):
    """g(x) = alpha x for x <= 0, x up to 1, ln(x) + 1 above; g' its slope; alpha >= 0.

    Source: Cai et al., 2017.
    """

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 0.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, minimum=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        above = 1 / x.clamp(min=1)
        return torch.where(x > 0, above, alpha)

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        tail = torch.log(x.clamp(min=1)) + 1
        return torch.where(x > 1, tail, torch.where(x > 0, x, alpha * x))


class S2NN(SurrogateFunction):
    """g(x) = sigmoid(alpha x) for x < 0, else beta ln(x + 1) + 1/2 (Suetake 2022); both > 0."""

    parameter_names = ("alpha", "beta")

    def __init__(self, alpha: float = 4.0, beta: float = 1.0, spiking: bool = True) -> None:
        super().__init__(
            spiking,
            alpha=_checks.number("alpha", alpha, above=0),
            beta=_checks.number("beta", beta, above=0),
        )

    @staticmethod
    def gradient(x: Tensor, alpha: float, beta: float) -> Tensor:
        s = torch.sigmoid(alpha * x)
        return torch.where(x < 0, alpha * s * (1 - s), beta / (x.clamp(min=0) + 1))

    @staticmethod
    def primitive(x: Tensor, alpha: float, beta: float) -> Tensor:
        above = beta * torch.log(x.clamp(min=0) + 1) + 0.5
        return torch.where(x < 0, torch.sigmoid(alpha * x), above)


class QPseudoSpike(SurrogateFunction):
    """g'(x) = (1 + 2|x| / (alpha - 1))^-alpha (Herranz-Celotti 2022); alpha > 1."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 2.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=1))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return (1 + 2 * x.abs() / (alpha - 1)).pow(-alpha)

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        tail = (1 + 2 * x.abs() / (alpha - 1)).pow(1 - alpha) / 2
        return torch.where(x < 0, tail, 1 - tail)


class FakeNumericalGradient(SurrogateFunction):
    """g'(x) = min(sign(x) / x, alpha); it has no primitive, so it only spikes; alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 0.3, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=_checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return x.abs().reciprocal().clamp(max=alpha)


class SquarewaveFourierSeries(SurrogateFunction):
    """The first n - 1 terms of a square wave's Fourier series of period T_period.

    g'(x) = 4/T sum_{i=1}^{n-1} cos(2 pi (2i - 1) x / T), with an integer n >= 2 and T_period > 0.
    The period is rounded to the dtype of x.
    """

    parameter_names = ("n", "T_period")

    def __init__(self, n: int = 2, T_period: float = 8.0, spiking: bool = True) -> None:
        if not isinstance(n, int) or isinstance(n, bool):
            raise TypeError(f"n must be an integer, got {_checks.describe(n)}")
        super().__init__(
            spiking,
            n=int(_checks.number("n", n, minimum=2)),
            T_period=_checks.number("T_period", T_period, above=0),
        )

    @staticmethod
    def gradient(x: Tensor, n: int, T_period: float) -> Tensor:
        angle, sign = SquarewaveFourierSeries._phase(x, T_period)
        total = torch.zeros_like(x)
        for i in range(1, int(n)):
            total = total + torch.cos((2 * i - 1) * angle)
        return sign * total * (4 / T_period)

    @staticmethod
    def primitive(x: Tensor, n: int, T_period: float) -> Tensor:
        angle, sign = SquarewaveFourierSeries._phase(x, T_period)
        total = torch.zeros_like(x)
        for i in range(1, int(n)):
            total = total + torch.sin((2 * i - 1) * angle) / (2 * i - 1)
        return 0.5 + sign * total * (2 / math.pi)

    @staticmethod
    def _phase(x: Tensor, period: float) -> tuple[Tensor, Tensor]:
        """The angle of x within a quarter turn of 0, and the sign that whole half turns give."""
        within = torch.fmod(x, period)  # fmod is exact, and so is what is subtracted below
        count = torch.round(within / (period / 2))
        angle = (within - count * (period / 2)) * (2 * math.pi / period)
        return angle, 1 - 2 * torch.remainder(count, 2)


BUILT_IN: dict[type[SurrogateFunction], str] = {
    cls: cls.__name__ for cls in SurrogateFunction.__subclasses__()
}
"""The surrogates that the kernels hold, by the name under which they hold them."""

_PLAIN = SurrogateFunction()
_MAX_PARAMETERS = 8


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
            of one element at a time (those of :func:`snnkernels.compile_neuron`).
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
                f"{name} must be a function made by def or lambda, got {_checks.describe(function)}"
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
    values = {name: _checks.number(name, value) for name, value in parameters.items()}
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
