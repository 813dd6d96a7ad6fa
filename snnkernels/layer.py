"""Layers through which [T, B, ...] flows: PyTorch's own with a step mode, containers, dropout.

In step mode "s" a layer takes one step [B, ...] and is PyTorch's. In step mode "m" it takes
[T, B, ...]: what has no state sees all steps as one batch [T * B, ...], without a copy where T and
B can be viewed as one, channels_last included. Names and arguments are those of SpikingJelly's
``layer``, ``step_mode`` by keyword.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import functional
from ._backends.selection import check_backend
from ._call.equations import Equations
from ._core import checks
from ._core.modules import MemoryModule, StepModeModule
from .neuron.base import BaseNode

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Dropout2d",
    "Flatten",
    "GroupNorm",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MultiStepContainer",
    "SeqToANNContainer",
    "StepModeContainer",
    "SynapseFilter",
    "ThresholdDependentBatchNorm1d",
    "ThresholdDependentBatchNorm2d",
    "Upsample",
]


class _Stateless(StepModeModule):
    """Gives the PyTorch module behind it in the order of bases a step mode."""

    def __init__(self, *args: Any, step_mode: str = "s", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.step_mode = step_mode

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        """[B, ...] in step mode "s", [T, B, ...] in "m"; ``args`` are PyTorch's further ones."""
        one_step = super().forward
        if self.step_mode == "s":
            return one_step(x, *args)
        return functional.seq_to_ann_forward(x, lambda y: one_step(y, *args))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, step_mode={self.step_mode!r}".removeprefix(", ")


class _SpikeLinear(nn.Linear):
    """``torch.nn.Linear`` by ``snnkernels.functional.linear``."""

    backend = "auto"

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backend = check_backend(backend)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias, self.backend)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, backend={self.backend!r}"


class Linear(_Stateless, _SpikeLinear):
    """``torch.nn.Linear`` with a step mode, which on the CPU adds up only what fired.

    See ``snnkernels.functional.linear``; ``backend="torch"``, by keyword, is PyTorch's own.
    """


class Conv1d(_Stateless, nn.Conv1d):
    """``torch.nn.Conv1d`` with a step mode."""


class Conv2d(_Stateless, nn.Conv2d):
    """``torch.nn.Conv2d`` with a step mode."""


class Conv3d(_Stateless, nn.Conv3d):
    """``torch.nn.Conv3d`` with a step mode."""


class ConvTranspose1d(_Stateless, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` with a step mode."""


class ConvTranspose2d(_Stateless, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` with a step mode."""


class ConvTranspose3d(_Stateless, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` with a step mode."""


class BatchNorm1d(_Stateless, nn.BatchNorm1d):
    """``torch.nn.BatchNorm1d`` with a step mode; in "m" its statistics are those of all steps."""


class BatchNorm2d(_Stateless, nn.BatchNorm2d):
    """``torch.nn.BatchNorm2d`` with a step mode; in "m" its statistics are those of all steps."""


class BatchNorm3d(_Stateless, nn.BatchNorm3d):
    """``torch.nn.BatchNorm3d`` with a step mode; in "m" its statistics are those of all steps."""


class GroupNorm(_Stateless, nn.GroupNorm):
    """``torch.nn.GroupNorm`` with a step mode."""


class MaxPool1d(_Stateless, nn.MaxPool1d):
    """``torch.nn.MaxPool1d`` with a step mode."""


class MaxPool2d(_Stateless, nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` with a step mode."""


class MaxPool3d(_Stateless, nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` with a step mode."""


class AvgPool1d(_Stateless, nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` with a step mode."""


class AvgPool2d(_Stateless, nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` with a step mode."""


class AvgPool3d(_Stateless, nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` with a step mode."""


class AdaptiveAvgPool1d(_Stateless, nn.AdaptiveAvgPool1d):
    """``torch.nn.AdaptiveAvgPool1d`` with a step mode."""


class AdaptiveAvgPool2d(_Stateless, nn.AdaptiveAvgPool2d):
    """``torch.nn.AdaptiveAvgPool2d`` with a step mode."""


class AdaptiveAvgPool3d(_Stateless, nn.AdaptiveAvgPool3d):
    """``torch.nn.AdaptiveAvgPool3d`` with a step mode."""


class Upsample(_Stateless, nn.Upsample):
    """``torch.nn.Upsample`` with a step mode."""


class Flatten(_Stateless, nn.Flatten):
    """``torch.nn.Flatten`` of one step's dimensions, with a step mode; ``start_dim`` 0 is B."""


class _ThresholdDependent(_Stateless):
    """tdBN: batch norm over all steps whose scale begins at alpha * v_th."""

    def __init__(
        self, alpha: float, v_th: float, *args: Any, step_mode: str = "m", **kwargs: Any
    ) -> None:
        super().__init__(*args, step_mode=step_mode, **kwargs)
        self.alpha = checks.number("alpha", alpha)
        self.v_th = checks.number("v_th", v_th)
        if not isinstance(self.weight, nn.Parameter):
            raise ValueError("affine must be True, since alpha * v_th is the initial scale")
        nn.init.constant_(self.weight, self.alpha * self.v_th)


class ThresholdDependentBatchNorm1d(_ThresholdDependent, nn.BatchNorm1d):
    """tdBN of [T, B, N] or [T, B, C, L]: batch norm whose scale begins at alpha * v_th.

    Args:
        alpha: 1 for a layer in a row, 1/sqrt(k) where k branches are added up.
        v_th: the threshold of the neurons behind it.

    The others are those of ``torch.nn.BatchNorm1d``, and ``step_mode`` ("m"). Source: Zheng et al.,
    "Going deeper with directly-trained larger spiking neural networks", AAAI 2021.
    """


class ThresholdDependentBatchNorm2d(_ThresholdDependent, nn.BatchNorm2d):
    """tdBN of [T, B, C, H, W]; see ``ThresholdDependentBatchNorm1d``."""


class Dropout(StepModeModule, MemoryModule):
    """Dropout with one mask for all steps, drawn in the first and kept until ``reset()``.

    A mask that changed in every step would average out over them.

    Args:
        p: probability to drop an element, in [0, 1).
        step_mode: "s" or "m".

    Raises:
        ValueError: in a call, if the input's shape changed since the mask was drawn.
    """

    mask: Tensor | None

    def __init__(self, p: float = 0.5, step_mode: str = "s") -> None:
        super().__init__()
        self.p = checks.number("p", p, minimum=0.0)
        if self.p >= 1:
            raise ValueError(f"p must be < 1, got {p!r}")
        self.step_mode = step_mode
        self.register_memory("mask", None)

    def draw_mask(self, x: Tensor) -> Tensor:
        """The factors of one step [B, ...]: 0, or 1 / (1 - p)."""
        return F.dropout(torch.ones_like(x), self.p)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] in step mode "s", [T, B, ...] in "m"; as it is in evaluation."""
        multi = self.step_mode == "m"
        if not self.training or (multi and not len(x)):
            return x
        step = x[0] if multi else x
        if self.mask is None:
            self.mask = self.draw_mask(step.detach())
        if self.mask.shape != step.shape:
            raise ValueError(
                f"x must have the shape of the mask, {tuple(self.mask.shape)} a step, got "
                f"{tuple(step.shape)}; call reset() (functional.reset_net) before another batch"
            )
        return x * self.mask.to(x.dtype)

    def extra_repr(self) -> str:
        return f"p={self.p:g}, step_mode={self.step_mode!r}"


class Dropout2d(Dropout):
    """``Dropout`` of whole channels of [B, C, H, W]."""

    def __init__(self, p: float = 0.2, step_mode: str = "s") -> None:
        super().__init__(p, step_mode)

    def draw_mask(self, x: Tensor) -> Tensor:
        return F.dropout2d(torch.ones_like(x), self.p)


def _filter_synapse(x, out_i, *, decay):  # type: ignore[no-untyped-def]
    out_i = out_i - (1 - x) * out_i * decay + x
    return out_i, out_i


class SynapseFilter(BaseNode):
    """The current that spikes leave behind: I' = I - (1 - S) I / tau + S, one fused scan.

    Args:
        tau: time constant in steps, a number > 1.
        learnable: learn w, where 1/tau = sigmoid(w).
        step_mode: "s" for spikes [B, ...], "m" for [T, B, ...].
        backend: as for the neurons.

    ``out_i`` is the carried current. Source: Diehl and Cook, Frontiers in Computational
    Neuroscience 2015, in the discrete form that SpikingJelly uses.
    """

    equations = Equations({"out_i": 0.0}, {"decay": 0.01}, step=_filter_synapse)

    w: nn.Parameter
    decay: float

    def __init__(
        self,
        tau: float = 100.0,
        learnable: bool = False,
        step_mode: str = "s",
        backend: str = "auto",
    ) -> None:
        tau = checks.number("tau", tau, above=1.0)
        super().__init__(1 / tau, step_mode=step_mode, backend=backend)
        self.learns = checks.boolean("learnable", learnable)
        if learnable:
            self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    @property
    def tau(self) -> float:
        """The time constant."""
        return 1 / (self.w.sigmoid().item() if self.learns else self.decay)

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        return {"decay": self.w.sigmoid()} if self.learns else super()._taken(x_seq)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, learnable={self.learns}, step_mode={self.step_mode!r}"


class _Container(nn.Sequential):
    """Calls what it holds in that one's own step mode, which ``set_step_mode`` leaves alone."""

    keeps_step_modes = True


class SeqToANNContainer(_Container):
    """Modules without a state over [T, B, ...]: all steps are one batch [T * B, ...]."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """[T, B, ...] to [T, B, ...]."""
        return functional.seq_to_ann_forward(x_seq, super().forward)


class MultiStepContainer(_Container):
    """Modules of one step, in their step mode "s", over [T, B, ...], step by step."""

    def forward(self, x_seq: Tensor) -> Tensor:
        """[T, B, ...] to [T, B, ...]."""
        return functional.multi_step_forward(x_seq, super().forward)


class StepModeContainer(StepModeModule, _Container):
    """Modules of one step with a common step mode.

    Args:
        stateful: whether they carry a state, so that "m" must go step by step.
        step_mode: "s" or "m".
        args: the modules, in their step mode "s".
    """

    def __init__(self, stateful: bool, step_mode: str = "s", *args: nn.Module) -> None:
        super().__init__(*args)
        self.stateful = checks.boolean("stateful", stateful)
        self.step_mode = step_mode

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] in step mode "s", [T, B, ...] in "m"."""
        one_step = super().forward
        if self.step_mode == "s":
            return one_step(x)
        if self.stateful:
            return functional.multi_step_forward(x, one_step)
        return functional.seq_to_ann_forward(x, one_step)
