"""Fused spiking neurons for PyTorch: charge, fire and reset of all time steps in one kernel."""

from . import encoding, functional, neuron, reference, surrogate
from .backend import FallbackWarning

__version__ = "0.1.0"

__all__ = ["FallbackWarning", "encoding", "functional", "neuron", "reference", "surrogate"]
