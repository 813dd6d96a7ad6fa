"""The kernel for a configuration: one of the library's, or one that is compiled for it alone.

The library holds the neurons of ``registry.h`` with the surrogates there. Every other pair, either
or both printed, becomes a compiled neuron, which the backend's operators take in by name and from
then on run as one of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from .. import _codegen, surrogate
from .._build import BuildError, NeuronSource
from .._build.specification import DeviceType
from .._codegen import StepError
from .._core.remembered import remember
from .._core.torch_private import constant_when_compiled
from ..surrogate.base import CLASSES
from . import headers, selection
from .base import KernelBackend

Options = tuple[tuple[str, Any], ...]
"""A neuron's options by name: what is True, False, None or a string."""


class Description(NamedTuple):
    """A neuron with its options in C++.

    Attributes:
        title: its name.
        struct: its definition, or "" where the library's headers have it.
        type: the C++ type of that.
        states: how many it has.
        outputs: how many.
        spikes: whether it asks the surrogate for anything.
    """

    title: str
    struct: str
    type: str
    states: int
    outputs: int
    spikes: bool


Form = Literal["number", "zero", "power of two", "table", "shared table"]
"""What is known of a parameter before its value: a tensor is a table, shared if it has one value.
Zero is +0.0, and a power of two one whose inverse is one too."""

SPECIALIZED: set[str] = {"cuda"}
"""The device types whose kernels are compiled for one configuration each."""


def are_specialized(device_type: str) -> bool:
    """Whether a call on a device gets kernels for its configuration alone.

    What is exported or traced keeps to the library's, which another process has too.
    """
    leaves = torch.compiler.is_exporting() or torch.jit.is_tracing()
    return device_type in SPECIALIZED and not leaves


def forms_of(values: Sequence[float | Tensor], specialized: bool) -> tuple[Form, ...]:
    """The forms of parameters, as far as kernels are compiled for them."""
    form = _form if specialized else _number_or_table
    return tuple([form(value) for value in values])


def _number_or_table(value: float | Tensor) -> Form:
    return "table" if isinstance(value, Tensor) else "number"


_HIGHEST_POWER = 2.0**100


def _form(value: float | Tensor) -> Form:
    if isinstance(value, Tensor):
        return "shared table" if value.numel() == 1 else "table"
    if value == 0:
        return "zero" if math.copysign(1.0, value) > 0 else "number"
    if math.frexp(value)[0] == 0.5 and 1 / _HIGHEST_POWER <= value <= _HIGHEST_POWER:
        return "power of two"
    return "number"


Kernel = tuple[str, int, int]
"""The namespace of the operators that run it, their number for it, how many outputs it has."""

NO_KERNEL: Kernel = ("", 0, 0)

_MOST_REMEMBERED = 1024  # surrogates may be made anew for every call

_neurons: dict[str, tuple[Callable[[Request], Description], str | None]] = {}

_NO_SURROGATE = "Sigmoid", True  # for neurons that do not spike: one kernel for all surrogates

_SURROGATES = "printed_surrogates"  # a namespace of their own: a step may be called as one of them


def register_neuron(
    key: str, describe: Callable[[Request], Description], kernel: str | None = None
) -> None:
    """Let `key` stand for a neuron in ``kernel_for``.

    Args:
        key: any string.
        describe: what is compiled for it.
        kernel: its name in ``registry.h``, if the library has it with the surrogates there.
    """
    _neurons[key] = describe, kernel


def forget_neuron(key: str) -> None:
    """Undo ``register_neuron``; what was compiled stays."""
    _neurons.pop(key, None)


class Request(NamedTuple):
    """What a call needs kernels for.

    Attributes:
        neuron: a key of ``register_neuron``.
        options: the neuron's options.
        forms: of each of its parameters.
        surrogate: the ``key`` of the surrogate's class.
        spiking: whether it gives spikes rather than the primitive.
        specialized: whether the kernels are for these options alone.
    """

    neuron: str
    options: Options
    forms: tuple[Form, ...]
    surrogate: str
    spiking: bool
    specialized: bool


def neuron_source(request: Request) -> NeuronSource:
    """What is compiled for a request.

    Raises:
        snnkernels.StepError: the step or the surrogate cannot be compiled.
    """
    describe, _ = _neurons[request.neuron]
    neuron = describe(request)
    wanted = request.surrogate, request.spiking
    surrogate_key, spiking = wanted if neuron.spikes else _NO_SURROGATE
    surrogate_struct, surrogate_type = _surrogate_code(surrogate_key)
    lines = ["#pragma once", "", '#include "snnkernels/fire.h"', ""]
    for namespace, code in ((_SURROGATES, surrogate_struct), ("printed", neuron.struct)):
        if code:
            lines += [f"namespace snn::{namespace} {{", "", code, f"}}  // snn::{namespace}", ""]
    return NeuronSource(
        neuron.title,
        "\n".join(lines),
        neuron.type,
        f"{'Spiking' if spiking else 'Smooth'}<{surrogate_type}>",
        neuron.states,
        len(request.forms),
        neuron.outputs,
        _mask(request.forms, "table"),
        _mask(request.forms, "shared table"),
    )


def _mask(forms: Sequence[Form], wanted: Form) -> int:
    return sum(1 << k for k, form in enumerate(forms) if form == wanted)


@lru_cache(maxsize=_MOST_REMEMBERED)
def _surrogate_code(key: str) -> tuple[str, str]:
    """A surrogate's printed struct (empty for those of ``registry.h``) and its C++ type."""
    if key in surrogate.BUILT_IN.values():
        return "", key
    cls = CLASSES[key]
    name, trace = _codegen.identifier(cls.__name__), cls.traced()
    printed_type = f"{_SURROGATES}::{name}"
    if trace.has_poles:
        printed_type = f"WithPoles<{printed_type}>"
    return _codegen.print_surrogate(name, trace), printed_type


_kernels: dict[Hashable, Kernel | Exception] = {}


@constant_when_compiled
def kernel_for(
    neuron: str,
    options: Options,
    forms: tuple[Form, ...],
    surrogate_key: str,
    spiking: bool,
    specialized: bool,
    backend_name: str,
    device_type: str,
) -> Kernel:
    """The kernel for a ``Request``, built and loaded if need be.

    It is ``NO_KERNEL`` where the plain-PyTorch step is to run, after one warning that says why if
    the backend was "auto".

    Raises:
        snnkernels.BuildError: the backend was asked for by name and cannot be had.
        snnkernels.StepError: it was asked for by name, and the functions cannot be compiled.
    """
    request = Request(neuron, options, forms, surrogate_key, spiking, specialized)
    key = (request, backend_name, device_type)
    found = _kernels.get(key)
    if found is None:
        found = remember(
            _kernels, key, _kernel(request, backend_name, device_type), _MOST_REMEMBERED
        )
    if isinstance(found, Exception):
        raise found.with_traceback(None)
    return found


def _kernel(request: Request, backend_name: str, device_type: str) -> Kernel | Exception:
    backend = selection.chosen(backend_name, device_type)
    if not isinstance(backend, KernelBackend):
        return NO_KERNEL
    _, of_library = _neurons[request.neuron]
    if request.surrogate not in surrogate.BUILT_IN.values():
        of_library = None
    if of_library is not None and not request.specialized:
        return backend.namespace, headers.NUMBERS[of_library], 1
    try:
        source = neuron_source(request)
        spare = of_library is not None
        backend.add_compiled_neuron(cast("DeviceType", device_type), source, spare=spare)
    except (BuildError, StepError) as error:
        if of_library is not None:
            selection.warn_once(str(error), "the library's general kernels")
            return backend.namespace, headers.NUMBERS[of_library], 1
        if backend_name != "auto":
            return error
        selection.warn_once(str(error))
        return NO_KERNEL
    return backend.namespace, headers.number(source.name), source.outputs
