"""Fused spiking neurons for PyTorch: charge, fire and reset of all time steps in one kernel."""

from . import encoding, functional, layer, monitor, neuron, reference, surrogate, visualizing
from ._backends.selection import FallbackWarning
from ._build import BuildError
from ._codegen import StepError
from ._core.firing import spike
from .convert import ConversionWarning, convert
from .neuron.custom import compile_neuron

__version__ = "0.1.0"

__all__ = [
    "BuildError",
    "ConversionWarning",
    "FallbackWarning",
    "StepError",
    "compile_neuron",
    "convert",
    "encoding",
    "functional",
    "layer",
    "monitor",
    "neuron",
    "reference",
    "spike",
    "surrogate",
    "visualizing",
]

for _error in (BuildError, ConversionWarning, FallbackWarning, StepError):
    _error.__module__ = __name__  # tracebacks and warnings call them what they are imported as
del _error
