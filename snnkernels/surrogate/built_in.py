"""The surrogates that the kernels hold, each under the name of its struct in ``surrogates.h``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._core import checks
from .base import SurrogateFunction


class Sigmoid(SurrogateFunction):
    """g(x) = sigmoid(alpha x), g'(x) = alpha sigmoid(alpha x) (1 - sigmoid(alpha x)); alpha > 0."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 4.0, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, slope=checks.number("slope", slope, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
        super().__init__(spiking, sigma=checks.number("sigma", sigma, above=0))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
            w=checks.number("w", w, above=0),
            c=checks.number("c", c, minimum=0),
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
            leak=checks.number("leak", leak, minimum=0),
            k=checks.number("k", k, minimum=0),
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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, minimum=0))

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
            alpha=checks.number("alpha", alpha, above=0),
            beta=checks.number("beta", beta, above=0),
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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=1))

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
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

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
            raise TypeError(f"n must be an integer, got {checks.describe(n)}")
        super().__init__(
            spiking,
            n=int(checks.number("n", n, minimum=2)),
            T_period=checks.number("T_period", T_period, above=0),
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
