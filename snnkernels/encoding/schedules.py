"""Encoders whose spikes are fixed by the intensities: latency, phase, period, population."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .._core import checks
from .._core.modules import MemoryModule, StepModeModule
from .._spikes import storage


class ScheduledEncoder(StepModeModule, MemoryModule):
    """Base of the encoders that lay out all spikes at the first call and then give them in turn.

    Args:
        T: steps until the spikes repeat.
        step_mode: "s": a call gives the spikes of the next step, those of step 0 behind the last;
            the intensities are looked at in the first call after ``reset()`` alone, so later ones
            may leave them out. "m": a call gives all T steps. ``encode`` works in either mode
            and leaves no trace.
    """

    spike: Tensor | None
    t: int

    def __init__(self, T: int, step_mode: str = "s") -> None:
        super().__init__()
        self.T = check_steps(T, "T", minimum=1)
        self.step_mode = step_mode
        self.register_memory("spike", None)
        self.register_memory("t", 0)

    @abstractmethod
    def schedule(self, x: Tensor, T: int) -> Tensor:
        """The spikes of all steps, [T, ...], for intensities x [B, ...]."""

    def forward(self, x: Tensor | None = None) -> Tensor:
        """The spikes of the next step in step mode "s", of all steps [T, ...] in "m".

        Raises:
            ValueError: the intensities are missing where they are needed, or out of range.
        """
        if self.spike is None:
            self.spike = self.encode(x)
        if self.step_mode == "m":
            return self.spike
        step = self.spike[self.t]
        self.t = (self.t + 1) % len(self.spike)
        return step

    def encode(self, x: Tensor | None, T: int | None = None) -> Tensor:
        """The spikes of ``T`` steps (None: the encoder's) for intensities ``x`` [B, ...].

        Returns:
            [T, ...] in the dtype of ``x``.

        Raises:
            TypeError: ``x`` is no floating-point tensor, or ``T`` no integer.
            ValueError: ``T`` < 1, or an intensity is out of range.
        """
        steps = self.T if T is None else check_steps(T, "T", minimum=1)
        spikes = self.schedule(checks.sequence("x", x, leading="[B, ...]", minimum_rank=0), steps)
        storage.mark(spikes)
        return spikes

    def extra_repr(self) -> str:
        return f"T={self.T}, step_mode={self.step_mode!r}"


class LatencyEncoder(ScheduledEncoder):
    """One spike each, the earlier the stronger the intensity.

    A spike at step round((T - 1)(1 - x)) ("linear"), or round(T - 1 - ln(a x + 1)) with
    a = exp(T - 1) - 1 ("log"): at step 0 for intensity 1, at the last for 0. x is in [0, 1].

    Args:
        T: number of steps.
        enc_function: "linear" or "log".
        step_mode: as for ``ScheduledEncoder``.

    Source: Rueckauer and Liu, "Conversion of analog to spiking neural networks using sparse
    temporal coding", ISCAS 2018; the formulas are SpikingJelly's.
    """

    def __init__(self, T: int, enc_function: str = "linear", step_mode: str = "s") -> None:
        super().__init__(T, step_mode)
        self.enc_function = checks.choice("enc_function", enc_function, ("linear", "log"))

    def schedule(self, x: Tensor, T: int) -> Tensor:
        check_range("x", x, 0.0, 1.0)
        wide = x.to(checks.compute_dtype(x.dtype))
        if self.enc_function == "linear":
            time = (T - 1.0) * (1.0 - wide)
        else:
            time = T - 1.0 - torch.log(_exp_minus_1(T - 1.0) * wide + 1.0)
        return at_times(time.round(), T, x.dtype)


class WeightedPhaseEncoder(ScheduledEncoder):
    """The intensity as a binary fraction, its most significant digit first.

    The spike of step t weighs 2^-(t + 1); x is in [0, 1 - 2^-T].

    Args:
        K: number of steps, and of binary digits.
        step_mode: as for ``ScheduledEncoder``.

    Source: Kim et al., "Deep neural networks with weighted spikes", Neurocomputing 2018.
    """

    def __init__(self, K: int, step_mode: str = "s") -> None:
        super().__init__(check_steps(K, "K", minimum=1), step_mode)

    def schedule(self, x: Tensor, T: int) -> Tensor:
        check_range("x", x, 0.0, 1 - 2.0**-T)
        rest = x.to(torch.float64)
        digits = []
        for t in range(T):
            digit = (rest >= 2.0 ** -(t + 1)).to(rest.dtype)
            rest = rest - digit * 2.0 ** -(t + 1)
            digits.append(digit)
        return torch.stack(digits).to(x.dtype)


class PeriodicEncoder(ScheduledEncoder):
    """A given pattern of spikes, over and over.

    Args:
        spike: the pattern [T, ...], one period.
        step_mode: as for ``ScheduledEncoder``.

    A call takes no intensities; ``encode(None, T)`` gives T steps, as many periods as fit.
    """

    pattern: Tensor

    def __init__(self, spike: Tensor, step_mode: str = "s") -> None:
        checks.sequence("spike", spike, leading="[T, ...]", minimum_rank=1)
        super().__init__(len(spike), step_mode)
        self.register_buffer("pattern", spike, persistent=False)

    def encode(self, x: Tensor | None = None, T: int | None = None) -> Tensor:
        """``T`` steps of the pattern ``x`` [P, ...], None for the encoder's own."""
        pattern = self.pattern if x is None else x
        return super().encode(pattern, len(pattern) if T is None else T)

    def schedule(self, x: Tensor, T: int) -> Tensor:
        return x[torch.arange(T, device=x.device) % len(x)]


class PopulationEncoder(ScheduledEncoder):
    """Several neurons for each value, with Gaussian tuning curves side by side.

    Neuron i of m answers to x with a = exp(-(x - mu_i)^2 / (2 sigma^2)), where
    mu_i = x_min + (2 i - 1) / 2 * (x_max - x_min) / (m - 2) for i = 0 to m - 1 and
    sigma = (x_max - x_min) / (gamma (m - 2)), and fires once, at step round((T - 1)(1 - a)); where
    that is the last step, it stays silent.

    Args:
        T: number of steps, >= 2.
        m: neurons for each value, >= 3.
        x_min, x_max: the range of the values; numbers.
        gamma: how narrow the curves are.
        step_mode: as for ``ScheduledEncoder``.

    Intensities [B, ...] give spikes [T, B, ..., m]. Source: Bohte, Kok and La Poutre,
    "Error-backpropagation in temporally encoded networks of spiking neurons", Neurocomputing 2002.
    """

    def __init__(
        self,
        T: int,
        m: int,
        x_min: float = 0.0,
        x_max: float = 1.0,
        gamma: float = 1.5,
        step_mode: str = "s",
    ) -> None:
        super().__init__(check_steps(T, "T", minimum=2), step_mode)
        self.m = check_steps(m, "m", minimum=3)
        self.x_min = checks.number("x_min", x_min)
        self.x_max = checks.number("x_max", x_max, above=self.x_min)
        self.gamma = checks.number("gamma", gamma, above=0.0)

    def activation(self, x: Tensor) -> Tensor:
        """How strongly each neuron answers, in (0, 1]: [..., m] for x [...]."""
        wide = x.to(checks.compute_dtype(x.dtype)).unsqueeze(-1)
        distance = (self.x_max - self.x_min) / (self.m - 2)
        place = torch.arange(self.m, device=x.device, dtype=wide.dtype) - 0.5
        sigma = distance / self.gamma
        return torch.exp(-((wide - (self.x_min + place * distance)) ** 2) / (2 * sigma**2))

    def schedule(self, x: Tensor, T: int) -> Tensor:
        time = ((T - 1.0) * (1.0 - self.activation(x))).round()
        spikes = at_times(time, T, x.dtype)
        spikes[-1] = 0
        return spikes

    def extra_repr(self) -> str:
        return f"m={self.m}, x_min={self.x_min:g}, x_max={self.x_max:g}, {super().extra_repr()}"


def at_times(time: Tensor, T: int, dtype: torch.dtype) -> Tensor:
    """One spike each, at its time: [T, ...] for times [...] that are whole numbers."""
    steps = torch.arange(T, device=time.device, dtype=time.dtype)
    return (time == steps.view(T, *[1] * time.dim())).to(dtype)


def _exp_minus_1(exponent: float) -> float:
    try:
        return math.expm1(exponent)
    except OverflowError:
        raise ValueError(
            f"T must be at most 700 with enc_function='log', got {int(exponent) + 1}"
        ) from None


def check_range(name: str, x: Tensor, minimum: float, maximum: float) -> None:
    """Refuse elements out of a range, NaN among them."""
    if not bool(((x >= minimum) & (x <= maximum)).all()):
        raise ValueError(
            f"{name} must be in [{minimum:g}, {maximum:g}], "
            f"got values from {x.min().item():g} to {x.max().item():g}"
        )


def check_steps(value: object, name: str, minimum: int) -> int:
    """A whole number of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {checks.describe(value)}")
    if value < minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {value}")
    return value
