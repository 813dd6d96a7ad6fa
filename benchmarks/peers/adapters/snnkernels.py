"""This package itself: the kernels, with and without its Linear, the plain loop, that compiled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.peers.spec import Job, Neuron, Peer, Task, steps

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from benchmarks.peers.torch_side import TorchEngine

OURS = Peer("native", "snnkernels", environment=None, workloads=(
    "neuron", "linear", "shd", "conv", "mnist"))  # fmt: skip
DENSE = Peer("dense", "snnkernels, PyTorch's Linear", environment=None, workloads=(
    "linear", "shd", "mnist"))  # fmt: skip
PEERS = (
    OURS,
    DENSE,
    Peer("loop", "plain PyTorch loop", environment=None),
    Peer(
        "compile",
        "torch.compile of the loop",
        environment=None,
        workloads=("neuron", "linear", "shd", "conv"),
        dtypes=("float32",),
        compiles=True,
        max_steps=32,
    ),
)


def load(peer: Peer) -> TorchEngine:
    """The kernels, or plain PyTorch, or that compiled."""
    import torch
    from torch import nn

    import snnkernels
    from benchmarks.peers import torch_side
    from snnkernels import functional, layer, neuron, surrogate
    from snnkernels._backends.selection import resolve

    backend = "native" if peer in (OURS, DENSE) else "torch"

    def node(settings: Neuron, **changes: object) -> neuron.LIFNode:
        parameters = [] if settings.alpha is None else [settings.alpha]
        arguments: dict[str, Any] = {
            "tau": settings.tau,
            "decay_input": settings.decay_input,
            "v_reset": settings.v_reset,
            "detach_reset": settings.detach_reset,
            "surrogate_function": getattr(surrogate, settings.surrogate)(*parameters),
            "step_mode": "m",
            "backend": backend,
        }
        return neuron.LIFNode(**{**arguments, **changes})

    class Readout(nn.Module):
        """The potential of a LIF that never reaches its threshold."""

        def __init__(self, settings: Neuron) -> None:
            super().__init__()
            self.node = node(settings, v_threshold=1e30, store_v_seq=True)

        def forward(self, x_seq: torch.Tensor) -> torch.Tensor:
            self.node(x_seq)
            assert self.node.v_seq is not None
            return self.node.v_seq

    class Ours(torch_side.Library):
        if peer == OURS:
            linear = layer.Linear

        def lif(self, settings: Neuron) -> nn.Module:
            return node(settings)

        def readout(self, settings: Neuron) -> nn.Module:
            return Readout(settings)

        def reset(self, net: nn.Module) -> None:
            functional.reset_net(net)

        def provider(self, task: Task) -> str | None:
            return resolve(backend, task.device).name

        def epoch(self, task: Task, arrays: Mapping[str, np.ndarray]) -> Job:
            return tutorial(task, backend, dense=peer == DENSE)

    class Compiled(Ours):
        def lif(self, settings: Neuron) -> nn.Module:
            return Loop(settings)

        def finish(self, net: nn.Module, task: Task) -> nn.Module:
            torch._dynamo.reset()
            return cast(nn.Module, torch.compile(net))

    class Loop(nn.Module):
        """The plain loop as a function of its input alone, without carried state to guard."""

        def __init__(self, settings: Neuron) -> None:
            super().__init__()
            self.settings = settings
            self.surrogate = node(settings).surrogate_function

        def forward(self, x_seq: torch.Tensor) -> torch.Tensor:
            spikes, _ = functional.lif(
                x_seq,
                tau=self.settings.tau,
                decay_input=self.settings.decay_input,
                v_reset=self.settings.v_reset,
                detach_reset=self.settings.detach_reset,
                surrogate_function=self.surrogate,
                backend=backend,
            )
            return spikes

    if peer.compiles:
        import torch._inductor.config as inductor

        inductor.force_disable_caches = True
    library = Compiled() if peer.compiles else Ours()
    return torch_side.TorchEngine(library, snnkernels=snnkernels.__version__)


def tutorial(task: Task, backend: str, *, dense: bool) -> Job:
    """The epoch of ``snnkernels.examples.lif_fc_mnist``, by its own functions.

    With ``dense`` its linear layers are PyTorch's.
    """
    from torch import Tensor, optim

    from benchmarks.peers.torch_side import EpochJob, tutorial_net
    from snnkernels import layer, neuron
    from snnkernels.examples import _training, lif_fc_mnist
    from snnkernels.examples._data import Samples
    from snnkernels.examples._settings import Settings

    settings = Settings(
        device=task.device,
        T=steps(task.shape),
        backend=backend,
        batch_size=128,
        amp=task.dtype == "autocast",
    )
    net = lif_fc_mnist.build_net(784, settings)
    net.load_state_dict(tutorial_net(lambda: neuron.LIFNode(tau=settings.tau)).state_dict())
    for module in net:
        if dense and isinstance(module, layer.Linear):
            module.backend = "torch"
    optimizer = optim.Adam(net.parameters(), lr=settings.learning_rate)
    settings = replace(settings, dataset="mnist")
    model = _training.Rates(net, settings)
    step = _training.Step(model, optimizer)

    def train(images: Tensor, labels: Tensor) -> None:
        _training.train_epoch(step, Samples(images, labels), settings)

    def accuracy(images: Tensor, labels: Tensor) -> float:
        return _training.evaluate(model, Samples(images, labels), settings).accuracy

    return EpochJob(task, train, accuracy)
