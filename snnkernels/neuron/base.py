"""The module of a neuron, whatever its equations are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from .. import _call, surrogate
from .._backends import selection
from .._backends.selection import check_backend
from .._call.equations import Equations, Parameter, reset
from .._core import checks
from .._core.modules import MemoryModule, StepModeModule, detached
from .._core.torch_private import submodules

_SHARED: dict[str, Any] = {
    "step_mode": "s",
    "backend": "auto",
    "store_v_seq": False,
    "monitor_state": False,
}
"""The arguments that all neurons have last, with their defaults."""

_KEPT_BY = ("_backend", "_step_mode", "store_v_seq", "monitor_state")
"""What a call depends on besides the parameters."""

_PARTS = ("neuronal_charge", "neuronal_fire", "neuronal_reset", "single_step_forward")


class _Signature:
    """The signature of a class that takes the arguments of its equations, for ``inspect``."""

    def __get__(self, node: BaseNode | None, cls: type[BaseNode]) -> inspect.Signature:
        if node is not None or cls.__init__ is not BaseNode.__init__:
            raise AttributeError("__signature__")
        return cls._signature()


class BaseNode(StepModeModule, MemoryModule):
    """A spiking neuron: charge, fire, reset, and the state in between.

    Args:
        v_threshold: 1.0; the neuron fires where H >= v_threshold. A number or a tensor (see
            ``snnkernels.functional`` for the shapes); an ``nn.Parameter`` is learnt.
        v_reset: 0.0; potential after a spike, number or tensor; None for soft reset.
        surrogate_function: None for ``surrogate.Sigmoid()``; a surrogate module.
        detach_reset: False; keep the gradient from flowing through the spike in the reset.
        step_mode: "s", the default, for inputs [B, ...], one step a call; "m" for [T, B, ...].
        backend: "auto", the default, "native", "cupy" or "torch".
        store_v_seq: False; in step mode "m", keep the potential after each step in ``v_seq``
            [T, B, ...].
        monitor_state: False; append, for each step, what ``monitor`` has a list for: the states
            after the reset, such as "v", the charged potential "h" where there is one, and the
            output "s", as numpy arrays of shape [B, ...] (bfloat16 as float32).

    ``v`` is the membrane potential: a number until the first call, then a tensor [B, ...].

    A subclass overrides ``neuronal_charge``, and if need be ``neuronal_fire`` and
    ``neuronal_reset``; it then runs step by step in plain PyTorch.
    """

    equations: ClassVar[Equations] = Equations(
        {"v": "v_reset"},
        {"v_threshold": 1.0, "v_reset": 0.0, "detach_reset": False},
        may_be_none=("v_reset",),
        last=("detach_reset",),
    )
    monitored: ClassVar[tuple[str, ...]]
    """What ``monitor`` holds where ``monitor_state`` is set."""
    _given_by: ClassVar[dict[str, tuple[str, Any, Callable[[Any], Any]]]] = {}
    """By parameter that another argument gives: its name, its default, and what it gives."""

    __signature__ = _Signature()
    _arguments: ClassVar[dict[str, Any]]
    _has_own_parts: ClassVar[bool] = True
    _is_kept: ClassVar[bool] = False
    """Whether a call is known by attributes: the equations take those of their names."""
    _kept_by: ClassVar[itemgetter[tuple[Any, ...]]]
    """These attributes."""

    surrogate_function: nn.Module
    v: Any
    v_threshold: Parameter
    v_reset: Parameter | None
    detach_reset: bool
    store_v_seq: bool
    monitor_state: bool
    v_seq: Tensor | None
    monitor: dict[str, list[Any]]

    def __init_subclass__(cls, step_mode: str | None = None, **kwargs: Any) -> None:
        """Take in the equations of a subclass that has its own.

        Args:
            step_mode: its default, if it is another than that of its base.
        """
        super().__init_subclass__(**kwargs)
        if not isinstance(cls.equations, Equations):
            raise TypeError(f"{cls.__name__}.equations is a name that BaseNode uses itself")
        if "equations" in vars(cls):
            cls._take_in_equations()
        if step_mode is not None:
            cls._arguments = {**cls._arguments, "step_mode": step_mode}
        own = [name for name in _PARTS if getattr(cls, name) is not getattr(BaseNode, name)]
        step, charge = cls.equations.step, cls.equations.charge
        if own and step is not None and charge is None and "single_step_forward" not in own:
            raise TypeError(
                f"{cls.__name__} defines {own[0]}, but its equations are one whole step without "
                "parts: define single_step_forward, or write the step with compile_neuron"
            )
        cls._has_own_parts = bool(own) or step is None
        made = [inspect.getattr_static(cls, name, None) for name in cls.equations.params]
        taken = cls._taken is BaseNode._taken and not any(map(inspect.isdatadescriptor, made))
        cls._is_kept = taken and not cls._has_own_parts

    @classmethod
    def _take_in_equations(cls) -> None:
        equations = cls.equations
        others = ("s",) if equations.charge is None and equations.step else ("h", "s")
        cls.monitored = tuple(dict.fromkeys((*equations.states, *others)))
        first = dict([cls._given_by.get(n, (n, d))[:2] for n, d in equations.params.items()])
        last = {name: first.pop(name) for name in equations.last if name in first}
        cls._arguments = {**first, "surrogate_function": None, **last, **_SHARED}
        cls._kept_by = itemgetter(*equations.params, *_KEPT_BY)

    @classmethod
    def _signature(cls) -> inspect.Signature:
        equations, kind = cls.equations, inspect.Parameter.POSITIONAL_OR_KEYWORD
        types = {
            **{argument: type(default) for argument, default in cls._arguments.items()},
            **{name: equations.annotation(name) for name in equations.params},
            "surrogate_function": nn.Module | None,
        }
        return inspect.Signature(
            [
                inspect.Parameter(n, kind, default=d, annotation=types[n])
                for n, d in cls._arguments.items()
            ]
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        defaults = self._arguments
        values = checks.arguments(
            type(self).__name__, defaults, tuple(defaults), args, kwargs, self._signature
        )
        for name, (argument, _, convert) in self._given_by.items():
            values[name] = convert(values.pop(argument))
        super().__init__()
        self._kept = _call.Kept()
        function = values.pop("surrogate_function")
        self.surrogate_function = surrogate.Sigmoid() if function is None else function
        _call.check_surrogate(self.surrogate_function)
        self.step_mode = values.pop("step_mode")
        self.backend = values.pop("backend")
        for name in ("store_v_seq", "monitor_state"):
            setattr(self, name, checks.boolean(name, values.pop(name)))
        options, numbers = self.equations.split(values)
        for name, value in options:
            setattr(self, name, value)
        for name, value in numbers.items():
            self._set_value(name, value)
        for name in self.equations.states:
            self.register_memory(name, 0.0)
        self.monitor = {name: [] for name in self.monitored}
        self.reset()

    def _set_value(self, name: str, value: Any) -> None:
        """Keep a number as an attribute, an nn.Parameter as one, another tensor as a buffer."""
        limits = self.equations.limits.get(name, {})
        if not isinstance(value, Tensor):
            value = checks.number(name, value, **limits)
        if name in self.equations.learnable and not isinstance(value, nn.Parameter):
            value = nn.Parameter(torch.as_tensor(value).detach().clone())
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Tensor):
            self.register_buffer(name, value)
        else:
            setattr(self, name, value)

    @property
    def _surrogate(self) -> nn.Module:
        """``surrogate_function`` without ``nn.Module``'s search, which takes a microsecond."""
        module = submodules(self).get("surrogate_function")
        return self.surrogate_function if module is None else module

    @property
    def backend(self) -> str:
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        self._backend = check_backend(value)

    def reset(self) -> None:
        """Back to the initial state; clears ``v_seq`` and the monitor."""
        super().reset()
        self._set_states([self._start(source) for source in self.equations.states.values()])
        self._put("v_seq", None)
        if any(self.monitor.values()):
            self._put("monitor", {name: [] for name in self.monitored})

    def _start(self, source: Any) -> float | None:
        """A state before the first call; None stands for a tensor."""
        if isinstance(source, str):
            source = getattr(self, source)
        if source is None:
            return 0.0
        return None if isinstance(source, Tensor) else float(source)

    def _states(self) -> list[Any]:
        return [getattr(self, name) for name in self.equations.states]

    def _set_states(self, values: Sequence[Any]) -> None:
        own = self.__dict__
        for name, value in zip(self.equations.states, values, strict=True):
            if name in own:
                own[name] = value
            else:
                setattr(self, name, value)

    def _taken(self, x_seq: Tensor) -> dict[str, Any]:
        """What the equations take besides x and the states: parameters and options."""
        return {name: getattr(self, name) for name in self.equations.params}

    def forward(self, x: Tensor) -> Any:
        """The output for one step of ``x`` [B, ...], or in step mode "m" for all of [T, B, ...].

        It has the shape, dtype and memory layout of ``x``: a tensor, or a tuple of them where the
        equations have several outputs.

        Raises:
            TypeError: if ``x`` is not a floating-point tensor.
            ValueError: if its rank, device or shape does not fit.
        """
        given = self._depends_on()
        outputs = None if given is None else self._run_again(x, given)
        if outputs is None:
            x_seq = self._sequence_of(x)
            outputs = self._run_parts(x_seq) if self._has_own_parts else self._run(x_seq, x, given)
        return outputs[0] if len(outputs) == 1 else outputs

    def _run_again(self, x: object, given: tuple[Any, ...]) -> tuple[Tensor, ...] | None:
        """The outputs of a call that is like an earlier one, else None."""
        outcome = self._kept.run(self.equations.id, x, self._states(), given, self._surrogate)
        if outcome is None:
            return None
        outputs, v_seq, after = outcome
        if v_seq is not None:
            self.v_seq = v_seq
        self._set_states(after)
        return outputs

    def _depends_on(self) -> tuple[Any, ...] | None:
        """All that a call depends on but its states and its surrogate, if it may be kept."""
        if not self._is_kept or torch.compiler.is_compiling():
            return None
        try:
            return self._kept_by(self.__dict__)
        except KeyError:  # that one is a tensor, or made by a property
            return None

    def _sequence_of(self, x: Tensor) -> Tensor:
        """The input, checked, with its time axis: a step [B, ...] becomes [1, B, ...]."""
        multi = self.step_mode == "m"
        leading, rank = ("[T, B, ...]", 2) if multi else ("[B, ...]", 1)
        checks.sequence("x_seq" if multi else "x", x, leading=leading, minimum_rank=rank)
        return x if multi else x.unsqueeze(0)

    def _as_call(
        self, x_seq: Tensor, states: Sequence[Any], step: Tensor | None = None
    ) -> _call.Call:
        values, function = self._taken(x_seq), self._surrogate
        return _call.call_of(self.equations, x_seq, states, values, function, self._backend, step)

    def _run(self, x_seq: Tensor, x: Tensor, given: tuple[Any, ...] | None) -> tuple[Tensor, ...]:
        multi = self.step_mode == "m"
        call = self._as_call(x_seq, self._states(), None if multi else x)
        store = self.store_v_seq and multi
        keep = None
        if given is not None and not self.monitor_state:
            keep = partial(self._kept.keep, call, given)
        outputs, v_seq, after = _call.run(call, store, keep)
        if store:
            self.v_seq = v_seq
        if self.monitor_state:
            self._monitor(call)
        self._set_states(after)
        return outputs

    @torch.no_grad()
    def _monitor(self, call: _call.Call) -> None:
        """Take the steps in PyTorch, whose bits the kernels have, and record what they give."""

        def record(h: Tensor | None, outputs: Sequence[Tensor], after: Sequence[Tensor]) -> None:
            if h is not None:
                self._record("h", h)
            for name, value in zip(self.equations.states, after, strict=True):
                self._record(name, value)
            if "s" not in self.equations.states:
                self._record("s", outputs[0])

        _call.replay(call, record)

    def _record(self, key: str, value: Tensor) -> None:
        value = value.detach()
        if value.dtype == torch.bfloat16:
            value = value.float()
        self.monitor[key].append(value.cpu().numpy().copy())

    @property
    def _no_kernel(self) -> str:
        return f"{type(self).__name__} defines its own equations, without a kernel"

    def _run_parts(self, x_seq: Tensor) -> tuple[Tensor, ...]:
        selection.fall_back(self.backend, self._no_kernel)
        spikes, potentials = [], []
        for x in x_seq:
            spikes.append(self.single_step_forward(x))
            potentials.append(self.v)
        if self.store_v_seq and self.step_mode == "m":
            self.v_seq = torch.stack(potentials) if potentials else x_seq.clone()
        if self.step_mode == "s":
            return tuple(spikes)
        return (torch.stack(spikes) if spikes else x_seq.clone(),)

    def single_step_forward(self, x: Tensor) -> Tensor:
        """One step in plain PyTorch: charge, fire, reset."""
        values = self._taken(x.unsqueeze(0))
        self._set_states(_call.full_states(self.equations, self._states(), values, x))
        self.neuronal_charge(x)
        if self.monitor_state:
            self._record("h", self.v)
        spike = self.neuronal_fire()
        self.neuronal_reset(spike)
        if self.monitor_state:
            for name, value in zip(self.equations.states, self._states(), strict=True):
                self._record(name, value)
            self._record("s", spike)
        return spike

    def neuronal_charge(self, x: Tensor) -> None:
        """Charge: bring ``self.v`` from V to H, given the input x [B, ...] of one step."""
        if self.equations.charge is None:
            raise NotImplementedError(f"{type(self).__name__} must define neuronal_charge(self, x)")
        values = self._part_values(x, self.equations.charge_takes)
        self._set_states(self.equations.charged(x, self._states(), values))

    def neuronal_fire(self) -> Tensor:
        """Fire: the spikes [B, ...] of the charged potential ``self.v``."""
        (threshold,) = self._part_values(self.v, ("v_threshold",)).values()
        spikes = self.surrogate_function(self.v - threshold)
        assert isinstance(spikes, Tensor)
        return spikes

    def neuronal_reset(self, spike: Tensor) -> None:
        """Reset: bring ``self.v`` from H to the potential after ``spike`` [B, ...]."""
        values = self._part_values(self.v, ("v_threshold", "v_reset", "detach_reset"))
        self.v = reset(self.v, spike, **values)

    def _part_values(self, x: Tensor, names: Sequence[str]) -> dict[str, Any]:
        return _call.part_values(self.equations, self._taken(x.unsqueeze(0)), names, x)

    def source(self) -> str:
        """The C++ header that the node's kernels are compiled from.

        Raises:
            snnkernels.StepError: the step cannot be compiled; the message gives the line.
            ValueError: there are none.
        """
        if self._has_own_parts:
            raise ValueError(self._no_kernel)
        return _call.source_of(self._as_call(torch.empty(1, 1), ()))

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles see: carried states without their history."""
        return {**super().__getstate__(), "v_seq": detached(self.v_seq)}

    def _replicate_for_data_parallel(self) -> Self:
        replica = super()._replicate_for_data_parallel()
        replica._kept = _call.Kept()
        replica.monitor = {key: list(values) for key, values in self.monitor.items()}
        return replica

    def extra_repr(self) -> str:
        names = (*self.equations.params, "step_mode", "backend")
        return ", ".join(f"{name}={_brief(getattr(self, name))}" for name in names)


BaseNode._take_in_equations()


def _brief(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 1:
        return f"tensor{tuple(value.shape)}"
    return f"{value.item():g}" if isinstance(value, Tensor) else repr(value)
