"""Spikes that fire at random, with the probability that the intensity gives."""

from __future__ import annotations

import operator
from math import prod

import torch
from torch import Tensor

from .._backends import selection
from .._core import checks
from .._core.lanes import Lanes
from .._core.modules import StepModeModule
from .._spikes import storage

_SPIKE_DTYPES = (*checks.FLOAT_DTYPES, torch.bool)


def poisson_encode(
    x: Tensor,
    T: int,
    *,
    dtype: torch.dtype | None = None,
    generator: torch.Generator | None = None,
    backend: str = "auto",
) -> Tensor:
    """``T`` steps of spikes that fire independently, with the probability that ``x`` gives.

    A spike is u < x with u uniform on the multiples of 2^-31 in [0, 1): 0 never fires, 1 always
    does. Intensities are not checked, since a look at them would make a GPU wait: below 0 they act
    as 0, above 1 as 1, and NaN never fires. No gradient flows through.

    Each step takes one key of 64 bits from torch's generator; Philox4x32-10 (Salmon et al., SC
    2011) draws the step's numbers from the key and each element's place in ``x``. So the spikes of
    a seed depend neither on the number of threads, nor on memory format, dtype or backend.

    Args:
        x: intensities in [0, 1], ``[B, ...]``, in float64, float32, float16 or bfloat16.
        T: number of steps, >= 0.
        dtype: dtype of the spikes: one of the four, or bool; None for that of ``x``.
        generator: where the keys come from, on the device of ``x`` or on the CPU (then the spikes
            are the same on every device); None for the default generator of the device.
        backend: "auto", "native", "cupy" or "torch".

    Returns:
        Spikes ``[T, B, ...]``, contiguous over T, each step in the memory format of ``x``.

    Raises:
        TypeError: ``x`` is no floating point tensor, ``T`` is no integer, or ``dtype`` or
            ``generator`` is of another kind.
        ValueError: ``T`` is negative, or the backend is unknown or has no kernels for the device.
    """
    _check_intensities(x)
    steps = _checked_steps(T)
    return _encode(x.expand(steps, *x.shape), dtype, generator, backend)


class PoissonEncoder(StepModeModule):
    """Spikes that fire, independently in every step, with the probability that the intensity gives.

    A spike is ``u < x`` with ``u`` uniform in [0, 1), as SpikingJelly's ``PoissonEncoder`` (which
    writes ``<=``; with ``<`` an intensity of 0 never fires, and 1 always does).
    ``poisson_encode`` tells how ``u`` is drawn, and what other intensities do.

    The keys come from torch's default generator of the device, so ``torch.manual_seed`` makes the
    spikes repeatable. For one seed and shape they are the same whether the steps are drawn one by
    one (``step_mode="s"``), from a sequence (``"m"``) or by ``encode``.

    Args:
        step_mode: ``"s"``: a call takes the intensities ``[B, ...]`` and returns one step of
            spikes. ``"m"``: a call takes a sequence ``[T, B, ...]`` of intensities, one per step,
            and returns the spikes of every step. To encode the same ``[B, ...]`` for T steps, call
            ``encode``; it works in either mode.
        dtype: dtype of the spikes, as for ``poisson_encode``; None for that of the intensities.
        backend: ``"auto"``, ``"native"``, ``"cupy"`` or ``"torch"``; may be changed at any time.

    Raises:
        TypeError: ``dtype`` is no dtype of spikes.
        ValueError: ``step_mode`` is neither ``"s"`` nor ``"m"``, or ``backend`` is unknown.

    Example:
        >>> encoder = PoissonEncoder()
        >>> image = torch.rand(128, 784)
        >>> encoder(image).shape
        torch.Size([128, 784])
        >>> encoder.encode(image, T=50).shape
        torch.Size([50, 128, 784])
    """

    def __init__(
        self,
        step_mode: str = "s",
        *,
        dtype: torch.dtype | None = None,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.step_mode = step_mode
        self.dtype = _checked_dtype(dtype)
        self.backend = selection.check_backend(backend)

    def forward(self, x: Tensor) -> Tensor:
        """Spikes of ``x``, in its shape and on its device.

        Args:
            x: intensities in [0, 1], ``[B, ...]`` (step mode ``"s"``) or ``[T, B, ...]`` (``"m"``).

        Raises:
            TypeError: ``x`` is no tensor, or not of a floating point dtype.
            ValueError: in step mode ``"m"``, ``x`` has no dimension for T.
        """
        _check_intensities(x)
        if self.step_mode == "s":
            return self.encode(x, 1).squeeze(0)
        if x.dim() == 0:
            raise ValueError(
                "x must be [T, B, ...] in step mode 'm', got a tensor without dimensions"
            )
        return _encode(x, self.dtype, None, self.backend)

    def encode(self, x: Tensor, T: int) -> Tensor:
        """``T`` steps of spikes of the same intensities, in either step mode.

        Args:
            x: intensities in [0, 1], ``[B, ...]``.
            T: number of steps, >= 0.

        Returns:
            Spikes ``[T, B, ...]``, each step in the memory format of ``x``.

        Raises:
            TypeError: ``x`` is no floating point tensor, or ``T`` is no integer.
            ValueError: ``T`` is negative.
        """
        return poisson_encode(x, T, dtype=self.dtype, backend=self.backend)

    def extra_repr(self) -> str:
        return f"step_mode={self.step_mode!r}"


def _encode(
    x_seq: Tensor,
    dtype: torch.dtype | None,
    generator: torch.Generator | None,
    backend: str,
) -> Tensor:
    """Spikes of intensities x_seq [T, B, ...], one step each."""
    steps, *shape = x_seq.shape
    dtype = _checked_dtype(dtype) or x_seq.dtype
    operators = selection.chosen(backend, x_seq.device.type).operators
    keys = _draw_keys(steps, x_seq.device, generator)
    spikes = operators.poisson_encode(_flat(x_seq.detach()), keys, dtype)
    spikes = spikes.view(steps, *shape)
    lanes = Lanes(x_seq)
    if not lanes.in_order:
        spikes = lanes.restore(spikes.new_empty(steps, *lanes.shape)).copy_(spikes)
    storage.mark(spikes)
    return spikes


def _flat(x_seq: Tensor) -> Tensor:
    """[T, B, ...] to [T, L], the lanes in the order of their indices."""
    steps, *shape = x_seq.shape
    if steps > 1 and x_seq.stride(0) == 0:
        return _flat(x_seq[:1]).expand(steps, -1)
    flat = x_seq.reshape(steps, prod(shape))
    return flat if flat.shape[1] <= 1 or flat.stride(1) == 1 else flat.contiguous()


def _draw_keys(steps: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """One key per step, int64 [T]; T draws of one key give the same as one draw of T."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, got {checks.describe(generator)}")
    source = device if generator is None else generator.device
    if source.type not in ("cpu", device.type):
        raise ValueError(f"generator must be on {device} or on the CPU, got one on {source}")
    if source.type == "cuda" and not _is_traced():
        return _cuda_keys(steps, device, generator)
    keys = torch.empty(steps, dtype=torch.int64, device=source)
    if torch.compiler.is_compiling():  # knows random_ in this form alone
        keys = torch.ops.aten.random(keys, generator=generator)
    else:
        keys.random_(generator=generator)
    return keys if source == device else keys.to(device, non_blocking=True)


def _is_traced() -> bool:
    """Whether the call is recorded to be run again, so that keys must be drawn on the device."""
    return torch.compiler.is_compiling() or torch.cuda.is_current_stream_capturing()


_OFFSETS_PER_STEP = 4  # a CUDA generator's offset is a multiple of it


def _cuda_keys(steps: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Keys from the seed and the offset of a CUDA generator, which the host knows.

    Drawn from the generator itself, T keys at once would differ from T single ones.
    """
    if generator is None:
        index = torch.cuda.current_device() if device.index is None else device.index
        generator = torch.cuda.default_generators[index]
    offset = generator.get_offset()
    generator.set_offset(offset + _OFFSETS_PER_STEP * steps)
    first = _scrambled(generator.initial_seed()) + offset // _OFFSETS_PER_STEP
    return torch.arange(steps, device=device) + _signed(first)


def _scrambled(seed: int) -> int:
    """Seeds that are near each other far apart (SplitMix64; Steele, Lea and Flood, OOPSLA 2014)."""
    mask = 2**64 - 1
    z = seed + 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def _signed(word: int) -> int:
    """64 bits as int64."""
    return (word + 2**63) % 2**64 - 2**63


def _check_intensities(x: Tensor) -> None:
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}")
    checks.dense("x", x)
    if x.dtype not in checks.FLOAT_DTYPES:
        expected = ", ".join(str(dtype) for dtype in checks.FLOAT_DTYPES)
        raise TypeError(f"x must hold intensities in [0, 1] of dtype {expected}, got {x.dtype}")


def _checked_steps(T: int) -> int:
    try:
        steps = operator.index(T)
    except TypeError:
        raise TypeError(f"T must be an integer, got {type(T).__name__}") from None
    if steps < 0:
        raise ValueError(f"T must be >= 0, got {steps}")
    return steps


def _checked_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is not None and dtype not in _SPIKE_DTYPES:
        expected = ", ".join(str(d) for d in _SPIKE_DTYPES)
        raise TypeError(f"dtype must be one of {expected} or None, got {dtype!r}")
    return dtype
