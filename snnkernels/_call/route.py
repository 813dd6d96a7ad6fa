"""Whether a kernel or the step itself runs a call, and with what; remembered."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from .._backends import kernels, operators
from .._build import NeuronSource
from . import by_kernel
from .arguments import ONLY_FLOATS
from .call import Call
from .equations import Equations, Parameter, current_key
from .surrogates import check_surrogate, has_kernel, is_declared


class Route(NamedTuple):
    """How a call runs.

    Attributes:
        params: the checked parameters by name.
        namespace: where ``torch.ops`` has the operators that run it; "" if the step itself runs.
        values: the parameters in the kernel's order; none if the step itself runs.
        attributes: what the operators take; None if the step itself runs.
    """

    params: dict[str, Parameter]
    namespace: str
    values: Sequence[Parameter]
    attributes: operators.Attributes | None


_MOST_REMEMBERED = 4096
_routes: dict[tuple[object, ...], Route] = {}


def route_of(call: Call) -> Route:
    """The route of a call, remembered where it depends on names and numbers alone.

    To check and arrange the arguments of a small layer takes longer than to run it.
    """
    neuron = current_key(call.equations.id)
    function, key = call.surrogate_function, None
    lasts = not call.equations.derived and not torch.compiler.is_compiling()
    if lasts and is_declared(function):
        numbers = (*by_kernel.numbers_of(call.states), *call.given.values(), *function.values)
        if ONLY_FLOATS.issuperset(map(type, numbers)):
            packed = struct.pack(f"{len(numbers)}d", *numbers)  # for 0.0 == -0.0
            device = call.x_seq.device.type
            place = device, call.backend, kernels.are_specialized(device)
            key = neuron, place, call.options, function.key, function.spiking, packed
            route = _routes.get(key)
            if route is not None:
                return route
    route = _route(call, neuron)
    if key is not None:
        if len(_routes) >= _MOST_REMEMBERED:
            _routes.clear()
        _routes[key] = route
    return route


def _route(call: Call, neuron: str) -> Route:
    equations, x_seq, function = call.equations, call.x_seq, call.surrogate_function
    check_surrogate(function)
    params = call.parameters()
    if not has_kernel(function, call.backend):
        return Route(params, "", (), None)
    values = _in_order(equations, params)
    specialized = kernels.are_specialized(x_seq.device.type)
    request = _request(call, neuron, values, specialized)
    kernel = kernels.kernel_for(*request, call.backend, x_seq.device.type)
    if kernel == kernels.NO_KERNEL:
        return Route(params, "", (), None)
    options = {} if equations.kernel is None else dict(call.options)
    attributes = by_kernel.new_attributes(
        kernel,
        call.states,
        values,
        function,
        x_seq.device.type,
        hard_reset=equations.kernel is not None and "v_reset" in params,
        detach_reset=options.get("detach_reset", False),
        decay_input=options.get("decay_input", False),
    )
    return Route(params, kernel[0], values, attributes)


def _in_order(equations: Equations, params: Mapping[str, Parameter]) -> list[Parameter]:
    """Parameters as kernels take them: those of the library always have a v_reset."""
    values = list(params.values())
    if equations.kernel is not None and "v_reset" not in params:
        values.append(0.0)
    return values


def _request(
    call: Call, neuron: str, values: Sequence[Parameter], specialized: bool
) -> kernels.Request:
    function: Any = call.surrogate_function
    forms = kernels.forms_of(values, specialized)
    return kernels.Request(neuron, call.options, forms, function.key, function.spiking, specialized)


def specialized_source(call: Call) -> NeuronSource:
    """What is compiled for a call on a device whose kernels serve one configuration each.

    Raises:
        snnkernels.StepError: the step cannot be compiled.
        TypeError, ValueError: naming the argument that does not fit.
    """
    values = _in_order(call.equations, call.parameters())
    request = _request(call, current_key(call.equations.id), values, specialized=True)
    return kernels.neuron_source(request)
