"""Whether a kernel or the step itself runs a call, and with what; remembered."""

from __future__ import annotations

import struct
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch

from .._backends import kernels, operators
from .._build import NeuronSource
from .._core.remembered import remember
from ..surrogate import SurrogateFunction
from . import by_kernel
from .arguments import ONLY_FLOATS
from .call import Call
from .equations import Equations, Parameter, current_key
from .surrogates import check_surrogate, has_kernel, is_declared


class Route(NamedTuple):
    """How a call runs.

    Attributes:
        options: the neuron's parameters that are options.
        params: the others, checked, by name.
        values: the same in the kernel's order; none if the step itself runs.
        plan: what runs them; None for the step itself.
        lasts: whether every call with the same numbers takes it.
    """

    options: kernels.Options
    params: dict[str, Parameter]
    values: Sequence[Parameter]
    plan: operators.Plan | None
    lasts: bool = False


_MOST_REMEMBERED = 4096
_routes: dict[Hashable, Route] = {}
_plans: dict[Hashable, operators.Plan | None] = {}
"""None: the step itself runs."""


def route_of(call: Call) -> Route:
    """The route of a call, remembered where it depends on names and numbers alone.

    To check and arrange the arguments of a small layer takes longer than to run it.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    options, given = call.split()
    key = _key(call, options, given)
    if key is None:
        return _route(call, options, given)
    route = _routes.get(key)
    if route is None:
        route = _route(call, options, given)._replace(lasts=True)
        remember(_routes, key, route, _MOST_REMEMBERED)
    return route


def _key(
    call: Call, options: kernels.Options, given: Mapping[str, Any]
) -> tuple[object, ...] | None:
    """What the route of a call depends on; None if there are tensors in it."""
    function = call.surrogate_function
    lasts = not call.equations.derived and not torch.compiler.is_compiling()
    if not lasts or not is_declared(function):
        return None
    numbers = (*by_kernel.numbers_of(call.states), *given.values(), *function.values)
    if not ONLY_FLOATS.issuperset(map(type, numbers)):
        return None
    device = call.x_seq.device.type
    return (
        current_key(call.equations.id),
        device,
        call.backend,
        kernels.are_specialized(device),
        options,
        function.kernel_key,
        function.spiking,
        _packed(numbers),
    )


def _packed(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"{len(numbers)}d", *numbers)  # for 0.0 == -0.0


def _route(call: Call, options: kernels.Options, given: Mapping[str, Any]) -> Route:
    check_surrogate(call.surrogate_function)
    params = call.checked(given)
    if not has_kernel(call.surrogate_function, call.backend):
        return Route(options, params, (), None)
    values = _in_order(call.equations, params)
    plan = _plan(call, options, params, values)
    return Route(options, params, () if plan is None else values, plan)


def _plan(
    call: Call,
    options: kernels.Options,
    params: Mapping[str, Parameter],
    values: Sequence[Parameter],
) -> operators.Plan | None:
    """What runs a call on a kernel, remembered by its numbers and the forms of its tensors."""
    device, function = call.x_seq.device.type, cast("SurrogateFunction", call.surrogate_function)
    request = _request(call, options, values, kernels.are_specialized(device))
    if torch.compiler.is_compiling():
        return _new_plan(call, request, params, values)
    numbers = *by_kernel.numbers_of(call.states), *by_kernel.numbers_of(values), *function.values
    key = request, call.backend, device, _packed(numbers)
    if key in _plans:
        return _plans[key]
    return remember(_plans, key, _new_plan(call, request, params, values), _MOST_REMEMBERED)


def _new_plan(
    call: Call,
    request: kernels.Request,
    params: Mapping[str, Parameter],
    values: Sequence[Parameter],
) -> operators.Plan | None:
    device, of_library = call.x_seq.device.type, call.equations.kernel is not None
    kernel = kernels.kernel_for(*request, call.backend, device)
    if kernel == kernels.NO_KERNEL:
        return None
    fixed = dict(request.options) if of_library else {}
    return by_kernel.new_plan(
        kernel,
        call.states,
        values,
        cast("SurrogateFunction", call.surrogate_function),
        device,
        hard_reset=of_library and "v_reset" in params,
        detach_reset=fixed.get("detach_reset", False),
        decay_input=fixed.get("decay_input", False),
    )


def _in_order(equations: Equations, params: Mapping[str, Parameter]) -> list[Parameter]:
    """Parameters as kernels take them: those of the library always have a v_reset."""
    values = list(params.values())
    if equations.kernel is not None and "v_reset" not in params:
        values.append(0.0)
    return values


def _request(
    call: Call, options: kernels.Options, values: Sequence[Parameter], specialized: bool
) -> kernels.Request:
    neuron, forms = current_key(call.equations.id), kernels.forms_of(values, specialized)
    function = cast("SurrogateFunction", call.surrogate_function)
    return kernels.Request(
        neuron, options, forms, function.kernel_key, function.spiking, specialized
    )


def specialized_source(call: Call) -> NeuronSource:
    """What is compiled for a call on a device whose kernels serve one configuration each.

    Raises:
        snnkernels.StepError: the step cannot be compiled.
        TypeError, ValueError: naming the argument that does not fit.
    """
    options, given = call.split()
    values = _in_order(call.equations, call.checked(given))
    request = _request(call, options, values, specialized=True)
    return kernels.neuron_source(request)
