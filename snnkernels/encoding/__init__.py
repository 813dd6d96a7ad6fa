"""Encoders: from intensities to spikes."""

from .poisson import PoissonEncoder, poisson_encode
from .schedules import LatencyEncoder, PeriodicEncoder, PopulationEncoder, WeightedPhaseEncoder

__all__ = [
    "LatencyEncoder",
    "PeriodicEncoder",
    "PoissonEncoder",
    "PopulationEncoder",
    "WeightedPhaseEncoder",
    "poisson_encode",
]
