"""Spiking neurons as modules that sit in any ``nn.Sequential``.

In step mode "m" a neuron takes [T, B, ...] and runs all T steps in one kernel; in step mode "s" it
takes [B, ...] and advances one step. Either way its state carries over to the next call until
``reset()`` (``functional.reset_net(net)`` for a whole network).

Below, X is the input of a step, V the membrane potential before it, H the charged potential, S the
spike, V' the potential after the step. Where ``v_reset`` is a number or tensor the reset is hard,
V' = (1 - S) H + S v_reset, and V starts there; ``v_reset=None`` makes it soft,
V' = H - S v_threshold, and V starts at 0. With ``detach_reset`` S is a constant in the reset. The
arguments that all have are those of :class:`BaseNode`.

To add a neuron, write its charge or its whole step here: the function is its reference, and its
kernels follow. A neuron of your own is made alike, by :func:`snnkernels.compile_neuron`. What is
not a step on single numbers subclasses :class:`BaseNode`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from . import _checks, engine, spike_storage
from ._equations import Equations, Parameter, State, Step, reset
from ._firing import spike
from ._node import BaseNode

__all__ = [
    "ALIFNode",
    "BaseNode",
    "CLIFNode",
    "CubaLIFNode",
    "EIFNode",
    "GLIFNode",
    "IFNode",
    "ILIFNode",
    "IzhikevichNode",
    "KLIFNode",
    "LIFNode",
    "LINode",
    "MultiStepALIFNode",
    "MultiStepCLIFNode",
    "MultiStepCubaLIFNode",
    "MultiStepEIFNode",
    "MultiStepGLIFNode",
    "MultiStepIFNode",
    "MultiStepILIFNode",
    "MultiStepIzhikevichNode",
    "MultiStepKLIFNode",
    "MultiStepLIFNode",
    "MultiStepLINode",
    "MultiStepParametricLIFNode",
    "MultiStepQIFNode",
    "ParametricLIFNode",
    "QIFNode",
]

_TAU = {"tau": {"minimum": 1.0}}
_SHARE = {"minimum": 0.0, "maximum": 1.0}
_FIRING = {"v_threshold": 1.0, "v_reset": 0.0, "detach_reset": False}

_Limits = Mapping[str, Mapping[str, Any]]


def _charge(
    states: Mapping[str, State | str] | None = None,
    *,
    kernel: str | None = None,
    derived: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] | None = None,
    learnable: tuple[str, ...] = (),
    limits: _Limits | None = None,
    **params: Any,
) -> Callable[[Callable[..., Any]], Equations]:
    """Make the equations of a neuron that charges, fires and resets from its charge.

    Args:
        states: those behind ``v``.
        params: those of the charge, and of the others those that do not come behind it.
    """
    params = {**params, **{name: d for name, d in _FIRING.items() if name not in params}}

    def equations(charge: Callable[..., Any]) -> Equations:
        return Equations(
            {"v": "v_reset", **(states or {})},
            params,
            charge=charge,
            kernel=kernel,
            derived=derived,
            learnable=learnable,
            limits=limits,
            may_be_none=("v_reset",),
            last=("detach_reset",),
        )

    return equations


def _step(
    states: Mapping[str, State | str],
    *,
    limits: _Limits | None = None,
    may_be_none: tuple[str, ...] = (),
    **params: Any,
) -> Callable[[Step], Equations]:
    """Make the equations of a neuron from a whole step."""

    def equations(step: Step) -> Equations:
        return Equations(
            states,
            params,
            step=step,
            limits=limits,
            may_be_none=may_be_none,
            last=("detach_reset",),
        )

    return equations


def _leaky(x, v, tau, v_rest, decay_input):
    """The LIF's charge: towards ``v_rest``, or 0 if that is None."""
    leak = v if v_rest is None else v - v_rest
    return v + (x - leak) / tau if decay_input else v - leak / tau + x


class IFNode(BaseNode):
    """Integrate-and-fire: H = V + X."""

    @_charge(kernel="IF")
    def equations(x, v):
        return v + x


class LIFNode(BaseNode):
    """Leaky integrate-and-fire: H = V + (X - (V - Vr)) / tau.

    ``decay_input=False``: H = V - (V - Vr) / tau + X. Vr is ``v_reset``, or 0 with soft reset;
    ``tau`` is the membrane time constant in steps, >= 1. Source: SpikingJelly's clock_driven
    tutorial.
    """

    tau: Parameter
    decay_input: bool

    @_charge(kernel="LIF", limits=_TAU, tau=2.0, decay_input=True)
    def equations(x, v, *, tau, decay_input, v_reset):
        return _leaky(x, v, tau, v_reset, decay_input)


def _weight_of_tau(init_tau: float) -> float:
    return -math.log(_checks.number("init_tau", init_tau, above=1.0) - 1)


class ParametricLIFNode(BaseNode):
    """LIF whose time constant is learnt: 1/tau = sigmoid(w), w a scalar parameter.

    Args:
        init_tau: tau to start from, a number > 1.

    The other arguments are those of :class:`LIFNode`. Source: Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    w: nn.Parameter
    decay_input: bool
    _given_by = {"w": ("init_tau", 2.0, _weight_of_tau)}  # noqa: RUF012

    @_charge(
        kernel="ParametricLIF",
        derived={"w": ("r", torch.sigmoid)},
        learnable=("w",),
        w=0.0,
        decay_input=True,
    )
    def equations(x, v, *, r, decay_input, v_reset):
        leak = v if v_reset is None else v - v_reset
        return v + (x - leak) * r if decay_input else v - leak * r + x

    @property
    def tau(self) -> Tensor:
        """The time constant that ``w`` stands for, a scalar tensor."""
        return 1 / self.w.detach().sigmoid()

    def extra_repr(self) -> str:
        return f"tau={self.tau.item():g}, {super().extra_repr()}"


class CubaLIFNode(BaseNode):
    """LIF driven by a decaying synaptic current: I' = alpha I + X, H = beta V + I'.

    ``alpha`` and ``beta`` are what remains of the current and of the potential after a step, in
    [0, 1]. ``i`` is the current, a number until the first call, then a tensor [B, ...]. Source: the
    current-based neuron of Davies et al., "Loihi", IEEE Micro 2018, as in snnTorch's Synaptic.
    """

    alpha: Parameter
    beta: Parameter
    i: Any

    @_charge(
        {"i": 0.0}, kernel="CubaLIF", limits={"alpha": _SHARE, "beta": _SHARE}, alpha=0.5, beta=0.5
    )
    def equations(x, v, i, *, alpha, beta):
        i = alpha * i + x
        return beta * v + i, i


class LINode(BaseNode):
    """Leaky integrator, a readout: H = V + (X - (V - v_rest)) / tau. It neither fires nor resets.

    The output is H, which is also the next V. ``decay_input=False``: H = V - (V - v_rest)/tau + X.
    """

    @_step(
        {"v": "v_rest"},
        limits=_TAU,
        may_be_none=("v_rest",),
        tau=2.0,
        decay_input=True,
        v_rest=0.0,
    )
    def equations(x, v, *, tau, decay_input, v_rest):
        h = _leaky(x, v, tau, v_rest, decay_input)
        return h, h


class QIFNode(BaseNode):
    """Quadratic integrate-and-fire: H = V + (X + a0 (V - v_rest) (V - v_c)) / tau.

    Source: Gerstner et al., "Neuronal Dynamics", 2014, section 5.3.
    """

    @_charge(limits=_TAU, tau=2.0, v_c=0.8, a0=1.0, v_threshold=1.0, v_rest=0.0, v_reset=-0.1)
    def equations(x, v, *, tau, v_c, a0, v_rest):
        return v + (x + a0 * (v - v_rest) * (v - v_c)) / tau


class EIFNode(BaseNode):
    """Exponential integrate-and-fire.

    H = V + (X + v_rest - V + delta_T exp((V - theta_rh) / delta_T)) / tau.

    Source: Fourcaud-Trocme et al., Journal of Neuroscience 2003.
    """

    @_charge(
        limits={**_TAU, "delta_T": {"above": 0.0}},
        tau=2.0,
        delta_T=1.0,
        theta_rh=0.8,
        v_threshold=1.0,
        v_rest=0.0,
        v_reset=-0.1,
    )
    def equations(x, v, *, tau, delta_T, theta_rh, v_rest):
        return v + (x + v_rest - v + delta_T * torch.exp((v - theta_rh) / delta_T)) / tau


class KLIFNode(BaseNode):
    """LIF with a learnt scale: F = relu(k H) fires where F >= v_threshold, and F is what is reset.

    H is that of the LIF; ``k`` is a parameter. Source: Jiang and Zhang, 2023 (arXiv 2302.09238).
    """

    @_charge(learnable=("k",), limits=_TAU, tau=2.0, k=1.0, decay_input=True)
    def equations(x, v, *, tau, k, decay_input, v_reset):
        f = k * _leaky(x, v, tau, v_reset, decay_input)
        return torch.where(f <= 0, 0.0, f)


class IzhikevichNode(BaseNode):
    """Izhikevich's neuron: quadratic, with a recovery variable W that starts at ``w_rest``.

    H = V + (X + a0 (V - v_rest) (V - v_c) - W) / tau, W' = W + (a (H - v_rest) - W) / tau_w + b S.

    Source: Izhikevich, IEEE Transactions on Neural Networks 2003.
    """

    @_step(
        {"v": "v_reset", "w": "w_rest"},
        limits={**_TAU, "tau_w": {"minimum": 1.0}},
        may_be_none=("v_reset",),
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
    def equations(
        x, v, w, *, tau, v_c, a0, v_threshold, v_reset, v_rest, w_rest, tau_w, a, b, detach_reset
    ):
        h = v + (x + a0 * (v - v_rest) * (v - v_c) - w) / tau
        s = spike(h - v_threshold)
        w = w + (a * (h - v_rest) - w) / tau_w + b * s
        return s, reset(h, s, v_threshold, v_reset, detach_reset), w


class ALIFNode(BaseNode):
    """LIF with an adaptive threshold: it fires where H >= v_threshold + kappa A; A' = rho A + S.

    H is that of the LIF: V + (X - (V - v_reset)) / tau. Source: Bellec et al., NeurIPS 2018.
    """

    @_step(
        {"v": "v_reset", "a": 0.0},
        limits={**_TAU, "rho": _SHARE},
        may_be_none=("v_reset",),
        tau=2.0,
        kappa=0.2,
        rho=0.9,
        decay_input=True,
        **_FIRING,
    )
    def equations(x, v, a, *, tau, kappa, rho, decay_input, v_threshold, v_reset, detach_reset):
        h = _leaky(x, v, tau, v_reset, decay_input)
        s = spike(h - (v_threshold + kappa * a))
        return s, reset(h, s, v_threshold, v_reset, detach_reset), rho * a + s


class CLIFNode(BaseNode):
    """Complementary LIF, with a complementary potential M and soft reset.

    H = V - V / tau + X, M' = M sigmoid(H / tau) + S, V' = H - S (v_threshold + sigmoid(M')).

    Source: Huang et al., ICML 2024.
    """

    @_step({"v": 0.0, "m": 0.0}, limits=_TAU, tau=2.0, v_threshold=1.0, detach_reset=False)
    def equations(x, v, m, *, tau, v_threshold, detach_reset):
        h = v - v / tau + x
        s = spike(h - v_threshold)
        m = m * torch.sigmoid(h / tau) + s
        r = s.detach() if detach_reset else s
        return s, h - r * (v_threshold + torch.sigmoid(m)), m


class ILIFNode(BaseNode):
    """Integer LIF: H = (1 - 1/tau) V + X, the output C = round(clip(H / v_threshold, 0, D)).

    V' = H - C v_threshold. The gradient passes straight through the rounding, and so it is 1 /
    v_threshold between 0 and D v_threshold; the surrogate has no part in it. ``D``, a whole number,
    is the largest output. Source: Luo et al., ECCV 2024.
    """

    @_step(
        {"v": 0.0},
        limits={**_TAU, "v_threshold": {"above": 0.0}, "D": {"minimum": 1, "whole": True}},
        tau=2.0,
        v_threshold=1.0,
        D=4,
    )
    def equations(x, v, *, tau, v_threshold, D):
        h = (1 - 1 / tau) * v + x
        c = h / v_threshold
        c = torch.where(c < 0, 0.0, torch.where(c > D, D, c))  # at both ends the gradient is whole
        c = c + (torch.round(c) - c).detach()
        return c, h - c * v_threshold


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
    those of :class:`snnkernels.neuron.BaseNode`. Source: Yao et al., NeurIPS 2022.
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
        wide = _checks.compute_dtype(x.dtype)
        beta = torch.sigmoid(_checks.widen("beta", self.beta, wide))
        now = torch.sigmoid(_checks.widen("conduct", self.conduct[self.t : end], wide))
        gated = conducted(x_seq, beta, now)
        out = super().forward(gated if self.step_mode == "m" else gated.squeeze(0))
        assert isinstance(out, Tensor)
        self.t = end
        if self.v_seq is not None:
            self.v_seq = self.v_seq.to(x.dtype)
        return narrowed(out, self.surrogate_function, x.dtype)

    def extra_repr(self) -> str:
        return f"T={self.T}, step_mode={self.step_mode!r}, backend={self.backend!r}"


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
            f"got {_checks.describe(conduct)}"
        )
    row = _against_a_step("conduct", conduct.new_empty(conduct.shape[1:]), x_seq)
    gate = 1 - beta * (1 - conduct.reshape(len(conduct), *row.shape))
    return x_seq.to(_checks.compute_dtype(x_seq.dtype)) * gate


def _against_a_step(name: str, value: Tensor, x_seq: Tensor) -> Tensor:
    """A tensor as of one step's rank, in the arithmetic's dtype."""
    fitting = engine.checked_parameters({name: value}, x_seq, {})[name]
    assert isinstance(fitting, Tensor)
    return fitting.reshape(*[1] * (x_seq.dim() - 1 - fitting.dim()), *fitting.shape)


def narrowed(spikes: Tensor, surrogate_function: nn.Module, dtype: torch.dtype) -> Tensor:
    """Spikes in another dtype, still known to be spikes."""
    if spikes.dtype == dtype:
        return spikes
    spikes = spikes.to(dtype)
    if engine.gives_spikes(surrogate_function):
        spike_storage.mark(spikes)
    return spikes


def _whole(name: str, value: int) -> int:
    return int(_checks.number(name, value, minimum=1, whole=True))


def _logit(name: str, value: float, shape: tuple[int, ...]) -> nn.Parameter:
    value = _checks.number(name, value, above=0.0)
    if value >= 1:
        raise ValueError(f"{name} must be less than 1, got {value!r}")
    return nn.Parameter(torch.full(shape, -math.log(1 / value - 1)))


def _near_half(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(0.2 * (torch.rand(shape) - 0.5))


class MultiStepIFNode(IFNode, step_mode="m"):
    """:class:`IFNode` on [T, B, ...]."""


class MultiStepLIFNode(LIFNode, step_mode="m"):
    """:class:`LIFNode` on [T, B, ...]."""


class MultiStepParametricLIFNode(ParametricLIFNode, step_mode="m"):
    """:class:`ParametricLIFNode` on [T, B, ...]."""


class MultiStepCubaLIFNode(CubaLIFNode, step_mode="m"):
    """:class:`CubaLIFNode` on [T, B, ...]."""


class MultiStepLINode(LINode, step_mode="m"):
    """:class:`LINode` on [T, B, ...]."""


class MultiStepQIFNode(QIFNode, step_mode="m"):
    """:class:`QIFNode` on [T, B, ...]."""


class MultiStepEIFNode(EIFNode, step_mode="m"):
    """:class:`EIFNode` on [T, B, ...]."""


class MultiStepIzhikevichNode(IzhikevichNode, step_mode="m"):
    """:class:`IzhikevichNode` on [T, B, ...]."""


class MultiStepALIFNode(ALIFNode, step_mode="m"):
    """:class:`ALIFNode` on [T, B, ...]."""


class MultiStepKLIFNode(KLIFNode, step_mode="m"):
    """:class:`KLIFNode` on [T, B, ...]."""


class MultiStepCLIFNode(CLIFNode, step_mode="m"):
    """:class:`CLIFNode` on [T, B, ...]."""


class MultiStepILIFNode(ILIFNode, step_mode="m"):
    """:class:`ILIFNode` on [T, B, ...]."""


class MultiStepGLIFNode(GLIFNode, step_mode="m"):
    """:class:`GLIFNode` on [T, B, ...]."""
