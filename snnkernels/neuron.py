"""Spiking neurons as modules that sit in any ``nn.Sequential``.

In step mode "m" a neuron takes [T, B, ...] and runs all T steps in one kernel; in step mode "s" it
takes [B, ...] and advances one step. Either way its state carries over to the next call until
``reset()`` (``functional.reset_net(net)`` for a whole network).

A neuron of your own is one step in PyTorch, with :func:`snnkernels.compile_neuron`, and gets its
kernels from that. What is not a step on single numbers subclasses :class:`BaseNode` and overrides
``neuronal_charge``, and if need be ``neuronal_fire`` and ``neuronal_reset``; it then runs step by
step in plain PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from . import _checks, backend, engine, functional, reference
from ._node import Node, brief
from .engine import Parameter
from .zoo import (
    ALIFNode,
    CLIFNode,
    EIFNode,
    GLIFNode,
    ILIFNode,
    IzhikevichNode,
    KLIFNode,
    LINode,
    QIFNode,
)

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
    "MultiStepCubaLIFNode",
    "MultiStepIFNode",
    "MultiStepLIFNode",
    "MultiStepParametricLIFNode",
    "ParametricLIFNode",
    "QIFNode",
]

_EQUATIONS = ("neuronal_charge", "neuronal_fire", "neuronal_reset", "single_step_forward")


class BaseNode(Node):
    """A spiking neuron: charge, fire, reset, and the state in between.

    Args:
        v_threshold: the neuron fires where H >= v_threshold. A number or a tensor (see
            :mod:`snnkernels.functional` for the shapes); an ``nn.Parameter`` is learnt.
        v_reset: potential after a spike, number or tensor; None for soft reset.
        surrogate_function: a surrogate module; None for ``surrogate.Sigmoid()``.
        detach_reset: keep the gradient from flowing through the spike in the reset.
        step_mode: "s" for inputs [B, ...], one step a call; "m" for [T, B, ...].
        backend: "auto", "native", "cupy" or "torch".
        store_v_seq: in step mode "m", keep the potential after each step in ``v_seq`` [T, B, ...].
        monitor_state: append, for each step, the potential after the reset, the charged potential
            and the spikes to ``monitor["v"]``, ``monitor["h"]`` and ``monitor["s"]``, as numpy
            arrays of shape [B, ...] (bfloat16 as float32).

    ``v`` is the membrane potential: a number until the first call, then a tensor [B, ...].
    """

    kernel: ClassVar[str | None] = None
    """The neuron's name in ``reference.NEURONS``; None if it has no kernel."""

    _kernel_fits: ClassVar[bool] = False
    _state_names: ClassVar[tuple[str, ...]] = ("v",)

    monitored = ("v", "h", "s")

    v: Tensor | Any
    v_threshold: Parameter
    v_reset: Parameter | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A kernel fits a class that names one and overrides none of the equations."""
        super().__init_subclass__(**kwargs)
        cls._state_names = ("v",) if cls.kernel is None else reference.NEURONS[cls.kernel].states
        cls._kernel_fits = cls.kernel is not None and all(
            getattr(cls, name) is getattr(BaseNode, name) for name in _EQUATIONS
        )

    def __init__(
        self,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter | None = 0.0,
        surrogate_function: nn.Module | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        backend: str = "auto",
        store_v_seq: bool = False,
        monitor_state: bool = False,
    ) -> None:
        super().__init__(surrogate_function, step_mode, backend, store_v_seq, monitor_state)
        self._set_parameter("v_threshold", v_threshold)
        if v_reset is None:
            self.v_reset = None
        else:
            self._set_parameter("v_reset", v_reset)
        self.detach_reset = _checks.boolean("detach_reset", detach_reset)
        for name in self._state_names:
            self.register_memory(name, 0.0)
        self.reset()

    def reset(self) -> None:
        """Back to the initial state; clears ``v_seq`` and the monitor."""
        super().reset()
        self._put("v", self._rest())

    def _rest(self) -> float | None:
        """``v`` before the first call; None stands for a ``v_reset`` that is a tensor."""
        if self.v_reset is None:
            return 0.0
        return None if isinstance(self.v_reset, Tensor) else self.v_reset

    def _states(self) -> list[Any]:
        return [getattr(self, name) for name in self._state_names]

    def _set_states(self, values: Sequence[Tensor]) -> None:
        for name, value in zip(self._state_names, values, strict=True):
            self._put(name, value)

    def neuronal_charge(self, x: Tensor) -> None:
        """Charge: bring ``self.v`` from V to H, given the input x [B, ...] of one step."""
        if self.kernel is None:
            raise NotImplementedError(f"{type(self).__name__} must define neuronal_charge(self, x)")
        h, others = reference.NEURONS[self.kernel].charge(
            self._states(), x, self._reference_parameters(x), getattr(self, "decay_input", True)
        )
        self._set_states((h, *others))

    def neuronal_fire(self) -> Tensor:
        """Fire: the spikes [B, ...] of the charged potential ``self.v``."""
        p = self._reference_parameters(self.v)
        return reference.fire(self.v, p["v_threshold"], self.surrogate_function)

    def neuronal_reset(self, spike: Tensor) -> None:
        """Reset: bring ``self.v`` from H to the potential after ``spike`` [B, ...]."""
        p = self._reference_parameters(self.v)
        self.v = reference.reset(
            self.v, spike, p["v_threshold"], p.get("v_reset"), self.detach_reset
        )

    def single_step_forward(self, x: Tensor) -> Tensor:
        """One step in plain PyTorch: charge, fire, reset."""
        self._set_states([_as_tensor(s, self.v_reset, x) for s in self._states()])
        self.neuronal_charge(x)
        if self.monitor_state:
            self._record("h", self.v)
        spike = self.neuronal_fire()
        self.neuronal_reset(spike)
        if self.monitor_state:
            self._record("v", self.v)
            self._record("s", spike)
        return spike

    def forward(self, x: Tensor) -> Tensor:
        """Spikes in the shape, dtype and memory layout of ``x``: [B, ...], or [T, B, ...] in "m".

        Raises:
            TypeError: if ``x`` is not a floating-point tensor.
            ValueError: if its rank, device or shape does not fit.
        """
        x_seq = self._sequence_of(x)
        run = self._run_kernel if self._kernel_fits else self._run_equations
        out = run(x_seq)
        return out if self.step_mode == "m" else out.squeeze(0)

    def _run_equations(self, x_seq: Tensor) -> Tensor:
        if self.backend in backend.KERNEL_DEVICES:
            raise ValueError(
                f"backend={self.backend!r} has no kernel for {type(self).__name__}, which defines "
                "its own equations; use backend='auto' or 'torch'"
            )
        if self.backend == "auto":
            backend.warn_once(f"{type(self).__name__} defines its own equations, without a kernel")
        spikes, potentials = [], []
        for x in x_seq:
            spikes.append(self.single_step_forward(x))
            potentials.append(self.v)
        if self.store_v_seq and self.step_mode == "m":
            self.v_seq = torch.stack(potentials) if potentials else x_seq.clone()
        return torch.stack(spikes) if spikes else x_seq.clone()

    def _run_kernel(self, x_seq: Tensor) -> Tensor:
        assert self.kernel is not None
        v, *others = self._states()
        before = (functional.initial_v(v, self.v_reset, x_seq), *others)
        store = self.store_v_seq and self.step_mode == "m"
        spikes, v_seq, after = engine.run(
            self.kernel,
            x_seq,
            before,
            self._kernel_parameters(x_seq),
            self._surrogate,
            v_reset=self.v_reset,
            decay_input=getattr(self, "decay_input", True),
            detach_reset=self.detach_reset,
            backend_name=self.backend,
            store_v_seq=store,
        )
        if store:
            self.v_seq = v_seq
        if self.monitor_state:
            self._monitor_kernel(x_seq, before)
        self._set_states(after)
        return spikes

    def _kernel_parameters(self, x_seq: Tensor) -> dict[str, Parameter]:
        """The parameters that the kernel takes besides v_reset, by the kernel's names."""
        return {"v_threshold": self.v_threshold}

    def _reference_parameters(self, x: Tensor) -> dict[str, Tensor]:
        params = self._kernel_parameters(x.unsqueeze(0))
        if self.v_reset is not None:
            params["v_reset"] = self.v_reset
        limits = {} if self.kernel is None else reference.NEURONS[self.kernel].limits
        aligned = {
            name: _checks.broadcast(name, p, x.shape)
            if isinstance(p, Tensor)
            else _checks.number(name, p, **limits.get(name, {}))
            for name, p in params.items()
        }
        return engine.on_device(aligned, x)

    @torch.no_grad()
    def _monitor_kernel(self, x_seq: Tensor, states: Sequence[float | Tensor]) -> None:
        """Replay the steps in the reference, whose bits the kernel has, and record them."""
        wide = x_seq.to(_checks.compute_dtype(x_seq.dtype))
        for x in wide:
            spike, h, states = reference.single_step(
                reference.NEURONS[self.kernel],  # type: ignore[index]
                x,
                [_as_tensor(s, self.v_reset, x) for s in states],
                self._reference_parameters(x),
                self.surrogate_function,
                decay_input=getattr(self, "decay_input", True),
            )
            self._record("h", h)
            self._record("v", states[0])
            self._record("s", spike)

    def extra_repr(self) -> str:
        names = (*self._shown, "v_threshold", "v_reset", "detach_reset", "step_mode", "backend")
        return ", ".join(f"{name}={brief(getattr(self, name))}" for name in names)

    _shown: ClassVar[tuple[str, ...]] = ()


def _as_tensor(state: float | Tensor | None, v_reset: Parameter | None, x: Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state
    if state is not None:
        return torch.full_like(x, state)
    assert isinstance(v_reset, Tensor)
    return _checks.broadcast("v_reset", v_reset, x.shape).to(x).expand(x.shape)


class IFNode(BaseNode):
    """Integrate-and-fire: H = V + X. Arguments are those of :class:`BaseNode`."""

    kernel = "IF"


class LIFNode(BaseNode):
    """Leaky integrate-and-fire: H = V + (X - (V - Vr)) / tau.

    Args:
        tau: membrane time constant in steps, a number >= 1 or a tensor.
        decay_input: False for H = V - (V - Vr) / tau + X.

    The other arguments are those of :class:`BaseNode`. Source: SpikingJelly's clock_driven
    tutorial.
    """

    kernel = "LIF"
    _shown = ("tau", "decay_input")

    tau: Parameter

    def __init__(
        self,
        tau: Parameter = 2.0,
        decay_input: bool = True,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter | None = 0.0,
        surrogate_function: nn.Module | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        backend: str = "auto",
        store_v_seq: bool = False,
        monitor_state: bool = False,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            backend,
            store_v_seq,
            monitor_state,
        )
        self._set_parameter("tau", tau, **reference.NEURONS["LIF"].limits["tau"])
        self.decay_input = _checks.boolean("decay_input", decay_input)

    def _kernel_parameters(self, x_seq: Tensor) -> dict[str, Parameter]:
        return {"tau": self.tau, "v_threshold": self.v_threshold}


class ParametricLIFNode(BaseNode):
    """LIF whose time constant is learnt: 1/tau = sigmoid(w), w a scalar parameter.

    Args:
        init_tau: tau to start from, a number > 1.

    The other arguments are those of :class:`LIFNode`. Source: Fang et al., "Incorporating Learnable
    Membrane Time Constant to Enhance Learning of Spiking Neural Networks", ICCV 2021.
    """

    kernel = "ParametricLIF"
    _shown = ("tau", "decay_input")

    def __init__(
        self,
        init_tau: float = 2.0,
        decay_input: bool = True,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter | None = 0.0,
        surrogate_function: nn.Module | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        backend: str = "auto",
        store_v_seq: bool = False,
        monitor_state: bool = False,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            backend,
            store_v_seq,
            monitor_state,
        )
        init_tau = _checks.number("init_tau", init_tau, above=1)
        self.w = nn.Parameter(torch.tensor(-math.log(init_tau - 1)))
        self.decay_input = _checks.boolean("decay_input", decay_input)

    @property
    def tau(self) -> Tensor:
        """The time constant that ``w`` stands for, a scalar tensor."""
        return 1 / self.w.detach().sigmoid()

    def _kernel_parameters(self, x_seq: Tensor) -> dict[str, Parameter]:
        return {
            "r": functional.reciprocal_tau(self.w, x_seq),
            "v_threshold": self.v_threshold,
        }


class CubaLIFNode(BaseNode):
    """LIF driven by a decaying synaptic current: I' = alpha I + X, H = beta V + I'.

    Args:
        alpha: decay of the current per step, a number in [0, 1] or a tensor.
        beta: decay of the membrane potential per step, a number in [0, 1] or a tensor.

    The other arguments are those of :class:`BaseNode`. ``i`` is the current, a number until the
    first call, then a tensor [B, ...]. Source: the current-based neuron of Davies et al., "Loihi",
    IEEE Micro 2018, as in snnTorch's Synaptic.
    """

    kernel = "CubaLIF"
    _shown = ("alpha", "beta")

    alpha: Parameter
    beta: Parameter

    def __init__(
        self,
        alpha: Parameter = 0.5,
        beta: Parameter = 0.5,
        v_threshold: Parameter = 1.0,
        v_reset: Parameter | None = 0.0,
        surrogate_function: nn.Module | None = None,
        detach_reset: bool = False,
        step_mode: str = "s",
        backend: str = "auto",
        store_v_seq: bool = False,
        monitor_state: bool = False,
    ) -> None:
        super().__init__(
            v_threshold,
            v_reset,
            surrogate_function,
            detach_reset,
            step_mode,
            backend,
            store_v_seq,
            monitor_state,
        )
        limits = reference.NEURONS["CubaLIF"].limits
        self._set_parameter("alpha", alpha, **limits["alpha"])
        self._set_parameter("beta", beta, **limits["beta"])

    def _kernel_parameters(self, x_seq: Tensor) -> dict[str, Parameter]:
        return {"alpha": self.alpha, "beta": self.beta, "v_threshold": self.v_threshold}


class _MultiStep(nn.Module):
    """Mixin: the same neuron with ``step_mode="m"`` unless told otherwise."""

    def __init__(self, *args: Any, step_mode: str = "m", **kwargs: Any) -> None:
        super().__init__(*args, step_mode=step_mode, **kwargs)


class MultiStepIFNode(_MultiStep, IFNode):
    """:class:`IFNode` on [T, B, ...]."""


class MultiStepLIFNode(_MultiStep, LIFNode):
    """:class:`LIFNode` on [T, B, ...]."""


class MultiStepParametricLIFNode(_MultiStep, ParametricLIFNode):
    """:class:`ParametricLIFNode` on [T, B, ...]."""


class MultiStepCubaLIFNode(_MultiStep, CubaLIFNode):
    """:class:`CubaLIFNode` on [T, B, ...]."""
