"""sinabs' LIF and IAF, step by step as it has them, on its [B, T, ...].

With a = exp(-1 / tau_mem), 1 for IAF, and b = 1 - a if norm_input, else 1:

    V = a V + b X                          or, with tau_syn, I = exp(-1 / tau_syn) (I + X);  b I
    S = 1 where V >= threshold             SingleSpike
    S = trunc(V / threshold), if V > 0     MultiSpike; MaxSpike limits it
    V = V - S threshold                    MembraneSubtract; MembraneReset to a value
    V = max(V, min_v_mem)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import surrogate
from .._call.equations import Equations
from .._core.firing import spike
from ..neuron.base import BaseNode
from ._rules import CannotConvert, ForeignLibrary, along_last, floating

PACKAGE = "sinabs"

_PARAMS: dict[str, Any] = {
    "alpha_mem": 1.0,
    "spike_threshold": 1.0,
    "min_v_mem": None,
    "norm_input": False,
    "spikes": "single",
    "max_spikes": None,
    "reset_value": None,
    "subtract_value": None,
}


def _fire(
    v_mem: Tensor,
    spike_threshold: Tensor,
    min_v_mem: Tensor | None,
    spikes: str,
    max_spikes: Tensor | None,
    reset_value: Tensor | None,
    subtract_value: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Spikes, and the potential after the reset."""
    s = spike(v_mem - spike_threshold)
    if spikes == "multi":
        count = (v_mem > 0).to(v_mem) * torch.trunc(v_mem / spike_threshold)
        if max_spikes is not None:
            count = torch.minimum(count, max_spikes)
        s = s - s.detach() + count.detach()  # the count, with the surrogate's gradient
    if reset_value is not None:
        v_mem = v_mem * (s == 0).to(v_mem) + reset_value
    else:
        v_mem = v_mem - s * (spike_threshold if subtract_value is None else subtract_value)
    if min_v_mem is not None:
        v_mem = torch.relu(v_mem - min_v_mem) + min_v_mem
    return s, v_mem


def _lif(  # type: ignore[no-untyped-def]
    x,
    v_mem,
    *,
    alpha_mem,
    spike_threshold,
    min_v_mem,
    norm_input,
    spikes,
    max_spikes,
    reset_value,
    subtract_value,
):
    v_mem = alpha_mem * v_mem + ((1 - alpha_mem) * x if norm_input else x)
    return _fire(v_mem, spike_threshold, min_v_mem, spikes, max_spikes, reset_value, subtract_value)


def _synaptic_lif(  # type: ignore[no-untyped-def]
    x,
    v_mem,
    i_syn,
    *,
    alpha_mem,
    alpha_syn,
    spike_threshold,
    min_v_mem,
    norm_input,
    spikes,
    max_spikes,
    reset_value,
    subtract_value,
):
    i_syn = alpha_syn * (i_syn + x)
    v_mem = alpha_mem * v_mem + ((1 - alpha_mem) * i_syn if norm_input else i_syn)
    s, v_mem = _fire(
        v_mem, spike_threshold, min_v_mem, spikes, max_spikes, reset_value, subtract_value
    )
    return s, v_mem, i_syn


class _Neuron(BaseNode):
    """What all have: [B, T, ...], decays from time constants that are learnt, sinabs' names."""

    batch_size: int | None = None
    num_timesteps: int | None = None

    def forward(self, x: Tensor) -> Any:
        """Spikes in the shape of x: [B, T, ...], or [B * T, ...] for a layer that squeezes.

        In step mode "s", x and the spikes are one step [B, ...].
        """
        if self.step_mode == "s":
            return super().forward(x)
        if self.batch_size is None or self.num_timesteps is None:
            return self._batch_first(x)
        apart = x.reshape(self.batch_size, self.num_timesteps, *x.shape[1:])
        return self._batch_first(apart).flatten(0, 1)

    def _batch_first(self, x: Tensor) -> Tensor:
        spikes = super().forward(x.transpose(0, 1))
        assert isinstance(spikes, Tensor)
        return spikes.transpose(0, 1)

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        values = super()._taken(x_seq)
        for name in ("mem", "syn"):
            tau = getattr(self, f"tau_{name}", None)
            if tau is not None:
                values[f"alpha_{name}"] = torch.exp(-1.0 / tau)
        return along_last(values, x_seq)

    def reset_states(self) -> None:
        """Back to the initial state."""
        self.reset()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A checkpoint of sinabs' layer fits; the states in it are left out."""
        for name in self.equations.states:
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args)


class LIF(_Neuron):
    """sinabs' LIF and IAF without a synaptic current, and their Squeeze variants."""

    equations = Equations({"v_mem": 0.0}, _PARAMS, step=_lif)


class SynapticLIF(_Neuron):
    """sinabs' LIF and IAF with ``tau_syn``."""

    equations = Equations(
        {"v_mem": 0.0, "i_syn": 0.0}, {"alpha_syn": 0.9, **_PARAMS}, step=_synaptic_lif
    )


def _exponential(x: Tensor, width: float, scale: float) -> Tensor:
    return scale / width * torch.exp(-x.abs() / width)


def _gaussian(x: Tensor, mu: float, sigma: float, scale: float) -> Tensor:
    d = x - mu
    return torch.exp(-(d * d) / (2 * sigma * sigma)) / (sigma * 2.5066282746310002) * scale


def _window(x: Tensor, window: float, threshold: float) -> Tensor:
    return (x >= -window).to(x) / threshold


def _surrogate(function: Any, threshold: float) -> surrogate.SurrogateFunction:
    """Ours for one of sinabs', which know the threshold."""
    kind = type(function).__name__
    if type(function).__module__.partition(".")[0] == PACKAGE:
        if kind == "SingleExponential":
            width = threshold * function.grad_width
            return surrogate.custom(_exponential, width=width, scale=function.grad_scale)
        if kind == "Gaussian":
            values = {"mu": function.mu, "sigma": function.sigma}
            return surrogate.custom(_gaussian, **values, scale=function.grad_scale)
        if kind == "Heaviside":
            return surrogate.custom(_window, window=function.window, threshold=threshold)
    raise CannotConvert(f"its surrogate_grad_fn {kind} is not among those that are known")


def _spikes(function: Any) -> dict[str, Any]:
    kind = function if isinstance(function, type) else type(function)
    if kind.__module__.partition(".")[0] == PACKAGE:
        if kind.__name__ in ("SingleSpike", "MultiSpike"):
            return {"spikes": kind.__name__.removesuffix("Spike").lower()}
        if kind.__name__ == "MaxSpike":
            limit = function.max_num_spikes_per_bin
            return {"spikes": "multi", "max_spikes": None if limit is None else float(limit)}
    raise CannotConvert(f"its spike_fn {kind.__name__} is not among those that are known")


def _reset(function: Any) -> dict[str, Any]:
    kind = type(function)
    if kind.__module__.partition(".")[0] == PACKAGE:
        if kind.__name__ == "MembraneSubtract":
            value = function.subtract_value
            return {"subtract_value": None if value is None else float(value)}
        if kind.__name__ == "MembraneReset":
            return {"reset_value": float(function.reset_value)}
    raise CannotConvert(f"its reset_fn {kind.__name__} is not among those that are known")


def _decays(old: Any) -> dict[str, Any]:
    """The learnt decays; time constants are set apart, and the decays follow from them."""
    if not old.train_alphas:
        return {}
    alphas = {"alpha_mem": old.alpha_mem, "alpha_syn": old.alpha_syn}
    return {name: alpha for name, alpha in alphas.items() if alpha is not None}


def _rule(old: Any) -> BaseNode:
    if old.record_states:
        raise CannotConvert("record_states is set")
    threshold = old.spike_threshold
    if threshold.numel() > 1 or threshold.requires_grad:
        raise CannotConvert("its spike_threshold is learnt or has several values")
    synaptic = "i_syn" in dict(old.named_buffers())
    node: Any = (SynapticLIF if synaptic else LIF)(
        **_decays(old),
        **_spikes(old.spike_fn),
        **_reset(old.reset_fn),
        spike_threshold=floating(threshold),
        min_v_mem=None if old.min_v_mem is None else floating(old.min_v_mem),
        norm_input=old.norm_input,
        surrogate_function=_surrogate(old.surrogate_grad_fn, float(threshold)),
        step_mode="m",
    )
    for name in ("tau_mem", "tau_syn"):
        tau = getattr(old, name, None)
        if tau is not None:
            node.register_parameter(name, tau)
    for name in ("batch_size", "num_timesteps"):
        setattr(node, name, getattr(old, name, None))
    for name, state in old.named_buffers():
        if state.numel():
            setattr(node, name, state)
    made: BaseNode = node
    return made


LIBRARY = ForeignLibrary(
    PACKAGE,
    bases=("StatefulLayer",),
    rules=dict.fromkeys(("LIF", "IAF", "LIFSqueeze", "IAFSqueeze"), _rule),
)
