"""Compares what contenders compute before they are timed.

Spikes have to equal the reference's in every element. Gradients of x have to be close, as
``norm(a - b) / norm(b)`` in float64: 1e-10 in float64, 1e-5 in float32. In float16 and bfloat16 the
yardstick is the reference on the same values in float32: the error may be twice that of the
reference in the low dtype. Gradients of parameters are sums over all steps, whose terms partly
cancel; they get ten times the room.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.cases import Case
from benchmarks.contenders import Outcome, Workload, bind, make_forward

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
STATE_TOLERANCE = {"float64": 1e-14, "float32": 1e-6, "float16": 1e-6, "bfloat16": 1e-6}
PARAMETER_ROOM = 10.0


class CheckFailed(Exception):
    """A contender that has to match the reference does not; the message says where."""


@dataclass(frozen=True)
class Agreement:
    """How an outcome compares with the reference's.

    ``problem`` is None if it agrees. ``gradient_error`` is the largest relative error among the
    gradients, None in inference.
    """

    spikes_differing: int
    state_error: float
    gradient_error: float | None
    problem: str | None


def relative_error(got: Tensor, expected: Tensor) -> float:
    """norm(got - expected) / norm(expected) in float64; absolute where ``expected`` is zero."""
    wide = expected.detach().double()
    difference = torch.linalg.vector_norm(got.detach().double() - wide).item()
    return difference / (torch.linalg.vector_norm(wide).item() or 1.0)


def compare(workload: Workload, reference: Outcome, outcome: Outcome) -> Agreement:
    """Compare an outcome with the reference's on the same workload."""
    differing = _spikes_differing(outcome.spikes, reference.spikes)
    states = max(map(relative_error, outcome.states, reference.states), default=0.0)
    gradients = _gradient_problems(workload, reference, outcome)
    errors = [error for error, _ in gradients]
    return Agreement(
        spikes_differing=differing,
        state_error=states,
        gradient_error=max(errors, default=None),
        problem=_first_problem(workload.case, differing, outcome, reference, states, gradients),
    )


def difference(case: Case, contender: str, problem: str) -> str:
    """What to say of a contender that differs in a case."""
    return f"{case}: {contender} differs from the reference: {problem}"


def _spikes_differing(got: Tensor, expected: Tensor) -> int:
    if got.shape != expected.shape:
        return expected.numel()
    return int((got != expected).sum().item())


def _first_problem(
    case: Case,
    differing: int,
    outcome: Outcome,
    reference: Outcome,
    state_error: float,
    gradients: list[tuple[float, str | None]],
) -> str | None:
    if differing:
        return _spike_problem(outcome.spikes, reference.spikes, differing)
    if not state_error <= STATE_TOLERANCE[case.dtype]:
        return (
            f"states are off by {state_error:.1e} relative, expected at most "
            f"{STATE_TOLERANCE[case.dtype]:.0e}"
        )
    return next((problem for _, problem in gradients if problem), None)


def _spike_problem(got: Tensor, expected: Tensor, differing: int) -> str:
    if got.shape != expected.shape:
        return f"spikes have shape {tuple(got.shape)}, expected {tuple(expected.shape)}"
    first = tuple((got != expected).nonzero()[0].tolist())
    return (
        f"{differing} of {expected.numel()} spikes differ, the first at {list(first)}: "
        f"got {got[first].item():g}, expected {expected[first].item():g}"
    )


def _gradient_problems(
    workload: Workload, reference: Outcome, outcome: Outcome
) -> list[tuple[float, str | None]]:
    """For each gradient its error and, if that is too large, what to say about it."""
    if len(outcome.gradients) != len(reference.gradients):
        got, expected = len(outcome.gradients), len(reference.gradients)
        return [(float("inf"), f"{got} gradients, expected {expected}")]
    if not reference.gradients:
        return []
    exact, bounds = _yardstick(workload, reference)
    names = ["x", *[f"parameter {index}" for index in range(1, len(exact))]]
    found: list[tuple[float, str | None]] = []
    for name, grad, due, bound in zip(names, outcome.gradients, exact, bounds, strict=True):
        error = relative_error(grad, due)
        problem = (
            None
            if error <= bound
            else f"the gradient of {name} is off by {error:.1e} relative, at most {bound:.1e}"
        )
        found.append((error, problem))
    return found


def _yardstick(
    workload: Workload, reference: Outcome
) -> tuple[tuple[Tensor, ...], tuple[float, ...]]:
    """The gradients to compare with and the relative error that each is allowed."""
    dtype = workload.case.dtype
    if dtype in TOLERANCE:
        x_bound = TOLERANCE[dtype]
        bounds = [x_bound] + [x_bound * PARAMETER_ROOM] * len(workload.parameters)
        return reference.gradients, tuple(bounds)
    wide = in_float32(workload)
    exact = bind(make_forward(wide.case, "torch"), wide)().gradients
    own = tuple(map(relative_error, reference.gradients, exact))
    floor = [TOLERANCE["float32"]] + [TOLERANCE["float32"] * PARAMETER_ROOM] * (len(own) - 1)
    return exact, tuple(2 * error + least for error, least in zip(own, floor, strict=True))


def in_float32(workload: Workload) -> Workload:
    """The same values with x and the upstream gradient widened to float32."""
    assert workload.upstream is not None
    return replace(
        workload,
        case=replace(workload.case, dtype="float32"),
        x=workload.x.detach().float().requires_grad_(),
        upstream=workload.upstream.float(),
    )
