"""Whether a contender computed what another did, judged on what a call of each gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

SAME = {"float64": 1e-10, "float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2, "autocast": 4e-2}
"""Relative error up to which rounding explains a difference: that of a few units of the dtype."""
KERNELS = {**SAME, "float16": 2e-3, "bfloat16": 2e-3}
"""The same for kernels, which compute in float32 and round at the end as their reference does."""
ROOM = 10.0
"""How much more a gradient of one number may be off: it is a sum whose terms partly cancel."""
CLOSE_SPIKES = 1e-3
CLOSE_VALUES = 1e-4
CLOSE_GRADIENT = 1e-2


@dataclass(frozen=True)
class Verdict:
    """``kind`` is "same", "close" or "different"; ``text`` says how close, or in what.

    ``output_error`` is the share of spikes that differ, or where the output is no spikes the
    relative error of its values; ``gradient_error`` is the largest relative error of all else that
    was compared, None if that is nothing.
    """

    kind: str
    text: str
    output_error: float
    gradient_error: float | None


def judge(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    dtype: str,
    spikes: bool,
    differs: str = "",
    tolerance: Mapping[str, float] = SAME,
) -> Verdict:
    """Compare what two contenders gave for the same input.

    Args:
        expected: "output", and whatever else is to be compared, as tensors or arrays.
        found: the same of the other, whose states may be hidden.
        dtype: what both computed in.
        spikes: whether the output is spikes, which have to be equal to the bit.
        differs: what the other is known to do otherwise.
        tolerance: the relative error that is rounding, by dtype; states are float32 at least.
    """
    hidden = {name for name in expected if "state" in name and name not in found}
    names = [name for name in expected if name not in {"output", *hidden}]
    output = (share_differing if spikes else relative_error)(found["output"], expected["output"])
    others = {name: relative_error(found.get(name), expected[name]) for name in names}
    within = all(
        error <= tolerance[_wide(dtype) if "state" in name else dtype] * _room(expected[name])
        for name, error in others.items()
    )
    worst = max(others.values(), default=None)
    measured = _measured(output, worst, spikes=spikes)
    if within and output <= (0.0 if spikes else tolerance[dtype]):
        return Verdict("same", "same", output, worst)
    near = output <= max(CLOSE_SPIKES if spikes else CLOSE_VALUES, 0.0 if spikes else SAME[dtype])
    if near and (worst or 0.0) <= max(CLOSE_GRADIENT, SAME[dtype]):
        return Verdict("close", f"close (max difference: {measured})", output, worst)
    text = f"different ({'; '.join(filter(None, [differs, measured]))})"
    return Verdict("different", text, output, worst)


def share_differing(got: Any, expected: Any) -> float:
    """The share of elements that are not equal; all of them if the shapes differ."""
    got, expected = torch.as_tensor(got), torch.as_tensor(expected)
    if got.shape != expected.shape:
        return 1.0
    return (got != expected).double().mean().item() if expected.numel() else 0.0


def relative_error(got: Any, expected: Any) -> float:
    """norm(got - expected) / norm(expected) in float64, absolute where ``expected`` is zero.

    Infinite if there is nothing, the shapes differ or one value is not finite.
    """
    if got is None:
        return float("inf")
    got, expected = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    if got.shape != expected.shape or not got.isfinite().all():
        return float("inf")
    norm = torch.linalg.vector_norm(expected).item()
    return torch.linalg.vector_norm(got - expected).item() / (norm or 1.0)


def _wide(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def _room(expected: Any) -> float:
    return ROOM if torch.as_tensor(expected).numel() == 1 else 1.0


def _measured(output: float, gradient: float | None, *, spikes: bool) -> str:
    what = f"{output:.2g} of the spikes" if spikes else f"output {output:.1e}"
    return what if gradient is None else f"{what}, gradient {gradient:.1e}"
