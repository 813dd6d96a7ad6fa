"""Norse: LIFBoxCell, the LIF without a synaptic current, in a loop."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.case import Neuron
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    from torch import nn

    from benchmarks.networks import TorchEngine

STEP_SECONDS = 0.001
PEERS = (
    Peer(
        "norse",
        "Norse 1.1.0",
        "norse",
        # Its surrogate "super" leaves its alpha out of the gradient, which is 1 / (1 + abs(x))**2.
        neuron=Neuron(surrogate="SuperSpike", alpha=1.0),
    ),
)


def load(peer: Peer) -> TorchEngine:
    """LIFBoxCell and LIBoxCell; time constants are inverses in 1/s."""
    import torch
    from norse.torch import LIBoxCell, LIBoxParameters, LIFBoxCell, LIFBoxParameters

    from benchmarks import networks

    class Norse(networks.Library):
        def lif(self, wanted: Neuron) -> nn.Module:
            parameters = LIFBoxParameters(tau_mem_inv=inverse(wanted))
            return networks.StepByStep(LIFBoxCell(parameters, dt=STEP_SECONDS))

        def readout(self, wanted: Neuron) -> nn.Module:
            parameters = LIBoxParameters(tau_mem_inv=inverse(wanted))
            return networks.StepByStep(LIBoxCell(parameters, dt=STEP_SECONDS))

    def inverse(wanted: Neuron) -> torch.Tensor:
        return torch.as_tensor(1 / (wanted.tau * STEP_SECONDS))

    return networks.TorchEngine(Norse(), norse=version("norse"))
