"""The gated LIF, whose leak, input and reset are mixed by what it learns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .. import _call
from .._call.equations import Equations
from .._core import checks
from .._core.firing import spike
from .._spikes import storage
from .base import BaseNode


def _gated_lif(x, v, s, *, alpha, gamma, tau, v_threshold, linear_decay, v_subreset):
    keep = (1 - alpha * (1 - tau)) * v
    h = keep - keep * gamma * s - (1 - alpha) * linear_decay - (1 - gamma) * v_subreset * s + x
    s = spike(h - v_threshold)
    return s, h, s


_GATES = ("alpha", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")


class GLIFNode(BaseNode):
    """Gated LIF: learnt gates mix two kinds each of leak, of input and of reset.

    H = (1 - alpha (1 - tau)) (1 - gamma S-) V - (1 - alpha) l - (1 - gamma) V_sub S-
    + X (1 - beta (1 - g_t)), with S- the spike of the step before; H is the next V.

    Args:
        T: the number of steps between two resets; each has its own conductance g_t.
        inplane: the number of channels, which then have their own values; None for one of each.
        init_linear_decay: l; None for init_v_threshold / (2 T).
        init_v_subreset: V_sub; None for init_v_threshold.
        init_tau, init_v_threshold, init_conduct: tau, the threshold and g.

    All initial values lie in (0, 1). Each is sigmoid(w) of a parameter w: ``alpha``, ``beta`` and
    ``gamma`` (which start near 1/2), ``tau``, ``v_threshold``, ``linear_decay`` and ``v_subreset``
    of shape [inplane] or [], and ``conduct`` of shape [T, inplane] or [T]. The other arguments are
    those of ``snnkernels.neuron.BaseNode``. Source: Yao et al., NeurIPS 2022.
    """

    t: int

    equations = Equations(
        {"v": 0.0, "s": 0.0}, dict.fromkeys(_GATES, 0.5), step=_gated_lif, may_be_none=()
    )

    def __init__(
        self,
        T: int,
        inplane: int | None = None,
        init_linear_decay: float | None = None,
        init_v_subreset: float | None = None,
        init_tau: float = 0.25,
        init_v_threshold: float = 0.5,
        init_conduct: float = 0.5,
        **shared: Any,
    ) -> None:
        shape = () if inplane is None else (_whole("inplane", inplane),)
        steps = _whole("T", T)
        if init_linear_decay is None:
            init_linear_decay = init_v_threshold / (2 * steps)
        if init_v_subreset is None:
            init_v_subreset = init_v_threshold
        super().__init__(
            alpha=_near_half(shape),
            gamma=_near_half(shape),
            tau=_logit("init_tau", init_tau, shape),
            v_threshold=_logit("init_v_threshold", init_v_threshold, shape),
            linear_decay=_logit("init_linear_decay", init_linear_decay, shape),
            v_subreset=_logit("init_v_subreset", init_v_subreset, shape),
            **shared,
        )
        self.T = steps
        self.beta = _near_half(shape)
        self.conduct = _logit("init_conduct", init_conduct, (steps, *shape))
        self.register_memory("t", 0)

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        return {name: torch.sigmoid(value) for name, value in super()._taken(x_seq).items()}

    def forward(self, x: Tensor) -> Tensor:
        """Spikes, for one step of ``x`` or for all of them.

        Raises:
            ValueError: if there are more than T steps since the last reset, or the channels of
                ``x`` are not ``inplane``.
        """
        x_seq = self._sequence_of(x)
        end = self.t + x_seq.shape[0]
        if end > self.T:
            raise ValueError(
                f"T is {self.T}, but this call brings the steps since the last reset to {end}. "
                "Call reset() on the neuron (or functional.reset_net(net)) before the new batch"
            )
        wide = checks.compute_dtype(x.dtype)
        beta = torch.sigmoid(checks.widen("beta", self.beta, wide))
        now = torch.sigmoid(checks.widen("conduct", self.conduct[self.t : end], wide))
        gated = conducted(x_seq, beta, now)
        out = super().forward(gated if self.step_mode == "m" else gated.squeeze(0))
        assert isinstance(out, Tensor)
        self.t = end
        if self.v_seq is not None:
            self.v_seq = self.v_seq.to(x.dtype)
        return narrowed(out, self.surrogate_function, x.dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, step_mode={self.step_mode!r}, backend={self.backend!r}"


class MultiStepGLIFNode(GLIFNode, step_mode="m"):
    """``GLIFNode`` on [T, B, ...]."""


def conducted(x_seq: Tensor, beta: Tensor, conduct: Tensor) -> Tensor:
    """The input of a gated LIF, X (1 - beta (1 - g)), in the arithmetic's dtype.

    Args:
        x_seq: X, [T, B, ...].
        beta: as any parameter.
        conduct: g, a parameter for each step: [T, ...].

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    beta = _against_a_step("beta", beta, x_seq)
    if not conduct.dim() or len(conduct) != len(x_seq):
        raise ValueError(
            f"conduct must have one value or row for each of {len(x_seq)} steps, "
            f"got {checks.describe(conduct)}"
        )
    row = _against_a_step("conduct", conduct.new_empty(conduct.shape[1:]), x_seq)
    gate = 1 - beta * (1 - conduct.reshape(len(conduct), *row.shape))
    return x_seq.to(checks.compute_dtype(x_seq.dtype)) * gate


def _against_a_step(name: str, value: Tensor, x_seq: Tensor) -> Tensor:
    """A tensor as of one step's rank, in the arithmetic's dtype."""
    fitting = _call.checked_parameters({name: value}, x_seq, {})[name]
    assert isinstance(fitting, Tensor)
    return fitting.reshape(*[1] * (x_seq.dim() - 1 - fitting.dim()), *fitting.shape)


def narrowed(spikes: Tensor, surrogate_function: nn.Module, dtype: torch.dtype) -> Tensor:
    """Spikes in another dtype, still known to be spikes."""
    if spikes.dtype == dtype:
        return spikes
    spikes = spikes.to(dtype)
    if _call.gives_spikes(surrogate_function):
        storage.mark(spikes)
    return spikes


def _whole(name: str, value: int) -> int:
    return int(checks.number(name, value, minimum=1, whole=True))


def _logit(name: str, value: float, shape: tuple[int, ...]) -> nn.Parameter:
    value = checks.number(name, value, above=0.0)
    if value >= 1:
        raise ValueError(f"{name} must be less than 1, got {value!r}")
    return nn.Parameter(torch.full(shape, -math.log(1 / value - 1)))


def _near_half(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(0.2 * (torch.rand(shape) - 0.5))
