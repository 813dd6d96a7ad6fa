"""The kernel for a configuration: one of the library's, or one that is compiled for it alone.

The library holds the neurons of ``registry.h`` with the surrogates there. Every other pair, either
or both printed, becomes a compiled neuron, which the backend's operators take in by name and from
then on run as one of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, cast

from .. import _codegen, surrogate
from .._build import BuildError, NeuronSource
from .._build.specification import DeviceType
from .._codegen import StepError
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
        outputs: how many it has.
        spikes: whether it asks the surrogate for anything.
    """

    title: str
    struct: str
    type: str
    outputs: int
    spikes: bool


Describe = Callable[[Options], Description]

Kernel = tuple[str, int, int]
"""The namespace of the operators that run it, their number for it, how many outputs it has."""

NO_KERNEL: Kernel = ("", 0, 0)

_MOST_REMEMBERED = 1024  # surrogates may be made anew for every call

_neurons: dict[str, tuple[Describe, str | None]] = {}

_NO_SURROGATE = "Sigmoid", True  # for neurons that do not spike: one kernel for all surrogates

_SURROGATES = "printed_surrogates"  # a namespace of their own: a step may be called as one of them


def register_neuron(key: str, describe: Describe, kernel: str | None = None) -> None:
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


@dataclass(frozen=True)
class Request:
    """What a call needs kernels for.

    Attributes:
        neuron: a key of ``register_neuron``.
        options: the neuron's options.
        tables: for each of its parameters, whether it is a tensor.
        surrogate: the ``key`` of the surrogate's class.
        spiking: whether it gives spikes rather than the primitive.
    """

    neuron: str
    options: Options
    tables: tuple[bool, ...]
    surrogate: str
    spiking: bool


def neuron_source(request: Request) -> NeuronSource:
    """What is compiled for a request.

    Raises:
        snnkernels.StepError: the step or the surrogate cannot be compiled.
    """
    describe, _ = _neurons[request.neuron]
    neuron = describe(request.options)
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
        neuron.outputs,
        sum(table << k for k, table in enumerate(request.tables)),
    )


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


_kernels: dict[tuple[Any, ...], Kernel | Exception] = {}


@constant_when_compiled
def kernel_for(
    neuron: str,
    options: Options,
    tables: tuple[bool, ...],
    surrogate_key: str,
    spiking: bool,
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
    key = (neuron, options, tables, surrogate_key, spiking, backend_name, device_type)
    found = _kernels.get(key)
    if found is None:
        request = Request(neuron, options, tables, surrogate_key, spiking)
        found = _kernel(request, backend_name, device_type)
        if len(_kernels) >= _MOST_REMEMBERED:
            _kernels.clear()
        _kernels[key] = found
    if isinstance(found, Exception):
        raise found.with_traceback(None)
    return found


def _kernel(request: Request, backend_name: str, device_type: str) -> Kernel | Exception:
    backend = selection.chosen(backend_name, device_type)
    if not isinstance(backend, KernelBackend):
        return NO_KERNEL
    _, of_library = _neurons[request.neuron]
    if of_library is not None and request.surrogate in surrogate.BUILT_IN.values():
        return backend.namespace, headers.NUMBERS[of_library], 1
    try:
        source = neuron_source(request)
        backend.add_compiled_neuron(cast("DeviceType", device_type), source)
    except (BuildError, StepError) as error:
        if backend_name != "auto":
            return error
        selection.warn_once(str(error))
        return NO_KERNEL
    return backend.namespace, headers.number(source.name), source.outputs
