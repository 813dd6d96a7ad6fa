"""Neurons that are written as one step in PyTorch: :func:`compile_neuron`.

The step function is the neuron's reference, and runs as it is with ``backend="torch"``. Its kernels
are printed from what it does to numbers (:mod:`snnkernels.codegen`) and compiled at the first call.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from . import _checks, _firing, engine, spike_storage, surrogate, units
from ._node import Node, brief
from .build.locks import lock_of_process
from .engine import Parameter, State

if TYPE_CHECKING:
    from .codegen import NeuronTrace, Outside

Step = Callable[..., tuple[Tensor, ...]]
_numbers = itertools.count()
_lock = lock_of_process()


class CompiledNode(Node):
    """Base of the classes that :func:`compile_neuron` makes.

    Calls take x [B, ...], or [T, B, ...] in step mode "m", and give the step's output in the shape,
    dtype and memory layout of x: a tensor, or a tuple of them if the step has several outputs.
    """

    step: ClassVar[Step]
    arguments: ClassVar[inspect.Signature]
    key: ClassVar[str]
    outside: ClassVar[Outside]
    states: ClassVar[dict[str, State | str]]
    defaults: ClassVar[dict[str, Any]]
    learnable: ClassVar[tuple[str, ...]]
    limits: ClassVar[dict[str, dict[str, Any]]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        given = self.arguments.bind(*args, **kwargs)
        given.apply_defaults()
        values = dict(given.arguments)
        super().__init__(**{name: values.pop(name) for name in _SHARED})
        for name, value in values.items():
            self._set_value(name, value)
        for name in self.states:
            self.register_memory(name, 0.0)
        self.reset()

    def _set_value(self, name: str, value: Any) -> None:
        if _is_option(value):
            setattr(self, name, value)
        elif name in self.learnable and not isinstance(value, nn.Parameter):
            if not isinstance(value, Tensor):
                value = torch.tensor(_checks.number(name, value, **self.limits.get(name, {})))
            self.register_parameter(name, nn.Parameter(value.detach().clone()))
        else:
            self._set_parameter(name, value, **self.limits.get(name, {}))

    def reset(self) -> None:
        """Back to the initial state; clears ``v_seq`` and the monitor."""
        super().reset()
        for name, value in self.states.items():
            setattr(self, name, self._initial_number(value))

    def _initial_number(self, value: State | str) -> float | None:
        """A state before the first call; None stands for a tensor."""
        if isinstance(value, str):
            value = getattr(self, value)
        if value is None:
            return 0.0
        return None if isinstance(value, Tensor) else float(value)

    def _values(self, x_seq: Tensor) -> dict[str, Any]:
        """What the step is called with besides x and the states: parameters and options."""
        return {name: getattr(self, name) for name in self.defaults}

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The step's output for one step of ``x``, or for all of them.

        Raises:
            TypeError: if ``x`` is not a floating-point tensor.
            ValueError: if its rank, device or shape does not fit.
        """
        x_seq = self._sequence_of(x)
        values = self._values(x_seq)
        options = tuple((name, value) for name, value in values.items() if _is_option(value))
        given = {name: value for name, value in values.items() if not _is_option(value)}
        before = self._before(x_seq, given)
        plan = engine.planned(
            (type(self), _key(type(self)), x_seq.device.type, self.backend, options, tuple(given)),
            (*engine.numbers_of(before), *given.values()),
            self._surrogate,
            lambda: self._plan(x_seq, options, given, before),
        )
        store = self.store_v_seq and self.step_mode == "m"
        if plan.settings is not None:
            out, v_seq, after = engine.scan(
                plan.kernel, x_seq, before, plan.values, plan.settings, store
            )
        else:
            out, v_seq, after = self._run_steps(x_seq, before, plan.params, dict(options), store)
        self._mark_spikes(out, options)
        if store:
            self.v_seq = v_seq
        if self.monitor_state:
            self._monitor(x_seq, before, plan.params, dict(options))
        for name, value in zip(self.states, after, strict=True):
            self._put(name, value)
        if self.step_mode == "s":
            out = tuple(o.squeeze(0) for o in out)
        return out[0] if len(out) == 1 else out

    def _plan(
        self,
        x_seq: Tensor,
        options: units.Options,
        given: Mapping[str, Parameter],
        before: Sequence[State],
    ) -> engine.Plan:
        params = engine.checked_parameters(given, x_seq, self.limits)
        values = list(params.values())
        tables = tuple(isinstance(p, Tensor) for p in values)
        kernel = self._kernel(options, tables, x_seq.device.type)
        settings = None
        if kernel[0] != "torch":
            function = self._surrogate
            assert isinstance(function, surrogate.SurrogateFunction)
            settings = engine.new_settings(kernel, before, values, function, x_seq.device.type)
        return engine.Plan(kernel, params, values, settings)

    def _before(self, x_seq: Tensor, given: Mapping[str, Parameter]) -> tuple[State, ...]:
        """The states before the first step."""
        states = {name: getattr(self, name) for name in self.states}
        unset = [name for name, value in states.items() if value is None]
        if unset:
            params = engine.checked_parameters(given, x_seq, self.limits)
            states.update({name: self._start(name, params, x_seq) for name in unset})
        return engine.checked_states(tuple(states), tuple(states.values()), x_seq)

    def _start(self, name: str, params: Mapping[str, Parameter], x_seq: Tensor) -> State:
        """What a state starts from that is no number."""
        shape, wide = x_seq.shape[1:], _checks.compute_dtype(x_seq.dtype)
        source = self.states[name]
        if isinstance(source, str):
            start = params.get(source, 0.0)  # set since the last reset, it is no tensor
            return start.expand(shape) if isinstance(start, Tensor) else start
        assert isinstance(source, Tensor)
        return _checks.broadcast(name, source.to(x_seq.device, wide), shape).expand(shape)

    def _kernel(
        self, options: units.Options, tables: tuple[bool, ...], device_type: str
    ) -> units.Kernel:
        function = self._surrogate
        if self.backend == "torch" or not engine.has_kernel(function, self.backend):
            return units.NO_KERNEL
        return units.kernel_for(
            _key(type(self)),
            options,
            tables,
            function.key,
            function.spiking,
            self.backend,
            device_type,
        )

    def _mark_spikes(self, out: Sequence[Tensor], options: units.Options) -> None:
        """Mark the outputs if all are spikes: they share a memory, and the mark is the memory's."""
        if not spike_storage.is_marking() or not engine.gives_spikes(self.surrogate_function):
            return
        from .codegen import StepError

        try:
            outputs = self._trace(options).outputs
        except StepError:  # the step runs in PyTorch then
            return
        if all(getattr(o, "op", "") == "spike" for o in outputs):
            for spikes in out:
                spike_storage.mark(spikes)

    def _run_steps(
        self,
        x_seq: Tensor,
        before: Sequence[State],
        params: Mapping[str, Parameter],
        options: Mapping[str, Any],
        store: bool,
    ) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
        """The step function itself, once for each step."""
        rows, seen = [], []
        wide = x_seq.to(_checks.compute_dtype(x_seq.dtype))
        states = tuple(_full(s, wide) for s in before)
        tensors = engine.on_device(dict(params), x_seq)
        with _firing.with_surrogate(self.surrogate_function):
            for x in wide:
                out, states = self._step(x, states, {**tensors, **options})
                rows.append(out)
                seen.append(states[0])
        outputs = len(rows[0]) if rows else self._output_count(options)
        stacked = tuple(_stack([row[k] for row in rows], x_seq) for k in range(outputs))
        return stacked, _stack(seen, x_seq) if store else None, states

    def _step(
        self, x: Tensor, states: tuple[Tensor, ...], values: Mapping[str, Any]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        results = type(self).step(x, *states, **values)
        split = len(results) - len(states)
        results = tuple(r.expand(x.shape) for r in results)
        return results[:split], results[split:]

    @torch.no_grad()
    def _monitor(
        self,
        x_seq: Tensor,
        states: Sequence[State],
        params: Mapping[str, Parameter],
        options: Mapping[str, Any],
    ) -> None:
        """Run the steps in PyTorch and record what they give."""
        wide = x_seq.to(_checks.compute_dtype(x_seq.dtype))
        tensors = engine.on_device(dict(params), x_seq)
        now = tuple(_full(s, wide) for s in states)
        with _firing.with_surrogate(self.surrogate_function):
            for x in wide:
                out, now = self._step(x, now, {**tensors, **options})
                for name, value in zip(self.monitored, (*now, *out), strict=False):
                    self._record(name, value)

    def _output_count(self, options: Mapping[str, Any]) -> int:
        return len(self._trace(tuple(options.items())).outputs)

    def source(self) -> str:
        """The C++ header that the node's kernels are compiled from.

        Raises:
            snnkernels.StepError: the step cannot be compiled; the message gives the line.
        """
        values = {name: getattr(self, name) for name in self.defaults}
        options = tuple((n, v) for n, v in values.items() if _is_option(v))
        function = self.surrogate_function
        key = function.key if engine.has_kernel(function, "native") else ""
        return units.printed(units.Request(_key(type(self)), options, (), key, True)).header

    @classmethod
    @cache
    def _trace(cls, options: units.Options) -> NeuronTrace:
        from . import codegen

        fixed = dict(options)
        params = [name for name in cls.defaults if name not in fixed]
        return codegen.trace_neuron(cls.step, tuple(cls.states), params, fixed)

    @classmethod
    def _describe(cls, options: units.Options) -> tuple[str, str, str, int, bool]:
        from . import codegen

        trace = cls._trace(options)
        name = codegen.identifier(cls.__name__.removesuffix("Node"))
        struct = codegen.print_neuron(name, trace)
        neuron = f"WithoutOptions<printed::{name}>"
        return name.strip("_"), struct, neuron, len(trace.outputs), trace.spikes

    def extra_repr(self) -> str:
        names = (*self.defaults, "step_mode", "backend")
        return ", ".join(f"{name}={brief(getattr(self, name))}" for name in names)


def _key(cls: type[CompiledNode]) -> str:
    """What kernels know a neuron by: another one where the step now reads other values."""
    if cls.outside.has_changed:
        with _lock:
            if cls.outside.has_changed:
                cls._trace.__func__.cache_clear()  # type: ignore[attr-defined]
                units.forget_neuron(cls.key)
                _know(cls)
    return cls.key


# As units.kernel_for: torch.compile evaluates it at trace time.
_key._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _know(cls: type[CompiledNode]) -> None:
    from .codegen import Outside

    outside, key = Outside(cls.step), f"{cls.__name__}#{next(_numbers)}"
    units.register_neuron(key, cls._describe)
    cls.key, cls.outside = key, outside  # in this order: another thread asks the one for the other


_SHARED: dict[str, Any] = {
    "surrogate_function": None,
    "step_mode": "s",
    "backend": "auto",
    "store_v_seq": False,
    "monitor_state": False,
}
"""The arguments that all nodes have, with their defaults."""


def compile_neuron(
    step: Step,
    states: Mapping[str, State | str],
    params: Mapping[str, Any] | None = None,
    learnable: Sequence[str] = (),
    *,
    name: str | None = None,
    limits: Mapping[str, Mapping[str, float]] | None = None,
) -> type[CompiledNode]:
    """Make a neuron module of one step, written in PyTorch.

    The step is traced now, on single numbers, so that what cannot be compiled is refused here; the
    kernels for its forward and backward are compiled at the first call, once per surrogate and
    device, and kept in the cache.

    Args:
        step: ``step(x, *states, **params) -> (*outputs, *next_states)``, in operations on one
            element at a time: + - * /, neg, abs, exp, log, sqrt, pow, sigmoid, tanh, relu,
            softplus, clamp, minimum, maximum, floor, ceil, round, sign, erf, sin, cos, comparisons,
            logical operations, where, detach, and :func:`snnkernels.spike`.
        states: the carried states by name, in the step's order, and what they start from: a number,
            a tensor that broadcasts over [B, ...], or the name of a parameter. ``store_v_seq``
            keeps the first one.
        params: the parameters by name, with defaults: numbers or tensors. A node takes a number, a
            tensor of one value per channel [C], or one that broadcasts over [B, ...]. What is True,
            False, None or a string is an option: the step may branch on it in Python.
        learnable: the parameters that a node makes an ``nn.Parameter`` of.
        name: the class's name; None for that of the step, in capitals and with "Node" behind it.
            Nodes can be pickled if it is the name of the module's variable that holds the class.
        limits: by parameter, what a number must keep to: ``{"tau": {"minimum": 1}}``, with
            "minimum", "maximum", "above" and, for whole numbers, ``"whole": True``.

    Returns:
        A subclass of ``nn.Module``. Its arguments are ``params`` by position or name, then
        ``surrogate_function``, ``step_mode``, ``backend``, ``store_v_seq`` and ``monitor_state``,
        which are those of :class:`snnkernels.neuron.BaseNode`.

    Raises:
        snnkernels.StepError: the step cannot be compiled; the message gives the line that is to
            blame and what to do instead.
        TypeError, ValueError: an argument is not as above.
    """
    _check_function(step)
    if name is None:
        name = "".join(part.capitalize() for part in step.__name__.split("_")) + "Node"
    cls = define_neuron(step, states, params or {}, learnable, name, limits or {})
    cls._trace(tuple((n, v) for n, v in cls.defaults.items() if _is_option(v)))
    return cls


def define_neuron(
    step: Step,
    states: Mapping[str, State | str],
    params: Mapping[str, Any],
    learnable: Sequence[str],
    name: str,
    limits: Mapping[str, Mapping[str, float]],
) -> type[CompiledNode]:
    """:func:`compile_neuron` without the trace, which is then made at the first call."""
    for argument, given in (("states", states), ("params", params), ("limits", limits)):
        if not isinstance(given, Mapping):
            raise TypeError(f"{argument} must be a mapping by name, got {_checks.describe(given)}")
    params = dict(params)
    _check_definition(step, states, params, learnable)
    _check_limits(limits, params)
    arguments = {**params, **_SHARED}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature(
        [inspect.Parameter(n, kind, default=d) for n, d in arguments.items()]
    )
    cls: type[CompiledNode] = type(
        name,
        (CompiledNode,),
        {
            "__doc__": step.__doc__,
            "__module__": step.__module__,
            "__signature__": signature,
            "arguments": signature,
            "step": staticmethod(step),
            "states": dict(states),
            "defaults": params,
            "learnable": tuple(learnable),
            "limits": {n: dict(limit) for n, limit in limits.items()},
            "monitored": tuple(dict.fromkeys((*states, "s"))),
        },
    )
    _know(cls)
    return cls


_TAKEN = {*_SHARED, *CompiledNode.__annotations__, "monitor", "v_seq", "training"}
_LIMITS = ("minimum", "maximum", "above", "whole")
_MAX_STATES = 8
_MAX_PARAMS = 16


def _check_function(step: object) -> None:
    if not inspect.isfunction(step):
        raise TypeError(
            f"step must be a function made by def or lambda, got {_checks.describe(step)}; "
            "write one that calls it: def step(x, v): return given(x, v)"
        )


def _check_definition(
    step: Step,
    states: Mapping[str, State | str],
    params: Mapping[str, Any],
    learnable: Sequence[str],
) -> None:
    if not 1 <= len(states) <= _MAX_STATES:
        raise ValueError(f"states must name 1 to {_MAX_STATES} states, got {len(states)}")
    if len(params) > _MAX_PARAMS:
        raise ValueError(f"params must name at most {_MAX_PARAMS} parameters, got {len(params)}")
    accepted = list(inspect.signature(step).parameters)[1:]
    for kind, names in (("states", states), ("params", params)):
        for name in names:
            if name not in accepted:
                raise ValueError(
                    f"{kind} names {name!r}, which {step.__name__}() does not take; "
                    f"it takes {', '.join(accepted)} behind the input"
                )
            if name in _TAKEN or hasattr(CompiledNode, name):
                raise ValueError(f"{kind} must not use the name {name!r}, which every node has")
    if accepted[: len(states)] != list(states):
        raise ValueError(
            f"states must be in the order of {step.__name__}()'s arguments behind the input, "
            f"{', '.join(accepted[: len(states)])}; got {', '.join(states)}"
        )
    for name in learnable:
        if name not in params:
            raise ValueError(f"learnable names {name!r}, which is not among params")
    for name, value in states.items():
        if isinstance(value, str) and value not in params:
            raise ValueError(f"states: {name} starts from {value!r}, which is not among params")
        if not isinstance(value, (str, Tensor)):
            _checks.number(f"states: {name}", value)
    for name, value in params.items():
        if not isinstance(value, Tensor) and not _is_option(value):
            _checks.number(f"params: {name}", value)


def _check_limits(limits: Mapping[str, Mapping[str, float]], params: Mapping[str, Any]) -> None:
    for name, limit in limits.items():
        if name not in params:
            raise ValueError(f"limits names {name!r}, which is not among params")
        if not isinstance(limit, Mapping):
            raise TypeError(
                f'limits: {name} must be a mapping such as {{"minimum": 1}}, '
                f"got {_checks.describe(limit)}"
            )
        for kind, value in limit.items():
            _checks.choice(f"limits: what {name} is limited by", kind, _LIMITS)
            if kind == "whole":
                _checks.boolean(f"limits: whole of {name}", value)
            elif not _checks.is_number(value):
                raise TypeError(
                    f"limits: {kind} of {name} must be a number, got {_checks.describe(value)}"
                )


def _is_option(value: object) -> bool:
    return value is None or isinstance(value, (bool, str))


def _full(state: State, x_seq: Tensor) -> Tensor:
    if isinstance(state, Tensor):
        return state
    return torch.full(x_seq.shape[1:], state, dtype=x_seq.dtype, device=x_seq.device)


def _stack(steps: Sequence[Tensor], x_seq: Tensor) -> Tensor:
    return torch.stack(list(steps)).to(x_seq.dtype) if steps else x_seq.clone()
