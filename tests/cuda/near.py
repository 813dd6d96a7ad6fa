"""Gradients that may be small for no other reason than cancellation."""

import torch
from torch import Tensor

from ..cases import assert_same_bits

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-2}


def assert_gradients_near(actual: list[Tensor], expected: list[Tensor]) -> None:
    """Relative to a tensor's largest gradient, or to what a sum of random terms comes to.

    The first gradient is that of the input: one term for each of its elements.
    """
    for a, e in zip(actual, expected, strict=True):
        assert a.dtype == e.dtype
        if e.numel() == 0:
            continue
        tolerance = TOLERANCE[e.dtype]
        random_sum = max(1.0, expected[0].numel() / e.numel()) ** 0.5
        scale = max(e.double().abs().max().item(), random_sum)
        torch.testing.assert_close(a.double(), e.double(), rtol=tolerance, atol=tolerance * scale)


def assert_near(
    found: tuple[list[Tensor], list[Tensor]],
    expected: tuple[list[Tensor], list[Tensor]],
    exact: bool = True,
) -> None:
    """Of two calls the outputs, to the bit where they should be exact, and the gradients."""
    for actual, wanted in zip(found[0], expected[0], strict=True):
        if exact:
            assert_same_bits(actual, wanted)
        else:
            torch.testing.assert_close(actual, wanted)
    assert_gradients_near(found[1], expected[1])
