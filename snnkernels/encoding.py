"""Encoders: from intensities to spikes."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, nn

__all__ = ["PoissonEncoder"]

_STEP_MODES = ("s", "m")

# The dtype that the random numbers are drawn in. bfloat16 knows only 256 evenly spaced numbers in
# [0, 1), float16 2048: too coarse to draw from, so those two are drawn in float32.
_DRAW_DTYPE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


class PoissonEncoder(nn.Module):
    """Spikes that fire, independently in every step, with the probability that the intensity gives.

    A spike is ``rand < x`` with ``rand`` uniform in [0, 1), as SpikingJelly's ``PoissonEncoder``
    (which writes ``<=``; with ``<`` an intensity of 0 never fires, and 1 always does).

    Intensities are not checked, since a look at them would make a GPU wait: below 0 they act as 0,
    above 1 as 1, and NaN never fires. No gradient flows through the encoder.

    The random numbers come from torch's default generator of the device, so ``torch.manual_seed``
    makes them repeatable. For one seed and shape the spikes are the same whether the steps are
    drawn one by one (``step_mode="s"``), from a sequence (``"m"``) or by :meth:`encode`, whatever
    the memory format, and the same for float16, bfloat16 and float32 intensities of equal value.

    Args:
        step_mode: ``"s"``: a call takes the intensities ``[B, ...]`` and returns one step of
            spikes. ``"m"``: a call takes a sequence ``[T, B, ...]`` of intensities, one per step,
            and returns the spikes of every step. To encode the same ``[B, ...]`` for T steps, call
            :meth:`encode`; it works in either mode.

    Raises:
        ValueError: ``step_mode`` is neither ``"s"`` nor ``"m"``.

    Example:
        >>> encoder = PoissonEncoder()
        >>> image = torch.rand(128, 784)
        >>> encoder(image).shape
        torch.Size([128, 784])
        >>> encoder.encode(image, T=50).shape
        torch.Size([50, 128, 784])
    """

    def __init__(self, step_mode: str = "s") -> None:
        super().__init__()
        self.step_mode = step_mode

    @property
    def step_mode(self) -> str:
        """``"s"`` or ``"m"``; may be changed at any time."""
        return self._step_mode

    @step_mode.setter
    def step_mode(self, mode: str) -> None:
        if mode not in _STEP_MODES:
            raise ValueError(f"step_mode must be 's' or 'm', got {mode!r}")
        self._step_mode = mode

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of ``x``, in its shape, dtype and device.

        Args:
            x: intensities in [0, 1], ``[B, ...]`` (step mode ``"s"``) or ``[T, B, ...]`` (``"m"``).

        Raises:
            TypeError: ``x`` is no tensor, or not of a floating point dtype.
            ValueError: in step mode ``"m"``, ``x`` has no dimension for T.
        """
        _check_intensities(x)
        if self.step_mode == "s":
            return _fire(x, (1, *x.shape)).squeeze(0)
        if x.dim() == 0:
            raise ValueError(
                "x must be [T, B, ...] in step mode 'm', got a tensor without dimensions"
            )
        return _fire(x, tuple(x.shape))

    def encode(self, x: Tensor, T: int) -> Tensor:
        """``T`` steps of spikes of the same intensities, in either step mode.

        Args:
            x: intensities in [0, 1], ``[B, ...]``.
            T: number of steps, >= 0.

        Returns:
            Spikes ``[T, B, ...]`` in the dtype of ``x``.

        Raises:
            TypeError: ``x`` is no floating point tensor, or ``T`` is no integer.
            ValueError: ``T`` is negative.
        """
        _check_intensities(x)
        return _fire(x, (_checked_steps(T), *x.shape))

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode!r}"


def _fire(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Spikes of ``shape`` = ``[T, ...]`` with the probabilities ``x``, which broadcast over it."""
    draws = torch.empty(shape, dtype=_DRAW_DTYPE[x.dtype], device=x.device)
    for step in draws:  # one draw a step: on a GPU a single large draw gives other numbers
        step.uniform_()
    return draws.lt_(x.detach()).to(x.dtype)


def _check_intensities(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}")
    if x.dtype not in _DRAW_DTYPE:
        expected = ", ".join(str(dtype) for dtype in _DRAW_DTYPE)
        raise TypeError(f"x must hold intensities in [0, 1] of dtype {expected}, got {x.dtype}")


def _checked_steps(T: int) -> int:
    try:
        steps = operator.index(T)
    except TypeError:
        raise TypeError(f"T must be an integer, got {type(T).__name__}") from None
    if steps < 0:
        raise ValueError(f"T must be >= 0, got {steps}")
    return steps
