"""This package itself: its kernels, with and without its Linear, the plain loop, that compiled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from benchmarks.case import Case, Job, Neuron, Task, Unavailable
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    import torch
    from torch import nn

    from benchmarks.networks import TorchEngine

ALL = ("neuron", "linear", "shd", "conv", "mnist")
NATIVE = Peer("native", "snnkernels", None, workloads=ALL)
DENSE = Peer("dense", "snnkernels, PyTorch's Linear", None, workloads=("linear", "shd", "mnist"))
LOOP = Peer("loop", "plain PyTorch loop", None)
COMPILE = Peer("compile", "torch.compile of the loop", None, dtypes=("float32",), max_steps=32)
PEERS = (NATIVE, DENSE, LOOP, COMPILE)
CUPY = Peer("cupy", "snnkernels through CuPy", None, devices=("cuda",))
STORED = Peer("spike_storage", "snnkernels in spike_storage", None)
BACKENDS = {"loop": "torch", "compile": "torch", "cupy": "cupy"}
"""Of those that run on another than the kernels of the library."""


def load(peer: Peer) -> TorchEngine:
    """The kernels, or plain PyTorch, or that compiled."""
    import torch
    from torch import nn

    import snnkernels
    from benchmarks import networks
    from snnkernels import functional, layer, neuron, surrogate
    from snnkernels._backends.selection import resolve

    backend = BACKENDS.get(peer.name, "native")

    def node(wanted: Neuron, **changes: Any) -> nn.Module:
        parameters = [] if wanted.alpha is None else [wanted.alpha]
        leak = {"tau": wanted.tau, "decay_input": wanted.decay_input}
        kinds: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
            "if": (neuron.IFNode, {}),
            "lif": (neuron.LIFNode, leak),
            "plif": (neuron.ParametricLIFNode, {"init_tau": wanted.tau}),
            "cuba": (neuron.CubaLIFNode, {"alpha": 0.5, "beta": 0.5}),
        }
        kind, own = kinds[wanted.kind]
        shared = {
            "v_reset": wanted.v_reset,
            "detach_reset": wanted.detach_reset,
            "surrogate_function": getattr(surrogate, wanted.surrogate)(*parameters),
            "step_mode": "m",
            "backend": backend,
        }
        return kind(**{**own, **shared, **changes})

    class Readout(nn.Module):
        """The potential of a LIF that never reaches its threshold."""

        def __init__(self, wanted: Neuron) -> None:
            super().__init__()
            self.node = cast(neuron.LIFNode, node(wanted, v_threshold=1e30, store_v_seq=True))

        def forward(self, x_seq: torch.Tensor) -> torch.Tensor:
            self.node(x_seq)
            assert self.node.v_seq is not None
            return self.node.v_seq

    class Ours(networks.Library):
        if peer in (NATIVE, STORED):
            linear = layer.Linear

        def lif(self, wanted: Neuron) -> nn.Module:
            return node(wanted)

        def readout(self, wanted: Neuron) -> nn.Module:
            return Readout(wanted)

        def reset(self, net: nn.Module) -> None:
            functional.reset_net(net)

        def states(self, net: nn.Module) -> list[torch.Tensor]:
            nodes = [m for m in net.modules() if isinstance(m, neuron.BaseNode)]
            return [getattr(m, name).detach() for m in nodes for name in m.equations.states]

        def context(self) -> AbstractContextManager[object]:
            return functional.spike_storage() if peer == STORED else super().context()

        def provider(self, task: Task) -> str | None:
            return resolve(backend, task.case.device).name

        def epoch(self, case: Case) -> Job:
            return tutorial(case, backend, dense=peer == DENSE)

    class Compiled(Ours):
        def lif(self, wanted: Neuron) -> nn.Module:
            if wanted.kind != "lif":
                raise Unavailable(f"{wanted.kind} has no loop without carried state here")
            return Loop(wanted)

        def finish(self, net: nn.Module) -> nn.Module:
            torch._dynamo.reset()
            return cast(nn.Module, torch.compile(net))

    class Loop(nn.Module):
        """The plain loop as a function of its input alone, without carried state to guard."""

        def __init__(self, wanted: Neuron) -> None:
            super().__init__()
            self.wanted = wanted
            self.surrogate = getattr(surrogate, wanted.surrogate)()

        def forward(self, x_seq: torch.Tensor) -> torch.Tensor:
            spikes, _ = functional.lif(
                x_seq,
                tau=self.wanted.tau,
                decay_input=self.wanted.decay_input,
                v_reset=self.wanted.v_reset,
                detach_reset=self.wanted.detach_reset,
                surrogate_function=self.surrogate,
                backend=backend,
            )
            return spikes

    if peer == COMPILE:
        import torch._inductor.config as inductor

        inductor.force_disable_caches = True
        return networks.TorchEngine(Compiled(), snnkernels=snnkernels.__version__)
    return networks.TorchEngine(Ours(), snnkernels=snnkernels.__version__)


def tutorial(case: Case, backend: str, *, dense: bool) -> Job:
    """The epoch of ``snnkernels.examples.lif_fc_mnist``, by its own functions.

    With ``dense`` its linear layers are PyTorch's.
    """
    from torch import Tensor, optim

    from benchmarks.networks import EpochJob, tutorial_net
    from snnkernels import layer, neuron
    from snnkernels.examples import _training, lif_fc_mnist
    from snnkernels.examples._data import Samples
    from snnkernels.examples._settings import Settings

    settings = Settings(
        device=case.device,
        T=case.shape[0],
        backend=backend,
        batch_size=128,
        amp=case.dtype == "autocast",
    )
    net = lif_fc_mnist.build_net(784, settings)
    net.load_state_dict(tutorial_net(lambda: neuron.LIFNode(tau=settings.tau)).state_dict())
    for module in net:
        if dense and isinstance(module, layer.Linear):
            module.backend = "torch"
    optimizer = optim.Adam(net.parameters(), lr=settings.learning_rate)
    settings = replace(settings, dataset="mnist")
    model = _training.Rates(net, settings)
    step = _training.TrainingStep(model, optimizer)

    def train(images: Tensor, labels: Tensor) -> None:
        _training.train_epoch(step, Samples(images, labels), settings)

    def accuracy(images: Tensor, labels: Tensor) -> float:
        return _training.evaluate(model, Samples(images, labels), settings).accuracy

    return EpochJob(case, train, accuracy)
