"""Norse: LIFBoxCell, the LIF without a synaptic current, in a loop."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.peers.spec import Environment, Neuron, Peer

if TYPE_CHECKING:
    from torch import nn

    from benchmarks.peers.torch_side import TorchEngine

STEP_SECONDS = 0.001
PEERS = (
    Peer(
        "norse",
        "Norse 1.1.0",
        Environment(
            ("nir==1.0.8", "nirtorch==2.6", "h5py==3.16.0"),
            sources=("norse==1.1.0",),
            build_requirements=("setuptools==84.2.1", "setuptools-scm==8.3.1", "wheel==0.48.0"),
        ),
        # Its surrogate "super" leaves its alpha out of the gradient, which is 1 / (1 + abs(x))**2.
        neuron=Neuron(surrogate="SuperSpike", alpha=1.0),
    ),
)


def load(peer: Peer) -> TorchEngine:
    """LIFBoxCell and LIBoxCell; time constants are inverses in 1/s."""
    import torch
    from norse.torch import LIBoxCell, LIBoxParameters, LIFBoxCell, LIFBoxParameters

    from benchmarks.peers import torch_side

    class Norse(torch_side.Library):
        def lif(self, settings: Neuron) -> nn.Module:
            parameters = LIFBoxParameters(tau_mem_inv=inverse(settings))
            return torch_side.StepByStep(LIFBoxCell(parameters, dt=STEP_SECONDS))

        def readout(self, settings: Neuron) -> nn.Module:
            parameters = LIBoxParameters(tau_mem_inv=inverse(settings))
            return torch_side.StepByStep(LIBoxCell(parameters, dt=STEP_SECONDS))

    def inverse(settings: Neuron) -> torch.Tensor:
        return torch.as_tensor(1 / (settings.tau * STEP_SECONDS))

    return torch_side.TorchEngine(Norse(), norse=version("norse"))
