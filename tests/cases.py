"""Neurons and settings that several test files go through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from snnkernels import functional, surrogate
from snnkernels._backends import headers, kernels, operators
from snnkernels._call import route


@dataclass(frozen=True)
class Case:
    """A neuron as a function, with settings that make it neither silent nor always firing."""

    name: str
    function: Callable[..., tuple[Tensor, ...]]
    settings: dict[str, Any] = field(default_factory=dict)
    learnable: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


CASES = [
    Case("if", functional.if_, {"v_threshold": 0.9}, ("v_threshold", "v_reset")),
    Case(
        "lif", functional.lif, {"tau": 2.3, "v_threshold": 0.6}, ("tau", "v_threshold", "v_reset")
    ),
    Case(
        "lif_without_input_decay",
        functional.lif,
        {"tau": 3.1, "decay_input": False},
        ("tau", "v_threshold", "v_reset"),
    ),
    Case("plif", functional.parametric_lif, {"w": 0.3, "v_threshold": 0.7}, ("w", "v_threshold")),
    Case(
        "plif_without_input_decay",
        functional.parametric_lif,
        {"w": 0.3, "decay_input": False},
        ("w", "v_reset"),
    ),
    Case(
        "cuba",
        functional.cuba_lif,
        {"alpha": 0.6, "beta": 0.8},
        ("alpha", "beta", "v_threshold", "v_reset"),
    ),
]
RESETS = {"hard": 0.0, "hard_below_zero": -0.25, "soft": None}
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
SURROGATES = [cls() for cls in surrogate.BUILT_IN]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed)).to(dtype)


def forget_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls find their kernels anew."""
    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(route, "_routes", {})
    monkeypatch.setattr(route, "_plans", {})


def lif_attributes() -> operators.Attributes:
    """What the CPU's operators take for a LIF besides tensors."""
    return operators.Attributes(
        neuron=headers.NUMBERS["LIF"],
        surrogate=headers.NUMBERS["ATan"],
        numbers=[0.0, 2.0, 1.0, 0.0, 2.0],
        layout=[],
        state_count=1,
        param_count=3,
        hard_reset=True,
        detach_reset=False,
        decay_input=True,
        spiking=True,
        chunk=operators.chunk_length("cpu"),
        outputs=1,
    )


def run(
    case: Case, x: Tensor, backend: str, *, gradients: bool = True, **overrides: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and, by a random projection of them, gradients of x and of every tensor given."""
    settings = {**case.settings, **overrides}
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(gradients)
    leaves = [x]
    for name, value in settings.items():
        if isinstance(value, Tensor):
            settings[name] = value.detach().clone().requires_grad_(gradients)
            leaves.append(settings[name])
    outputs = case.function(x, backend=backend, return_v_seq=True, **settings)
    if not gradients:
        return list(outputs), []
    loss = sum(
        (out.double() * randn(*out.shape, dtype=torch.float64, seed=seed)).sum()
        for seed, out in enumerate(outputs, start=10)
    )
    return [o.detach() for o in outputs], list(torch.autograd.grad(loss, leaves))


def assert_same_bits(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


def assert_gradients_close(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Relative to the largest gradient of each tensor, as sums over steps cancel."""
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}.get(e.dtype, 2e-2)
        scale = e.double().abs().max().item() if e.numel() else 1.0
        torch.testing.assert_close(
            a.double(), e.double(), rtol=tolerance, atol=tolerance * max(scale, 1e-30)
        )
