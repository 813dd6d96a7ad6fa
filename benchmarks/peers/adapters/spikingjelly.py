"""SpikingJelly: 2.0.0 on plain torch, with Triton and with its native kernels; 0.0.0.0.14 on CuPy.

Its neuron is ours: same charge, same reset, same surrogates.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.case import Case, Job, Neuron, Task
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from benchmarks.networks import TorchEngine

PEERS = (
    Peer(
        "spikingjelly",
        "SpikingJelly 2.0.0",
        "spikingjelly",
        devices=("cpu",),
        workloads=("neuron", "linear", "shd", "conv", "mnist"),
    ),
    Peer(
        "spikingjelly-single-step",
        "SpikingJelly 2.0.0, step by step",
        "spikingjelly",
        devices=("cpu",),
        workloads=("mnist",),
    ),
    Peer(
        "spikingjelly-native",
        "SpikingJelly 2.0.0, native",
        "spikingjelly",
        devices=("cuda",),
        workloads=("neuron", "linear", "shd", "conv", "mnist"),
        provider="cuda",
        build={"SJ_BUILD_NATIVE_CUDA": "1", "PIP_NO_BINARY": "spikingjelly"},
    ),
    Peer(
        "spikingjelly-triton",
        "SpikingJelly 2.0.0, Triton",
        "spikingjelly",
        devices=("cuda",),
        provider="triton",
    ),
    Peer(
        "spikingjelly-cupy",
        "SpikingJelly 0.0.0.0.14, CuPy",
        "spikingjelly-clock-driven",
        devices=("cuda",),
        provider="cupy",
    ),
)


def load(peer: Peer) -> TorchEngine:
    """The release that is installed; 0.0.0.0.14 is told to use CuPy."""
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate

    from benchmarks import networks

    cupy = peer.provider == "cupy"
    chosen = {"backend": "cupy"} if cupy else {}

    class SpikingJelly(networks.Library):
        def lif(self, wanted: Neuron) -> nn.Module:
            node: nn.Module = neuron.LIFNode(
                tau=wanted.tau,
                decay_input=wanted.decay_input,
                v_reset=wanted.v_reset,
                detach_reset=wanted.detach_reset,
                surrogate_function=getattr(surrogate, wanted.surrogate)(),
                step_mode="m",
                **chosen,
            )
            return node

        def reset(self, net: nn.Module) -> None:
            functional.reset_net(net)

        def provider(self, task: Task) -> str | None:
            if cupy:
                return "cupy"
            device = torch.device(task.case.device)
            reply = functional.neuron_implementation("lif", device)["implementation"]
            # Its query leaves out that low precision always takes the reference.
            low = task.case.dtype != "float32" and device.type == "cuda"
            return "torch-reference" if low else str(reply)

        def epoch(self, case: Case) -> Job:
            return tutorial(case, single_step=peer.name == "spikingjelly-single-step")

    return networks.TorchEngine(SpikingJelly(), spikingjelly=version("spikingjelly"))


def tutorial(case: Case, *, single_step: bool) -> Job:
    """The tutorial's network, a step at a time as the tutorial has it, or all steps in a call."""
    import torch
    from spikingjelly.activation_based import encoding, functional, neuron

    from benchmarks.networks import epoch_job, tutorial_net

    T = case.shape[0]
    net = tutorial_net(lambda: neuron.LIFNode(tau=2.0))
    encoder = encoding.PoissonEncoder()
    if not single_step:
        functional.set_step_mode(net, "m")

    def rates(images: torch.Tensor) -> torch.Tensor:
        if single_step:
            return sum(net(encoder(images)) for _ in range(T)) / T
        spikes = torch.stack([encoder(images) for _ in range(T)])
        return net(spikes).mean(0)

    return epoch_job(case, net, rates, lambda: functional.reset_net(net))
