"""What a neuron is: one step in PyTorch, with its states and parameters.

Its module, its function and its kernels are made of this.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import Any

from torch import Tensor

from .. import _codegen
from .._backends import kernels
from .._build.locks import lock_of_process
from .._codegen import NeuronTrace, Outside, StepError
from .._core import checks
from .._core.firing import spike
from .._core.torch_private import constant_when_compiled

Parameter = float | Tensor
State = float | Tensor
Step = Callable[..., tuple[Tensor, ...]]
Charge = Callable[..., Any]

_numbers = itertools.count()
_known: dict[str, Equations] = {}
_lock = lock_of_process()


class Equations:
    """The equations of a neuron.

    Args:
        states: by name, in the step's order, what each starts from: a number, a tensor that
            broadcasts over [B, ...], or the name of a parameter.
        params: by name, with defaults. What is True, False, None or a string is an option, which
            the step may branch on.
        step: ``step(x, *states, **params) -> (*outputs, *next_states)``. It may be left out for
            that of a ``charge``; without either, modules compute their steps themselves.
        charge: ``charge(x, v, *other_states, **params) -> H``, or H with the other states behind.
            The step is this, spikes where H reaches ``v_threshold``, and a reset to ``v_reset``.
        limits: by parameter, what a number must keep to, as ``checks.number`` takes it.
        learnable: the parameters that modules make an ``nn.Parameter`` of.
        derived: by parameter, what step and kernels take in its place, and the function of it.
        may_be_none: where options are those alone whose default is True or False, which take no
            other values, the parameters that may be None. None: any parameter may be an option.
        last: the parameters that modules take behind ``surrogate_function``.
        kernel: the name of the library's kernels for it in ``registry.h``, which take the
            parameters that are no booleans in the order of ``params``; None if kernels are printed
            from the step.
    """

    def __init__(
        self,
        states: Mapping[str, State | str],
        params: Mapping[str, Any],
        *,
        step: Step | None = None,
        charge: Charge | None = None,
        limits: Mapping[str, Mapping[str, Any]] | None = None,
        learnable: Sequence[str] = (),
        derived: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] | None = None,
        may_be_none: Sequence[str] | None = None,
        last: Sequence[str] = (),
        kernel: str | None = None,
    ) -> None:
        self.name = ""
        self.charge = charge
        self.charge_takes = () if charge is None else _named(charge)
        self.step = step if charge is None else _charge_fire_reset(self, charge)
        self.states = dict(states)
        self.params = dict(params)
        self.limits = {n: dict(limit) for n, limit in (limits or {}).items()}
        self.learnable = tuple(learnable)
        self.derived = dict(derived or {})
        self.last = tuple(last)
        self.kernel = kernel
        self.booleans = tuple(n for n, default in params.items() if isinstance(default, bool))
        self.numbers = tuple(n for n in params if n not in self.booleans)
        self._may_be_none = may_be_none
        self._prepare()

    def _prepare(self) -> None:
        self._traces: dict[kernels.Options, NeuronTrace] = {}
        self.outside = None if self.step is None else Outside(self.step)
        self.id = str(next(_numbers))
        self.key = ""

    def __getstate__(self) -> dict[str, Any]:
        """What copies see, and pickles by value: nothing that this process knows it by."""
        of_process = ("_traces", "outside", "id", "key")
        return {name: value for name, value in vars(self).items() if name not in of_process}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._prepare()
        if self.name:
            self._register()

    states: dict[str, State | str]
    params: dict[str, Any]
    booleans: tuple[str, ...]
    """The parameters whose default is True or False."""
    numbers: tuple[str, ...]
    """The other parameters."""
    name: str
    """That of the class that it was first given to."""
    key: str
    """What kernels know it by."""
    outside: Outside | None

    def __set_name__(self, owner: type, name: str) -> None:
        if not self.name:
            self.name = owner.__name__
            self._register()

    def _register(self) -> None:
        _known[self.id] = self
        key = f"{self.name}#{next(_numbers)}"
        kernels.register_neuron(key, self._describe, self.kernel)
        self.key = key

    def _look_again(self) -> None:
        assert self.step is not None
        before, outside = self.key, Outside(self.step)
        self._traces.clear()
        self._register()
        self.outside = outside  # behind the key: other threads ask this one for that
        kernels.forget_neuron(before)

    def split(self, values: Mapping[str, Any]) -> tuple[kernels.Options, dict[str, Any]]:
        """Values of all parameters as options, and as those that are numbers or tensors.

        Raises:
            TypeError: naming a parameter that cannot be what it is.
        """
        options, given = [], {}
        if self._may_be_none is None:
            for name in self.params:
                value = values[name]
                if value is None or isinstance(value, (bool, str)):
                    options.append((name, value))
                else:
                    given[name] = value
            return tuple(options), given
        for name in self.booleans:
            value = values[name]
            if value is not True and value is not False:
                checks.boolean(name, value)
            options.append((name, value))
        for name in self.numbers:
            value = values[name]
            if value is not None:
                given[name] = value
            elif name in self._may_be_none:
                options.append((name, None))
            else:
                checks.number(name, None)
        return tuple(options), given

    def annotation(self, name: str) -> Any:
        """The type of a parameter, for signatures."""
        default = self.params[name]
        if isinstance(default, (bool, str)):
            return type(default)
        lenient = self._may_be_none is None or name in self._may_be_none
        return Parameter | None if lenient else Parameter

    def charged(
        self, x: Tensor, states: Sequence[Tensor], values: Mapping[str, Any]
    ) -> tuple[Tensor, ...]:
        """H, and the states behind the first after the step."""
        assert self.charge is not None
        given = {name: values[name] for name in self.charge_takes}
        found = self.charge(x, *states, **given)
        return found if isinstance(found, tuple) else (found,)

    def trace(self, options: kernels.Options) -> NeuronTrace:
        """What the step and its adjoint do to numbers.

        Raises:
            snnkernels.StepError: naming the line that cannot be compiled.
        """
        found = self._traces.get(options)
        if found is None:
            assert self.step is not None
            fixed = dict(options)
            params = [name for name in self.params if name not in fixed]
            found = _codegen.trace_neuron(self.step, tuple(self.states), params, fixed)
            self._traces[options] = found
        return found

    def output_count(self, options: kernels.Options) -> int:
        return 1 if self.charge is not None else len(self.trace(options).outputs)

    def fires_alone(self, options: kernels.Options) -> bool:
        """Whether all that it gives are spikes."""
        if self.charge is not None:
            return True
        try:
            outputs = self.trace(options).outputs
        except StepError:  # the step runs in PyTorch then
            return False
        return all(getattr(o, "op", "") == "spike" for o in outputs)

    def _describe(self, request: kernels.Request) -> kernels.Description:
        if self.kernel is not None:
            kind, states = self._kernel_type(request), len(self.states)
            return kernels.Description(self.kernel, "", kind, states, 1, True)
        trace = self.trace(request.options)
        name = _codegen.identifier(self.name.removesuffix("Node"))
        return kernels.Description(
            name.strip("_"),
            _codegen.print_neuron(name, trace),
            f"WithoutOptions<printed::{name}>",
            len(self.states),
            len(trace.outputs),
            trace.spikes,
        )

    def _kernel_type(self, request: kernels.Request) -> str:
        """The C++ type of a neuron that the library's headers have."""
        options, forms = dict(request.options), dict(zip(self.numbers, request.forms, strict=False))
        soft = options.get("v_reset", 0.0) is None
        zero = request.spiking and forms.get("v_reset") == "zero"
        neuron = f"{self.kernel}<{'Soft' if soft else 'Zero' if zero else 'Hard'}Reset>"
        if not request.specialized:
            return neuron
        fixed = (
            options.get("detach_reset", False),
            options.get("decay_input", False),
            forms.get("tau") == "power of two",
        )
        return f"WithOptions<{neuron}, {', '.join(str(value).lower() for value in fixed)}>"


def _charge_fire_reset(equations: Equations, charge: Charge) -> Step:
    def step(x: Tensor, *states: Tensor, **p: Any) -> tuple[Tensor, ...]:
        h, *others = equations.charged(x, states, p)
        s = spike(h - p["v_threshold"])
        return s, reset(h, s, p["v_threshold"], p["v_reset"], p["detach_reset"]), *others

    return update_wrapper(step, charge)


def _named(function: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that a function takes by name alone."""
    code = function.__code__
    return code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


@constant_when_compiled
def current_key(equations_id: str) -> str:
    """What kernels know equations by: by another name where the step now reads other values."""
    equations = _known[equations_id]
    if equations.outside is not None and equations.outside.has_changed:
        with _lock:
            if equations.outside.has_changed:
                equations._look_again()
    return equations.key


def reset(
    h: Tensor, s: Tensor, v_threshold: Tensor, v_reset: Tensor | None, detach_reset: bool
) -> Tensor:
    """V' = (1 - S) H + S v_reset (hard), or H - S v_threshold (soft, ``v_reset`` None)."""
    if detach_reset:
        s = s.detach()
    if v_reset is None:
        return h - s * v_threshold
    return (1 - s) * h + s * v_reset
