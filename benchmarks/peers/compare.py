"""Whether a peer computed what we compute, judged on the tensors that it gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SAME_GRADIENT = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2, "autocast": 4e-2}
"""Relative gradient error up to which rounding explains it: that of a few units of the dtype."""
CLOSE_SPIKES = 1e-3
CLOSE_GRADIENT = 1e-2
CLOSE_VALUES = 1e-4
BINARY = {"neuron", "linear"}
"""Workloads whose output is spikes; that of the others are potentials or scores."""


@dataclass(frozen=True)
class Verdict:
    """``kind`` is "same", "close" or "different"; ``text`` says how close, or in what.

    ``output_error`` is the share of spikes that differ, or where the output is no spikes the
    relative error of its values; ``gradient_error`` is relative, None in inference.
    """

    kind: str
    text: str
    output_error: float
    gradient_error: float | None


def judge(
    workload: str,
    dtype: str,
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    differs: str = "",
) -> Verdict:
    """Compare outcomes on the same input; ``differs`` is what a peer is known to do otherwise."""
    spikes = workload in BINARY
    error = share_differing if spikes else relative_error
    output = error(theirs["output"], ours["output"])
    gradient = None
    if "gradient" in ours:
        gradient = relative_error(theirs["gradient"], ours["gradient"])
    kind = _kind(output, 0.0 if gradient is None else gradient, spikes=spikes, dtype=dtype)
    measured = _measured(output, gradient, spikes=spikes)
    if kind == "same":
        text = "same"
    elif kind == "close":
        text = f"close (max difference: {measured})"
    else:
        text = f"different ({'; '.join(filter(None, [differs, measured]))})"
    return Verdict(kind, text, output, gradient)


def _kind(output: float, gradient: float, *, spikes: bool, dtype: str) -> str:
    tolerated = 0.0 if spikes else SAME_GRADIENT[dtype]
    if output <= tolerated and gradient <= SAME_GRADIENT[dtype]:
        return "same"
    near = CLOSE_SPIKES if spikes else CLOSE_VALUES
    close = output <= max(near, tolerated)
    if close and gradient <= max(CLOSE_GRADIENT, SAME_GRADIENT[dtype]):
        return "close"
    return "different"


def _measured(output: float, gradient: float | None, *, spikes: bool) -> str:
    what = f"{output:.2g} of the spikes" if spikes else f"output {output:.1e}"
    return what if gradient is None else f"{what}, gradient {gradient:.1e}"


def share_differing(got: np.ndarray, expected: np.ndarray) -> float:
    """The share of elements that are not equal; all of them if the shapes differ."""
    if got.shape != expected.shape:
        return 1.0
    return float(np.mean(got != expected)) if expected.size else 0.0


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """norm(got - expected) / norm(expected); infinite if the shapes differ or one is not finite."""
    if got.shape != expected.shape or not np.isfinite(got).all():
        return float("inf")
    wide = expected.astype(np.float64)
    return float(np.linalg.norm(got - wide) / (np.linalg.norm(wide) or 1.0))
