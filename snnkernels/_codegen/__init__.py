"""From a function in PyTorch to the C++ that the kernels are compiled from.

`trace` records what a function does to numbers, forward and backward; `graph` simplifies it as it
comes in; `cpp` prints it.
"""

from .cpp import identifier, print_neuron, print_surrogate
from .errors import StepError
from .outside import Outside
from .trace import NeuronTrace, SurrogateTrace, trace_neuron, trace_surrogate

__all__ = [
    "NeuronTrace",
    "Outside",
    "StepError",
    "SurrogateTrace",
    "identifier",
    "print_neuron",
    "print_surrogate",
    "trace_neuron",
    "trace_surrogate",
]
