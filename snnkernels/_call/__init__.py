"""One call of a neuron over a sequence: checks, route, and then its kernel or its step.

`equations` says what a neuron is, `call` and `arguments` check what it is given, `route` finds what
runs it, and `by_kernel` or `by_steps` does. Modules and functions of neurons go through `run`.
"""

from .arguments import checked_parameters, full_states, on_device, part_values
from .by_steps import replay
from .call import Call, call_of
from .dispatch import run, source_of
from .kept import Kept
from .route import specialized_source
from .surrogates import check_surrogate, gives_spikes

__all__ = [
    "Call",
    "Kept",
    "call_of",
    "check_surrogate",
    "checked_parameters",
    "full_states",
    "gives_spikes",
    "on_device",
    "part_values",
    "replay",
    "run",
    "source_of",
    "specialized_source",
]
