"""Libraries whose neurons are recognised, named and left alone."""

from __future__ import annotations

from ._rules import Library

LIBRARIES = (
    Library(
        "snntorch",
        bases=("SpikingNeuron",),
        reason="snnTorch resets by the spike of the step before, fires above the threshold rather "
        "than at it, and returns (spikes, state)",
    ),
    Library(
        "norse",
        bases=("SNN", "SNNCell", "SNNRecurrent", "SNNRecurrentCell"),
        reason="Norse's modules return (spikes, state) and take the state as an argument",
    ),
    Library(
        "sinabs",
        bases=("StatefulLayer",),
        reason="sinabs takes [B, T, ...], subtracts before it decays, and may fire more than once",
    ),
)
