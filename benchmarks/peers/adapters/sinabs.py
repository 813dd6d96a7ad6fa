"""sinabs on plain torch, and its CUDA kernels, sinabs-exodus. Both take [B, T, ...]."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.case import Neuron
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from benchmarks.networks import TorchEngine

PEERS = (
    Peer(
        "sinabs",
        "sinabs 3.1.3",
        "sinabs",
        # It resets by a comparison, through which no gradient flows.
        neuron=Neuron(decay_input=False, detach_reset=True, surrogate="PiecewiseExp", alpha=2.0),
    ),
    Peer(
        "sinabs-exodus",
        "sinabs-exodus 2.0.0",
        "sinabs-exodus",
        neuron=Neuron(decay_input=False, v_reset=None, surrogate="PiecewiseExp", alpha=2.0),
        devices=("cuda",),
        dtypes=("float32",),
        provider="exodus",
    ),
)


def load(peer: Peer) -> TorchEngine:
    """LIF with alpha = exp(-1/tau_mem), which has to be 1 - 1/tau."""
    from sinabs import activation, layers
    from torch import nn

    from benchmarks import networks

    exodus = peer.provider == "exodus"
    if exodus:
        from sinabs.exodus import layers as exodus_layers

    class TimeFirst(nn.Module):
        """A layer of sinabs, which takes [B, T, ...], on [T, B, ...]."""

        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer.requires_grad_(False)

        def forward(self, x_seq: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(x_seq.transpose(0, 1))
            return out.transpose(0, 1)

    def tau_mem(wanted: Neuron) -> float:
        return -1 / math.log(1 - 1 / wanted.tau)

    class Sinabs(networks.Library):
        def lif(self, wanted: Neuron) -> nn.Module:
            reset = activation.MembraneReset() if wanted.v_reset is not None else None
            kind = exodus_layers.LIF if exodus else layers.LIF
            return TimeFirst(
                kind(
                    tau_mem=tau_mem(wanted),
                    norm_input=False,
                    spike_fn=activation.SingleSpike,
                    reset_fn=reset or activation.MembraneSubtract(),
                    surrogate_grad_fn=activation.SingleExponential(grad_width=0.5, grad_scale=0.5),
                )
            )

        def readout(self, wanted: Neuron) -> nn.Module:
            kind = exodus_layers.ExpLeak if exodus else layers.ExpLeak
            return TimeFirst(kind(tau_mem=tau_mem(wanted), norm_input=False))

        def reset(self, net: nn.Module) -> None:
            for module in net.modules():
                if isinstance(module, layers.StatefulLayer):
                    module.reset_states()

        def provider(self, task: object) -> str | None:
            return "exodus" if exodus else None

    return networks.TorchEngine(Sinabs(), sinabs=version("sinabs"))
