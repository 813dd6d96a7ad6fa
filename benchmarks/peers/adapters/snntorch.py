"""snnTorch: a cell that a loop calls; reset in the same step and to zero, as ours."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.case import Neuron
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    from torch import nn

    from benchmarks.networks import TorchEngine

PEERS = (
    Peer(
        "snntorch",
        "snnTorch 1.0.0",
        "snntorch",
        neuron=Neuron(decay_input=False),
    ),
)


def load(peer: Peer) -> TorchEngine:
    """Leaky, whose beta is 1 - 1/tau."""
    import snntorch
    from snntorch import surrogate
    from torch import nn

    from benchmarks import networks

    class Cell(nn.Module):
        def __init__(self, wanted: Neuron, **arguments: Any) -> None:
            super().__init__()
            self.leaky = snntorch.Leaky(
                beta=1 - 1 / wanted.tau, spike_grad=surrogate.atan(alpha=2.0), **arguments
            )
            self.spikes = arguments["reset_mechanism"] != "none"

        def forward(self, x: Any, mem: Any) -> tuple[Any, Any]:
            spk, mem = self.leaky(x, self.leaky.reset_mem() if mem is None else mem)
            return (spk if self.spikes else mem), mem

    class SnnTorch(networks.Library):
        def lif(self, wanted: Neuron) -> nn.Module:
            cell = Cell(wanted, reset_mechanism="zero", reset_delay=False)
            return networks.StepByStep(cell)

        def readout(self, wanted: Neuron) -> nn.Module:
            return networks.StepByStep(Cell(wanted, reset_mechanism="none"))

    return networks.TorchEngine(SnnTorch(), snntorch=version("snntorch"))
