"""What is measured in this process: each suite, listed at the end, is a command of its own.

A case is done by several contenders. The first is ours, beside whose times theirs are put; the last
is the reference, whose results the others have to give before anyone is timed.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import arguments
from benchmarks.case import MODES, Case, Job, Neuron, Shape, Task, Unavailable
from benchmarks.measure import Prepare
from benchmarks.networks import Library, Result, TorchEngine, TorchJob
from benchmarks.peers.adapters import snnkernels as ours
from benchmarks.peers.spec import Peer
from benchmarks.workloads import USUAL, arrays, conv_cases
from snnkernels import compile_neuron, functional, neuron, spike, surrogate
from snnkernels._build import BuildError

Contenders = Mapping[str, Prepare]


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Suite:
    """Cases, and who does them.

    Args:
        name: of the command.
        title: what it measures.
        cases: those that the command line asks for.
        contenders: who does a case.
        spikes: whether the output is spikes, which have to be equal to the bit.
        timed: who is timed; None for all.
        arguments: adds what the command line can ask for.
    """

    name: str
    title: str
    cases: Callable[[argparse.Namespace], Sequence[Case]]
    contenders: Callable[[Case, argparse.Namespace], Contenders]
    spikes: bool = True
    timed: Callable[[argparse.Namespace], Sequence[str] | None] = lambda options: None
    arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments


# --- neurons: the kernels of each backend against plain PyTorch -----------------------------------

KINDS = ("if", "lif", "plif", "cuba")
DTYPES = ("float32", "float64", "float16", "bfloat16")
SHAPES: tuple[Shape, ...] = (
    (4, 32, 4096),
    USUAL,
    (16, 32, 16384),
    (64, 32, 1024),
    (128, 64, 4096),
    (500, 16, 512),
)
QUICK_SHAPES = SHAPES[:2]
SURROGATES = sorted(cls.__name__ for cls in surrogate.BUILT_IN)
CONTENDERS: Mapping[str, Peer] = {
    peer.name: peer for peer in (ours.NATIVE, ours.CUPY, ours.COMPILE, ours.LOOP)
}


def neurons(
    shape: Shape,
    mode: str = "training",
    dtype: str = "float32",
    *,
    kind: str = "lif",
    fire: str = "ATan",
    device: str = "cpu",
) -> Case:
    """Neurons of a kind with a surrogate."""
    options = {"neuron": Neuron(kind, surrogate=fire)}
    return Case("neuron", shape, mode, dtype, device, f"{kind} {fire}", options)


def product(
    options: argparse.Namespace,
    kinds: Iterable[str] = ("lif",),
    dtypes: Iterable[str] = ("float32",),
    shapes: Iterable[Shape] = SHAPES,
    modes: Iterable[str] = MODES,
) -> list[Case]:
    """Every combination; an axis that the command line gives replaces the one here."""
    axes = itertools.product(
        options.modes or modes,
        options.neurons or kinds,
        options.dtypes or dtypes,
        options.shapes or shapes,
    )
    device, fire = options.device, options.surrogate
    return [
        neurons(shape, mode, dtype, kind=kind, fire=fire, device=device)
        for mode, kind, dtype, shape in axes
    ]


def neuron_cases(options: argparse.Namespace) -> Sequence[Case]:
    """Rows that stand for the whole, in the order of measuring.

    Once an axis is given, the others are lif, float32, all shapes and both modes.
    """
    if options.full:
        rows = product(options, KINDS, DTYPES)
    elif options.quick:
        rows = product(options, shapes=QUICK_SHAPES)
        rows += product(options, KINDS, ("float32", "bfloat16"), [USUAL], ["training"])
    else:
        rows = product(options)
        if not (options.modes or options.neurons or options.dtypes or options.shapes):
            rows += product(options, KINDS, shapes=[USUAL])
            rows += product(options, dtypes=DTYPES, shapes=[USUAL])
    return list(dict.fromkeys(rows))


def on_engines(case: Case, peers: Sequence[Peer]) -> Contenders:
    """Ours in this process, on the same arrays."""
    given, task = arrays(case), Task(case, case.options.get("neuron", Neuron()))

    def prepare(peer: Peer) -> Job:
        if case.device not in peer.devices:
            raise Unavailable(f"{peer.title} does not run on {case.device}")
        if peer.max_steps is not None and case.shape[0] > peer.max_steps:
            raise Unavailable(f"T={case.shape[0]}: compiling the unrolled loop takes minutes")
        engine = ours.load(peer)
        try:
            engine.provider(task)
        except BuildError as error:
            if peer == ours.NATIVE:
                raise
            raise Unavailable(str(error)) from error
        return engine.prepare(task, given)

    return {peer.name: partial(prepare, peer) for peer in peers}


def neuron_contenders(case: Case, options: argparse.Namespace) -> Contenders:
    """Those that are asked for, and plain PyTorch, whose results all must give."""
    asked = (*options.contenders, ours.LOOP.name)
    return on_engines(case, [peer for name, peer in CONTENDERS.items() if name in asked])


def neuron_arguments(parser: argparse.ArgumentParser) -> None:
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="a few small rows, under a minute")
    extent.add_argument("--full", action="store_true", help="neurons x dtypes x shapes x modes")
    parser.add_argument("--neurons", nargs="+", choices=KINDS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument(
        "--shapes", nargs="+", type=arguments.shape, metavar="T,B,N", help="as 16,32,1024"
    )
    parser.add_argument("--modes", nargs="+", choices=MODES)
    parser.add_argument("--surrogate", default="ATan", choices=SURROGATES, metavar="NAME",
                        help=f"default %(default)s; one of {', '.join(SURROGATES)}")  # fmt: skip
    who = ", ".join(f"{name}: {peer.title}" for name, peer in CONTENDERS.items())
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS),
                        default=["native", "loop"], help=f"{who} (default: native, loop)",
                        )  # fmt: skip


# --- compiled: neurons compiled from a step against what they stand for ---------------------------

_RESET = {"v_threshold": 1.0, "v_reset": 0.0}


def _fire(h: Tensor, v_threshold: Tensor, v_reset: Tensor) -> tuple[Tensor, Tensor]:
    s = spike(h - v_threshold)
    return s, (1 - s) * h + s * v_reset


def _if(x, v, *, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + x, v_threshold, v_reset)


def _lif(x, v, *, tau, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + (x - (v - v_reset)) / tau, v_threshold, v_reset)


def _plif(x, v, *, r, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    return _fire(v + (x - (v - v_reset)) * r, v_threshold, v_reset)


def _cuba_lif(x, v, i, *, alpha, beta, v_threshold, v_reset):  # type: ignore[no-untyped-def]
    i = alpha * i + x
    s, v = _fire(beta * v + i, v_threshold, v_reset)
    return s, v, i


IFTwin = compile_neuron(_if, {"v": 0.0}, _RESET)
LIFTwin = compile_neuron(_lif, {"v": 0.0}, {"tau": 2.0, **_RESET})
PLIFTwin = compile_neuron(_plif, {"v": 0.0}, {"r": 0.5, **_RESET}, ("r",))
CubaLIFTwin = compile_neuron(_cuba_lif, {"v": 0.0, "i": 0.0}, {"alpha": 0.5, "beta": 0.5, **_RESET})


def _alif(backend: str, n: int, **shared: Any) -> nn.Module:
    rho = nn.Parameter(torch.full((n,), 0.9))
    return neuron.ALIFNode(rho=rho, backend=backend, **shared)


Build = Callable[..., nn.Module]
BUILT_IN, STEP, COMPILED = "built in", "its step in PyTorch", "compiled"
ALIF = "ALIF, a learnt rho per neuron"
TWINS: Mapping[str, Mapping[str, Build]] = {
    "IF": {COMPILED: IFTwin, BUILT_IN: neuron.IFNode},
    "LIF": {COMPILED: LIFTwin, BUILT_IN: neuron.LIFNode},
    "ParametricLIF": {COMPILED: PLIFTwin, BUILT_IN: neuron.ParametricLIFNode},
    "CubaLIF": {COMPILED: CubaLIFTwin, BUILT_IN: partial(neuron.CubaLIFNode, 0.5, 0.5)},
    ALIF: {COMPILED: partial(_alif, "auto"), STEP: partial(_alif, "torch")},
}
"""How each neuron is made; the last for N neurons."""


class Twin(Library):
    """Neurons that a function makes; a twin may learn another parameter than what it stands for."""

    compares_parameters = False

    def __init__(self, build: Build, *neurons: int) -> None:
        self.build = partial(build, *neurons, surrogate_function=surrogate.ATan(), step_mode="m")

    def lif(self, wanted: Neuron) -> nn.Module:
        return self.build()

    def reset(self, net: nn.Module) -> None:
        functional.reset_net(net)


def twin_cases(options: argparse.Namespace) -> Sequence[Case]:
    shapes = (USUAL, (64, 32, 256), (64, 32, 1024))
    return [
        Case("neuron", shape, device=options.device, variant=name)
        for name, shape in itertools.product(TWINS, shapes)
    ]


def twins(case: Case, options: argparse.Namespace) -> Contenders:
    given, size = arrays(case), case.shape[-1:] if case.variant == ALIF else ()
    return {
        name: partial(TorchEngine(Twin(build, *size)).prepare, Task(case), given)
        for name, build in TWINS[case.variant].items()
    }


# --- encoding ------------------------------------------------------------------------------------


def encoding_cases(options: argparse.Namespace) -> Sequence[Case]:
    return [Case("encoding", (50, 128, 784), "inference", device=options.device)]


def encoders(case: Case, options: argparse.Namespace) -> Contenders:
    """T steps of spikes of a batch of images, in some dtypes, and by a comparison in float32."""
    x = torch.rand(case.shape[1:], device=case.device)

    def fused(dtype: torch.dtype) -> Result:
        return Result(functional.poisson_encode(x, case.shape[0], dtype=dtype))

    def comparison() -> Result:
        return Result((torch.rand(case.shape, device=case.device) < x).to(x.dtype))

    calls: dict[str, Callable[[], Result]] = {
        str(dtype): partial(fused, dtype) for dtype in (torch.float32, torch.bfloat16, torch.bool)
    }
    calls["torch.rand and <"] = comparison
    return {name: partial(TorchJob, case.device, call) for name, call in calls.items()}


# --- products: linear layers on spikes -----------------------------------------------------------

LAYERS = ((6400, 784, 196), (8000, 512, 512))  # rows, inputs, outputs; the tutorial's, a square one
RATES = (0.02, 0.05, 0.1, 0.2, 0.28)


def product_cases(options: argparse.Namespace) -> Sequence[Case]:
    return [
        Case("products", (rows, inputs), device=options.device,
             variant=f"to {outputs}, {rate:.0%} fired", options={"rate": rate, "outputs": outputs})
        for (rows, inputs, outputs), rate in itertools.product(LAYERS, RATES)
    ]  # fmt: skip


class ProductJob(TorchJob):
    def outcome(self) -> Mapping[str, Tensor]:
        result = self.call()
        return {"output": result.output, "gradient": result.gradients[0]}


def products(case: Case, options: argparse.Namespace) -> Contenders:
    """Output and gradient of the weight, adding up what fired and as PyTorch computes them."""
    (rows, inputs), outputs, device = case.shape, case.options["outputs"], case.device
    x = (torch.rand(rows, inputs, device=device) < case.options["rate"]).float()
    weight = torch.randn(outputs, inputs, device=device, requires_grad=True)
    upstream = torch.randn(rows, outputs, device=device)

    def call(backend: str) -> Result:
        y = functional.linear(x, weight, backend=backend)
        return Result(y.detach(), torch.autograd.grad(y, weight, upstream))

    names = {"native": "auto", "torch": "torch"}
    return {name: partial(ProductJob, device, partial(call, each)) for name, each in names.items()}


# --- storage: a training step with and without spike_storage -------------------------------------


def storage_cases(options: argparse.Namespace) -> Sequence[Case]:
    return [replace(case, options={"width": 64}) for case in conv_cases(options.device)]


def storage(case: Case, options: argparse.Namespace) -> Contenders:
    return on_engines(case, [ours.STORED, CONTENDERS["native"]])


SUITES = (
    Suite("neurons", "fused neurons against plain PyTorch", neuron_cases, neuron_contenders,
          timed=lambda options: options.contenders, arguments=neuron_arguments),
    Suite("compiled", "neurons compiled from a step, against what they stand for", twin_cases,
          twins),
    Suite("encoding", "Poisson encoding", encoding_cases, encoders),
    Suite("products", "linear layers on spikes", product_cases, products, spikes=False),
    Suite("storage", "a training step with and without spike_storage", storage_cases, storage,
          spikes=False),
)  # fmt: skip
