"""Finite differences of the kernels themselves, with the primitive in place of the step."""

from __future__ import annotations

import pytest
import torch

from snnkernels import surrogate

from .cases import CASES, RESETS, randn

SMOOTH = [
    surrogate.Sigmoid(spiking=False),
    surrogate.ATan(spiking=False),
    surrogate.Gaussian(spiking=False),
    surrogate.PiecewiseExp(spiking=False),
]


@pytest.mark.parametrize("surrogate_function", SMOOTH, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_the_finite_differences_of_the_kernel(case, v_reset, surrogate_function):
    base = {"v_threshold": 1.0, "v_reset": v_reset, **case.settings}
    names = [n for n in case.learnable if base[n] is not None]
    fixed = {key: value for key, value in base.items() if key not in names}
    leaves = [
        randn(18, 2, 3, dtype=torch.float64),
        randn(2, 3, dtype=torch.float64, seed=1),
        *[torch.full((3,), float(base[n]), dtype=torch.float64) for n in names],
    ]
    for leaf in leaves:
        leaf.requires_grad_()

    def call(x, v, *parameters):
        return case.function(
            x,
            v,
            backend="native",
            return_v_seq=True,
            surrogate_function=surrogate_function,
            **fixed,
            **dict(zip(names, parameters, strict=True)),
        )

    assert torch.autograd.gradcheck(call, leaves, fast_mode=True)


def test_the_backward_of_the_backward_is_refused_by_name():
    x = randn(5, 2, 3).requires_grad_()
    out, *_ = CASES[1].function(x, backend="native")
    (grad,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="fused neuron.*backend='torch'"):
        grad.sum().backward()
