"""Published neurons, each one step in PyTorch; :mod:`snnkernels.neuron` offers them.

X is the input of a step, V the membrane potential before it, H the charged potential, S the spike,
V' the potential after the step. Where ``v_reset`` is a number or tensor the reset is hard,
V' = (1 - S) H + S v_reset, and V starts there; ``v_reset=None`` makes it soft,
V' = H - S v_threshold, and V starts at 0. With ``detach_reset`` S is a constant in the reset.

To add a neuron, write its step here: the function is its reference, and its kernels follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import _checks, engine, spike_storage
from ._firing import spike
from .compiled import CompiledNode, Step, define_neuron
from .engine import State

__all__ = [
    "ALIFNode",
    "CLIFNode",
    "EIFNode",
    "GLIFNode",
    "ILIFNode",
    "IzhikevichNode",
    "KLIFNode",
    "LINode",
    "QIFNode",
]

_TAU = {"tau": {"minimum": 1.0}}


def _node(
    states: Mapping[str, State | str],
    *,
    learnable: tuple[str, ...] = (),
    limits: Mapping[str, Mapping[str, float]] | None = None,
    **params: Any,
) -> Callable[[Step], type[CompiledNode]]:
    """Make the class of a step that is named as the class is to be."""

    def define(step: Step) -> type[CompiledNode]:
        return define_neuron(step, states, params, learnable, step.__name__, limits or {})

    return define


def _reset(
    h: Tensor, s: Tensor, v_threshold: Tensor, v_reset: Tensor | None, detach_reset: bool
) -> Tensor:
    if detach_reset:
        s = s.detach()
    if v_reset is None:
        return h - s * v_threshold
    return (1 - s) * h + s * v_reset


def _leaky_charge(
    x: Tensor, v: Tensor, tau: Tensor, v_rest: Tensor | None, decay_input: bool
) -> Tensor:
    """The LIF's charge: towards ``v_rest``, or 0 if that is None."""
    leak = v if v_rest is None else v - v_rest
    return v + (x - leak) / tau if decay_input else v - leak / tau + x


@_node({"v": "v_rest"}, limits=_TAU, tau=2.0, decay_input=True, v_rest=0.0)
def LINode(x, v, *, tau, decay_input, v_rest):  # type: ignore[no-untyped-def]
    """Leaky integrator, a readout: H = V + (X - (V - v_rest)) / tau. It neither fires nor resets.

    The output is H, which is also the next V. ``decay_input=False``: H = V - (V - v_rest)/tau + X.
    """
    h = _leaky_charge(x, v, tau, v_rest, decay_input)
    return h, h


@_node(
    {"v": "v_reset"},
    limits=_TAU,
    tau=2.0,
    v_c=0.8,
    a0=1.0,
    v_threshold=1.0,
    v_rest=0.0,
    v_reset=-0.1,
    detach_reset=False,
)
def QIFNode(x, v, *, tau, v_c, a0, v_threshold, v_rest, v_reset, detach_reset):  # type: ignore[no-untyped-def]
    """Quadratic integrate-and-fire: H = V + (X + a0 (V - v_rest) (V - v_c)) / tau.

    Source: Gerstner et al., "Neuronal Dynamics", 2014, section 5.3.
    """
    h = v + (x + a0 * (v - v_rest) * (v - v_c)) / tau
    s = spike(h - v_threshold)
    return s, _reset(h, s, v_threshold, v_reset, detach_reset)


@_node(
    {"v": "v_reset"},
    limits={**_TAU, "delta_T": {"above": 0.0}},
    tau=2.0,
    delta_T=1.0,
    theta_rh=0.8,
    v_threshold=1.0,
    v_rest=0.0,
    v_reset=-0.1,
    detach_reset=False,
)
def EIFNode(x, v, *, tau, delta_T, theta_rh, v_threshold, v_rest, v_reset, detach_reset):  # type: ignore[no-untyped-def]
    """Exponential integrate-and-fire.

    H = V + (X + v_rest - V + delta_T exp((V - theta_rh) / delta_T)) / tau.

    Source: Fourcaud-Trocme et al., Journal of Neuroscience 2003.
    """
    h = v + (x + v_rest - v + delta_T * torch.exp((v - theta_rh) / delta_T)) / tau
    s = spike(h - v_threshold)
    return s, _reset(h, s, v_threshold, v_reset, detach_reset)


@_node(
    {"v": "v_reset", "w": "w_rest"},
    limits={**_TAU, "tau_w": {"minimum": 1.0}},
    tau=2.0,
    v_c=0.8,
    a0=1.0,
    v_threshold=1.0,
    v_reset=0.0,
    v_rest=-0.1,
    w_rest=0.0,
    tau_w=2.0,
    a=0.0,
    b=0.0,
    detach_reset=False,
)
def IzhikevichNode(  # type: ignore[no-untyped-def]
    x, v, w, *, tau, v_c, a0, v_threshold, v_reset, v_rest, w_rest, tau_w, a, b, detach_reset
):
    """Izhikevich's neuron: quadratic, with a recovery variable W that starts at ``w_rest``.

    H = V + (X + a0 (V - v_rest) (V - v_c) - W) / tau, W' = W + (a (H - v_rest) - W) / tau_w + b S.

    Source: Izhikevich, IEEE Transactions on Neural Networks 2003.
    """
    h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
    s = spike(h - v_threshold)
    w = w + (a * (h - v_rest) - w) / tau_w + b * s
    return s, _reset(h, s, v_threshold, v_reset, detach_reset), w


@_node(
    {"v": "v_reset", "a": 0.0},
    limits={**_TAU, "rho": {"minimum": 0.0, "maximum": 1.0}},
    tau=2.0,
    kappa=0.2,
    rho=0.9,
    decay_input=True,
    v_threshold=1.0,
    v_reset=0.0,
    detach_reset=False,
)
def ALIFNode(x, v, a, *, tau, kappa, rho, decay_input, v_threshold, v_reset, detach_reset):  # type: ignore[no-untyped-def]
    """LIF with an adaptive threshold: it fires where H >= v_threshold + kappa A; A' = rho A + S.

    H is that of the LIF: V + (X - (V - v_reset)) / tau. Source: Bellec et al., NeurIPS 2018.
    """
    h = _leaky_charge(x, v, tau, v_reset, decay_input)
    s = spike(h - (v_threshold + kappa * a))
    return s, _reset(h, s, v_threshold, v_reset, detach_reset), rho * a + s


@_node(
    {"v": "v_reset"},
    learnable=("k",),
    limits=_TAU,
    tau=2.0,
    k=1.0,
    decay_input=True,
    v_threshold=1.0,
    v_reset=0.0,
    detach_reset=False,
)
def KLIFNode(x, v, *, tau, k, decay_input, v_threshold, v_reset, detach_reset):  # type: ignore[no-untyped-def]
    """LIF with a learnt scale: F = relu(k H) fires where F >= v_threshold, and F is what is reset.

    H is that of the LIF; ``k`` is a parameter. Source: Jiang and Zhang, 2023 (arXiv 2302.09238).
    """
    f = k * _leaky_charge(x, v, tau, v_reset, decay_input)
    f = torch.where(f <= 0, 0.0, f)
    s = spike(f - v_threshold)
    return s, _reset(f, s, v_threshold, v_reset, detach_reset)


@_node({"v": 0.0, "m": 0.0}, limits=_TAU, tau=2.0, v_threshold=1.0, detach_reset=False)
def CLIFNode(x, v, m, *, tau, v_threshold, detach_reset):  # type: ignore[no-untyped-def]
    """Complementary LIF, with a complementary potential M and soft reset.

    H = V - V / tau + X, M' = M sigmoid(H / tau) + S, V' = H - S (v_threshold + sigmoid(M')).

    Source: Huang et al., ICML 2024.
    """
    h = v - v / tau + x
    s = spike(h - v_threshold)
    m = m * torch.sigmoid(h / tau) + s
    r = s.detach() if detach_reset else s
    return s, h - r * (v_threshold + torch.sigmoid(m)), m


@_node(
    {"v": 0.0},
    limits={**_TAU, "v_threshold": {"above": 0.0}, "D": {"minimum": 1, "whole": True}},
    tau=2.0,
    v_threshold=1.0,
    D=4,
)
def ILIFNode(x, v, *, tau, v_threshold, D):  # type: ignore[no-untyped-def]
    """Integer LIF: H = (1 - 1/tau) V + X, the output C = round(clip(H / v_threshold, 0, D)).

    V' = H - C v_threshold. The gradient passes straight through the rounding, and so it is 1 /
    v_threshold between 0 and D v_threshold; the surrogate has no part in it. ``D``, a whole number,
    is the largest output. Source: Luo et al., ECCV 2024.
    """
    h = (1 - 1 / tau) * v + x
    c = h / v_threshold
    c = torch.where(c < 0, 0.0, torch.where(c > D, D, c))  # at both ends the gradient is whole
    c = c + (torch.round(c) - c).detach()
    return c, h - c * v_threshold


def _gated_lif(x, v, s, *, alpha, gamma, tau, v_threshold, linear_decay, v_subreset):  # type: ignore[no-untyped-def]
    keep = (1 - alpha * (1 - tau)) * v
    h = keep - keep * gamma * s - (1 - alpha) * linear_decay - (1 - gamma) * v_subreset * s + x
    s = spike(h - v_threshold)
    return s, h, s


_GATES = ("alpha", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
_GatedLIF: Any = define_neuron(
    _gated_lif, {"v": 0.0, "s": 0.0}, dict.fromkeys(_GATES, 0.5), (), "GatedLIFNode", {}
)


class GLIFNode(_GatedLIF):
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
    those of :class:`snnkernels.neuron.BaseNode`. Source: Yao et al., NeurIPS 2022.
    """

    __signature__ = None  # its own arguments, rather than the step's
    t: int
    v_seq: Tensor | None

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

    def _values(self, x_seq: Tensor) -> dict[str, Any]:
        return {name: torch.sigmoid(value) for name, value in super()._values(x_seq).items()}

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
        gated = x_seq.to(_checks.compute_dtype(x.dtype)) * self._gate(x_seq)
        out = super().forward(gated if self.step_mode == "m" else gated.squeeze(0))
        assert isinstance(out, Tensor)
        self.t = end
        return self._narrowed(out, x.dtype)

    def _gate(self, x_seq: Tensor) -> Tensor:
        """What the input of each step is multiplied by: [T, ...], against [T, B, ...]."""
        beta = self._against_a_step("beta", self.beta, x_seq)
        now = self.conduct[self.t : self.t + x_seq.shape[0]]
        return 1 - torch.sigmoid(beta) * (1 - torch.sigmoid(now.reshape(len(now), *beta.shape)))

    def _against_a_step(self, name: str, value: Tensor, x_seq: Tensor) -> Tensor:
        """A tensor as of one step's rank, in the arithmetic's dtype."""
        fitting = engine.checked_parameters({name: value}, x_seq, self.limits)[name]
        assert isinstance(fitting, Tensor)
        return fitting.reshape(*[1] * (x_seq.dim() - 1 - fitting.dim()), *fitting.shape)

    def _narrowed(self, spikes: Tensor, dtype: torch.dtype) -> Tensor:
        """Spikes, and ``v_seq``, in the dtype of the input rather than in that of the gates."""
        if spikes.dtype == dtype:
            return spikes
        if self.v_seq is not None:
            self.v_seq = self.v_seq.to(dtype)
        spikes = spikes.to(dtype)
        if engine.gives_spikes(self.surrogate_function):
            spike_storage.mark(spikes)
        return spikes

    def extra_repr(self) -> str:
        return f"T={self.T}, step_mode={self.step_mode!r}, backend={self.backend!r}"


def _whole(name: str, value: int) -> int:
    return int(_checks.number(name, value, minimum=1, whole=True))


def _logit(name: str, value: float, shape: tuple[int, ...]) -> nn.Parameter:
    value = _checks.number(name, value, above=0.0)
    if value >= 1:
        raise ValueError(f"{name} must be less than 1, got {value!r}")
    return nn.Parameter(torch.full(shape, -math.log(1 / value - 1)))


def _near_half(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(0.2 * (torch.rand(shape) - 0.5))
