"""Contenders: everything that gets timed, be it a kernel, the reference, a compiler or a copy.

A contender prepares a ``Run`` for a workload; the run is warm when ``prepare`` returns. A run may
live in this process (``LocalRun``) or speak to one of its own, as long as it can time calls, hand
over an outcome and say what memory it took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from benchmarks import cases, memory, traffic
from benchmarks.cases import Case
from benchmarks.timing import Call, clock_for
from snnkernels import functional, surrogate
from snnkernels._backends import selection

Role = Literal["fused", "reference", "other", "copy"]
Forward = Callable[..., tuple[Tensor, ...]]

SEED = 20
INPUT_MEAN = 0.5
COMPILE_MAX_STEPS = 64


class Unavailable(Exception):
    """A contender that cannot run a case; the message is the reason."""


@dataclass(frozen=True)
class Outcome:
    """What one call gives: spikes [T, B, ...], last states [B, ...], gradients of x and parameters.

    ``gradients`` is empty in inference.
    """

    spikes: Tensor
    states: tuple[Tensor, ...]
    gradients: tuple[Tensor, ...]

    @property
    def tensors(self) -> Sequence[Tensor]:
        return (self.spikes, *self.states, *self.gradients)


@dataclass(frozen=True)
class Workload:
    """The tensors of a case: x and the upstream gradient [T, B, ...], learnable parameters."""

    case: Case
    x: Tensor
    upstream: Tensor | None
    parameters: tuple[Tensor, ...]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        given = (self.x, *self.parameters)
        return given if self.upstream is None else (*given, self.upstream)


class Run(Protocol):
    """A contender that stands ready for one workload."""

    @property
    def compile_seconds(self) -> float | None:
        """What its first call took beyond a usual one, where that is of interest."""
        ...

    def samples(self, count: int) -> list[float]:
        """Seconds of each of ``count`` calls in a row."""
        ...

    def outcome(self) -> Outcome | None:
        """The result of one call, None if there is nothing to compare."""
        ...

    def memory(self) -> memory.Memory | None:
        """The memory of one call, None if it is not of interest."""
        ...


@dataclass(frozen=True)
class Contender:
    """Something to time.

    ``role``: "fused" is ours and has to give what the reference gives; "reference" is what ratios
    are taken against; "other" is only compared; "copy" measures the memory.
    """

    name: str
    role: Role
    prepare: Callable[[Workload], Run]


def make_workload(case: Case, seed: int = SEED) -> Workload:
    """Random tensors for a case: x is normal around 0.5 with deviation 1, so that neurons fire."""
    generator = torch.Generator().manual_seed(seed)

    def normal(mean: float) -> Tensor:
        values = torch.randn(case.shape, generator=generator) + mean
        return values.to(device=case.device, dtype=case.torch_dtype)

    training = case.mode == "training"
    return Workload(
        case=case,
        x=normal(INPUT_MEAN).requires_grad_(training),
        upstream=normal(0.0) if training else None,
        parameters=_parameters(case),
    )


def _parameters(case: Case) -> tuple[Tensor, ...]:
    if case.neuron != "plif":
        return ()
    dtype = torch.float64 if case.dtype == "float64" else torch.float32
    w = torch.zeros((), device=case.device, dtype=dtype)
    return (w.requires_grad_(case.mode == "training"),)


def surrogate_names() -> list[str]:
    """Names of the surrogates, as ``--surrogate`` takes them."""
    base = surrogate.SurrogateFunction
    return sorted(
        name
        for name, value in vars(surrogate).items()
        if isinstance(value, type) and issubclass(value, base) and value is not base
    )


def make_forward(case: Case, backend: str) -> Forward:
    """The neuron's functional form, ``(x, *parameters) -> (spikes, *states)``, on one backend."""
    functions: dict[str, Forward] = {
        "if": functional.if_,
        "lif": functional.lif,
        "plif": _parametric_lif,
        "cuba": functional.cuba_lif,
    }
    function = functions[case.neuron]
    surrogate_function: nn.Module = getattr(surrogate, case.surrogate)()

    def forward(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        return function(x, *parameters, surrogate_function=surrogate_function, backend=backend)

    return forward


def _parametric_lif(
    x: Tensor, w: Tensor, *, surrogate_function: nn.Module, backend: str
) -> tuple[Tensor, ...]:
    return functional.parametric_lif(x, w=w, surrogate_function=surrogate_function, backend=backend)


def bind(forward: Forward, workload: Workload) -> Callable[[], Outcome]:
    """One call of a forward on a workload, with its backward in training."""
    x, parameters, upstream = workload.x, workload.parameters, workload.upstream

    def infer() -> Outcome:
        with torch.no_grad():
            spikes, *states = forward(x, *parameters)
        return Outcome(spikes, tuple(states), ())

    def train() -> Outcome:
        spikes, *states = forward(x, *parameters)
        gradients = torch.autograd.grad(spikes, (x, *parameters), upstream)
        return Outcome(spikes.detach(), tuple(s.detach() for s in states), gradients)

    return infer if upstream is None else train


class LocalRun:
    """A run in this process; the first call is made here, so it is warm."""

    def __init__(
        self,
        call: Callable[[], Outcome],
        workload: Workload,
        *,
        compiled: bool = False,
    ) -> None:
        self._call = call
        self._workload = workload
        self._compiled = compiled
        self._clock = clock_for(workload.case.device)
        first = self.samples(1)[0]
        self._compile_seconds = max(first - self.samples(1)[0], 0.0) if compiled else None

    @property
    def compile_seconds(self) -> float | None:
        return self._compile_seconds

    def samples(self, count: int) -> list[float]:
        return self._clock.samples(self._call, count)

    def outcome(self) -> Outcome:
        return self._call()

    def memory(self) -> memory.Memory:
        # Hooks on saved tensors are part of what a compiled graph is specialised on.
        return memory.measure(
            self._call,
            self._workload.case.device,
            self._workload.inputs,
            record_saved=not self._compiled,
        )


class CopyRun:
    """A run of a copy, of which only the time matters."""

    compile_seconds = None

    def __init__(self, call: Call, device: str) -> None:
        self._call = call
        self._clock = clock_for(device)
        self.samples(1)

    def samples(self, count: int) -> list[float]:
        return self._clock.samples(self._call, count)

    def outcome(self) -> None:
        return None

    def memory(self) -> None:
        return None


_ROLES: dict[str, Role] = {"native": "fused", "torch": "reference"}


def on_backend(name: str) -> Contender:
    """The package's own function on one of its backends."""

    def prepare(workload: Workload) -> Run:
        device = workload.case.device
        if device not in (selection.KERNEL_DEVICES[name] or cases.DEVICES):
            raise Unavailable(f"backend {name!r} has no kernels for {device}")
        return LocalRun(bind(make_forward(workload.case, name), workload), workload)

    return Contender(name, _ROLES.get(name, "other"), prepare)


def compiled(max_steps: int = COMPILE_MAX_STEPS) -> Contender:
    """torch.compile of the reference, compiled anew for each case of up to ``max_steps``."""

    def prepare(workload: Workload) -> Run:
        steps = workload.case.shape[0]
        if steps > max_steps:
            raise Unavailable(f"T={steps} is over --compile-max-steps {max_steps}")
        import torch._inductor.config as inductor

        torch._dynamo.reset()
        with inductor.patch(force_disable_caches=True):
            forward = torch.compile(make_forward(workload.case, "torch"))
            return LocalRun(bind(forward, workload), workload, compiled=True)

    return Contender("compile", "other", prepare)


def copy_to_existing() -> Contender:
    """Copy into memory that exists already, over the case's footprint."""

    def prepare(workload: Workload) -> Run:
        source = _copy_source(workload)
        target = torch.empty_like(source).copy_(source)
        return CopyRun(lambda: target.copy_(source), workload.case.device)

    return Contender("copy", "copy", prepare)


def copy_to_fresh() -> Contender:
    """Copy into fresh memory, over the case's footprint."""

    def prepare(workload: Workload) -> Run:
        source = _copy_source(workload)
        return CopyRun(source.clone, workload.case.device)

    return Contender("clone", "copy", prepare)


def _copy_source(workload: Workload) -> Tensor:
    case = workload.case
    values = torch.randn(traffic.copy_elements(case), generator=torch.Generator().manual_seed(SEED))
    return values.to(device=case.device, dtype=case.torch_dtype)


DEFAULT_BACKENDS = ("native", "torch")


def line_up(
    backends: Sequence[str] = DEFAULT_BACKENDS,
    *,
    compile_reference: bool = False,
    compile_max_steps: int = COMPILE_MAX_STEPS,
) -> list[Contender]:
    """The contenders of a run: backends, torch.compile on request, the two copies."""
    contenders = [on_backend(name) for name in backends]
    if compile_reference:
        contenders.append(compiled(compile_max_steps))
    return [*contenders, copy_to_existing(), copy_to_fresh()]
