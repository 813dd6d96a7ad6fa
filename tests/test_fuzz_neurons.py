"""Random calls of the built-in neurons against loops written down from their equations.

The loops share nothing with the package: neither its reference, nor its surrogates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnkernels import functional, surrogate

from .properties import given, settings, st


class Step(torch.autograd.Function):
    """1 where u >= 0; backward the slope of the arctangent of width 2."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return torch.where(u >= 0, 1.0, 0.0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grad / (1 + (math.pi * u) ** 2)


@dataclass(frozen=True)
class Draw:
    """The arguments of a call, all tensors, that all neurons have."""

    v_threshold: Tensor
    v_reset: Tensor | None
    decay_input: bool
    detach_reset: bool


Charge = Callable[[list[Tensor], Tensor, Tensor, Draw], tuple[Tensor, list[Tensor]]]


def integrate(states: list[Tensor], x: Tensor, p: Tensor, draw: Draw):
    return states[0] + x, []


def leak(v: Tensor, draw: Draw) -> Tensor:
    return v if draw.v_reset is None else v - draw.v_reset


def leak_by_quotient(states: list[Tensor], x: Tensor, tau: Tensor, draw: Draw):
    v = states[0]
    if draw.decay_input:
        return v + (x - leak(v, draw)) / tau, []
    return v - leak(v, draw) / tau + x, []


def leak_by_product(states: list[Tensor], x: Tensor, w: Tensor, draw: Draw):
    v, rate = states[0], torch.sigmoid(w)
    if draw.decay_input:
        return v + (x - leak(v, draw)) * rate, []
    return v - leak(v, draw) * rate + x, []


def through_a_synapse(states: list[Tensor], x: Tensor, alpha: Tensor, draw: Draw):
    current = alpha * states[1] + x
    return 0.5 * states[0] + current, [current]


NEURONS: dict[str, tuple[Callable[..., tuple[Tensor, ...]], str, Charge]] = {
    "if": (functional.if_, "", integrate),
    "lif": (functional.lif, "tau", leak_by_quotient),
    "parametric_lif": (functional.parametric_lif, "w", leak_by_product),
    "cuba_lif": (functional.cuba_lif, "alpha", through_a_synapse),
}


def loop(charge: Charge, x_seq: Tensor, states: list[Tensor], p: Tensor, draw: Draw):
    """Spikes [T, L], the potential after each step [T, L], the last states."""
    spikes, potentials = [], []
    for x in x_seq:
        h, others = charge(states, x, p, draw)
        s = Step.apply(h - draw.v_threshold)
        r = s.detach() if draw.detach_reset else s
        soft = draw.v_reset is None
        v = h - r * draw.v_threshold if soft else (1 - r) * h + r * draw.v_reset
        states = [v, *others]
        spikes.append(s)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials), states


VALUES = st.sampled_from([0.0, -0.0, 1e-6, 0.3, 1.0, -0.7, 2.5, 1e-40])
EDGES = st.sampled_from([math.inf, -math.inf, math.nan, 1e30])
THRESHOLDS = st.sampled_from([1.0, 0.3, -0.5, 0.0, 100.0, math.inf, -math.inf])
RESETS = st.sampled_from([None, 0.0, -0.0, -0.1, 0.4])
OWN = {
    "tau": st.sampled_from([1.0, 2.0, 3.7, 64.0]),
    "w": st.sampled_from([0.0, 0.25, -1.5]),
    "alpha": st.sampled_from([0.0, 0.5, 1.0]),
}


@dataclass(frozen=True)
class Call:
    """One call: which of the outputs (spikes, potentials, last potential) a loss takes, too."""

    neuron: str
    x: Tensor
    settings: dict[str, float | Tensor | None]
    options: dict[str, bool]
    used: list[int]


@st.composite
def calls(draw: st.DrawFn) -> Call:
    neuron = draw(st.sampled_from(sorted(NEURONS)))
    own = NEURONS[neuron][1]
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    steps, lanes = draw(st.integers(1, 35)), draw(st.sampled_from([1, 3, 16, 33, 140]))
    x = torch.randn(steps, lanes, generator=seeded(draw(st.integers(0, 1000))), dtype=dtype)
    values = VALUES | EDGES if draw(st.booleans()) else VALUES
    for value in draw(st.lists(values, max_size=12)):
        x.view(-1)[draw(st.integers(0, x.numel() - 1))] = value

    def parameter(choices: st.SearchStrategy[float]) -> float | Tensor:
        kind = draw(st.sampled_from(["number", "scalar", "lanes"]))
        if kind == "number":
            return draw(choices.filter(math.isfinite))
        count = 1 if kind == "scalar" else lanes
        drawn = torch.tensor(draw(st.lists(choices, min_size=1, max_size=5)), dtype=dtype)
        return drawn.repeat(count)[:count].reshape(() if kind == "scalar" else (lanes,))

    settings = {"v_threshold": parameter(THRESHOLDS), "v_reset": draw(RESETS)}
    options = {"detach_reset": draw(st.booleans())}
    if own:
        settings[own] = parameter(OWN[own])
    if own in ("tau", "w"):
        options["decay_input"] = draw(st.booleans())
    used = draw(st.lists(st.integers(0, 2), min_size=1, unique=True))
    return Call(neuron, x, settings, options, used)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ours(call: Call, x: Tensor, leaves: dict[str, Tensor]) -> tuple[Tensor, ...]:
    spikes, v, *_, v_seq = NEURONS[call.neuron][0](
        x,
        **{**call.settings, **leaves, **call.options},
        surrogate_function=surrogate.ATan(),
        backend="native",
        return_v_seq=True,
    )
    return spikes, v_seq, v


def theirs(call: Call, x: Tensor, leaves: dict[str, Tensor]) -> tuple[Tensor, ...]:
    _, own, charge = NEURONS[call.neuron]
    p = {
        name: torch.tensor(0.0 if value is None else value, dtype=x.dtype)
        for name, value in call.settings.items()
        if not isinstance(value, Tensor)
    } | leaves
    draw = Draw(
        p["v_threshold"],
        None if call.settings["v_reset"] is None else p["v_reset"],
        call.options.get("decay_input", True),
        call.options["detach_reset"],
    )
    states = [p["v_reset"].expand(x.shape[1:]), torch.zeros_like(x[0])]
    spikes, v_seq, (v, *_) = loop(charge, x, states, p.get(own, x), draw)
    return spikes, v_seq, v


def run(which: Callable[..., tuple[Tensor, ...]], call: Call) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and the gradients of x and of every tensor among the settings."""
    x = call.x.clone().requires_grad_()
    leaves = {
        name: value.clone().requires_grad_()
        for name, value in call.settings.items()
        if isinstance(value, Tensor)
    }
    outputs = which(call, x, leaves)
    generator = seeded(7)
    weights = [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]
    gradients = torch.autograd.grad(
        [outputs[k] for k in call.used],
        [x, *leaves.values()],
        [weights[k] for k in call.used],
        materialize_grads=True,
        allow_unused=True,
    )
    return [o.detach() for o in outputs], list(gradients)


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)
    there = ~expected.isnan()
    assert torch.equal(actual[there].signbit(), expected[there].signbit())


def assert_agree(actual: Tensor, expected: Tensor) -> None:
    """Where the loop's gradient is finite: where it is NaN for a 0 times infinity, ours may be.

    Relative to the largest of the lane, since sums over steps cancel, and to the outputs' weights.
    """
    there = expected.isfinite()
    tolerance = 1e-5 if expected.dtype == torch.float32 else 1e-10
    scale = torch.where(there, expected, 0.0).abs().clamp(min=1.0)
    scale = scale.amax(0) if expected.dim() == 2 else scale.max()
    errors = (actual - expected).abs() / scale
    assert (errors[there] <= tolerance).all(), errors


@settings(max_examples=400)
@given(call=calls())
def test_neurons_are_the_loops_of_their_equations(call: Call):
    (outputs, gradients), (expected, wanted) = run(ours, call), run(theirs, call)
    for actual, value in zip(outputs, expected, strict=True):
        assert_same_bits(actual, value)
    for actual, value in zip(gradients, wanted, strict=True):
        assert_agree(actual, value)
