"""Fused spiking neurons for PyTorch: charge, fire and reset of all time steps in one kernel."""

from . import encoding, functional, layer, monitor, neuron, reference, surrogate, visualizing
from ._firing import spike
from .backend import FallbackWarning
from .codegen import StepError
from .compiled import compile_neuron
from .convert import ConversionWarning, convert

__version__ = "0.1.0"

__all__ = [
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
