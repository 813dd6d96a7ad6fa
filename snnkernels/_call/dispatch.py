"""Run a call: everything that modules and functions of neurons offer passes through here."""

from __future__ import annotations

from collections.abc import Callable

from .._backends import kernels, operators
from .._spikes import storage
from . import by_kernel, by_steps
from .call import Call, Outcome
from .equations import current_key
from .route import route_of
from .surrogates import gives_spikes, is_declared, without_kernel


def run(
    call: Call, store_v_seq: bool, keep: Callable[[operators.Job], None] | None = None
) -> Outcome:
    """Run a call by its kernel, or step by step.

    Args:
        store_v_seq: whether the first state is wanted after each step.
        keep: called with the job of a kernel, if every call of the same numbers is it.

    Raises:
        TypeError, ValueError: naming the argument that does not fit.
    """
    route = route_of(call)
    if route.plan is not None:
        arranged = by_kernel.arranged(route.plan, call, route.values, store_v_seq)
        outcome = by_kernel.perform(*arranged)
        if keep is not None and route.lasts:
            keep(arranged[0])
    else:
        values = by_steps.step_values(call, route.options, route.params)
        outcome = by_steps.run(call, values, store_v_seq)
    if (
        storage.is_marking()
        and gives_spikes(call.surrogate_function)
        and call.equations.fires_alone(route.options)
    ):
        for spikes in outcome.outputs:
            storage.mark(spikes)
    return outcome


def source_of(call: Call) -> str:
    """The C++ header that a neuron's kernels are compiled from.

    Raises:
        snnkernels.StepError: the step cannot be compiled; the message gives the line.
        ValueError: there are no kernels with its surrogate.
    """
    function = call.surrogate_function
    if not is_declared(function):
        raise ValueError(without_kernel(function))
    neuron = current_key(call.equations.id)
    options, _ = call.split()
    request = kernels.Request(neuron, options, (), function.kernel_key, True, False)
    header = kernels.neuron_source(request).header
    if call.equations.kernel is None:
        return header
    return (
        f"{header}\n// The library's own neuron: {call.equations.kernel} in snnkernels/neurons.h\n"
    )
