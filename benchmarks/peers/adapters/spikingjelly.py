"""SpikingJelly: 2.0.0 on plain torch, with Triton and with its native kernels; 0.0.0.0.14 on CuPy.

Its neuron is ours: same charge, same reset, same surrogates.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

from benchmarks.peers.spec import Environment, Job, Neuron, Peer, Task, steps

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from benchmarks.peers.torch_side import TorchEngine

WHEEL = Environment(("spikingjelly==2.0.0", "loguru==0.7.3", "scipy==1.17.1", "tqdm==4.70.1"))
NATIVE = Environment(
    WHEEL.requirements[1:],
    sources=("spikingjelly==2.0.0",),
    build_requirements=("setuptools==84.2.1", "wheel==0.48.0", "ninja==1.13.2"),
    build_variables={"SJ_BUILD_NATIVE_CUDA": "1"},
)
CUPY = Environment(
    (
        "spikingjelly==0.0.0.0.14",
        "cupy-cuda{cuda_major}x==14.2.0",
        "fastrlock==0.8.4",
        "scipy==1.17.1",
        "tqdm==4.70.1",
    )
)
PEERS = (
    Peer(
        "spikingjelly",
        "SpikingJelly 2.0.0",
        WHEEL,
        devices=("cpu",),
        workloads=("neuron", "linear", "shd", "conv", "mnist"),
    ),
    Peer(
        "spikingjelly-single-step",
        "SpikingJelly 2.0.0, step by step",
        WHEEL,
        devices=("cpu",),
        workloads=("mnist",),
    ),
    Peer(
        "spikingjelly-native",
        "SpikingJelly 2.0.0, native",
        NATIVE,
        devices=("cuda",),
        workloads=("neuron", "linear", "shd", "conv", "mnist"),
        provider="cuda",
    ),
    Peer(
        "spikingjelly-triton",
        "SpikingJelly 2.0.0, Triton",
        WHEEL,
        devices=("cuda",),
        provider="triton",
    ),
    Peer(
        "spikingjelly-cupy",
        "SpikingJelly 0.0.0.0.14, CuPy",
        CUPY,
        devices=("cuda",),
        provider="cupy",
    ),
)


def load(peer: Peer) -> TorchEngine:
    """The release that is installed; 0.0.0.0.14 is told to use CuPy."""
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate

    from benchmarks.peers import torch_side

    cupy = peer.provider == "cupy"
    chosen = {"backend": "cupy"} if cupy else {}

    class SpikingJelly(torch_side.Library):
        def lif(self, settings: Neuron) -> nn.Module:
            node: nn.Module = neuron.LIFNode(
                tau=settings.tau,
                decay_input=settings.decay_input,
                v_reset=settings.v_reset,
                detach_reset=settings.detach_reset,
                surrogate_function=getattr(surrogate, settings.surrogate)(),
                step_mode="m",
                **chosen,
            )
            return node

        def reset(self, net: nn.Module) -> None:
            functional.reset_net(net)

        def provider(self, task: Task) -> str | None:
            if cupy:
                return "cupy"
            device = torch.device(task.device)
            reply = functional.neuron_implementation("lif", device)["implementation"]
            # Its query leaves out that low precision always takes the reference.
            low = task.dtype != "float32" and device.type == "cuda"
            return "torch-reference" if low else str(reply)

        def epoch(self, task: Task, arrays: Mapping[str, np.ndarray]) -> Job:
            return tutorial(task, single_step=peer.name == "spikingjelly-single-step")

    return torch_side.TorchEngine(SpikingJelly(), spikingjelly=version("spikingjelly"))


def tutorial(task: Task, *, single_step: bool) -> Job:
    """The tutorial's network, a step at a time as the tutorial has it, or all steps in a call."""
    import torch
    from spikingjelly.activation_based import encoding, functional, neuron

    from benchmarks.peers.torch_side import epoch_job, tutorial_net

    T = steps(task.shape)
    net = tutorial_net(lambda: neuron.LIFNode(tau=2.0))
    encoder = encoding.PoissonEncoder()
    if not single_step:
        functional.set_step_mode(net, "m")

    def rates(images: torch.Tensor) -> torch.Tensor:
        if single_step:
            return sum(net(encoder(images)) for _ in range(T)) / T
        spikes = torch.stack([encoder(images) for _ in range(T)])
        return net(spikes).mean(0)

    return epoch_job(task, net, rates, lambda: functional.reset_net(net))
