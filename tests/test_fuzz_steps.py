"""Random steps of the supported operations: kernels against plain PyTorch and its autograd.

Several expressions are the outputs of one step, so that few kernels are compiled. The oracle calls
each expression on whole tensors itself; nothing of the package takes part in it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import snnkernels

from .properties import Phase, given, settings, st

INF, NAN = float("inf"), float("nan")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.3, 2.5, -2.0, 0.7, INF, -INF, NAN]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.75, 2.0, 3.0]
UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "-{}": torch.neg,
    "{}.abs()": torch.abs,
    "{}.square()": torch.square,
    "relu({})": torch.relu,
    "{}.sign()": torch.sign,
    "{}.floor()": torch.floor,
    "{}.ceil()": torch.ceil,
    "{}.trunc()": torch.trunc,
    "{}.round()": torch.round,
    "{}.detach()": torch.detach,
    "{} ** 2": lambda a: a**2,
    "{} ** 3": lambda a: a**3,
    "1 / {}": torch.reciprocal,
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "{} + {}": torch.add,
    "{} - {}": torch.sub,
    "{} * {}": torch.mul,
    "{} / {}": torch.div,
    "addcdiv(1, {}, {})": lambda a, b: torch.addcdiv(torch.ones_like(a), a, b, value=0.5),
    "where({} > {})": lambda a, b: torch.where(a > b, a, b),
    "where(both)({}, {})": lambda a, b: torch.where((a > 0) & (b <= 1) | (a == b), a, -b),
    "masks added ({}, {})": lambda a, b: ((a > 0) + (b > 0)).to(a) * a,
    "masks multiplied ({}, {})": lambda a, b: ((a > 0) * (b > 0)).to(a) - b,
    "least mask ({}, {})": lambda a, b: torch.minimum(a > 0, b > 0).to(a) + b,
}
WITH_NUMBER: dict[str, Callable[[Tensor, float], Tensor]] = {
    "{} + {}": torch.add,
    "{1} - {0}": torch.rsub,
    "{} * {}": torch.mul,
    "{1} / {0}": lambda a, c: c / a,
    "{}.clamp(min={})": lambda a, c: a.clamp(min=c),
    "{}.clamp(max={})": lambda a, c: a.clamp(max=c),
    "where({0} > 0, {0}, {1})": lambda a, c: torch.where(a > 0, a, c),
    "where({0} > 0, {0}, -{1})": lambda a, c: torch.where(a > 0, a, -c),
    "{}.masked_fill({0} < 0, {})": lambda a, c: a.masked_fill(a < 0, c),
}

Tree = tuple  # ("x",), ("v",), or the name of an operation with its operands: trees and a number

LEAVES = st.sampled_from([("x",), ("v",)])
TREES = st.recursive(
    LEAVES,
    lambda tree: st.one_of(
        st.tuples(st.sampled_from(list(UNARY)), tree),
        st.tuples(st.sampled_from(list(BINARY)), tree, tree),
        st.tuples(st.sampled_from(list(WITH_NUMBER)), tree, st.sampled_from(NUMBERS)),
    ),
    max_leaves=5,
)


def value(tree: Tree, x: Tensor, v: Tensor) -> Tensor:
    name, *operands = tree
    if not operands:
        return x if name == "x" else v
    arguments = [value(o, x, v) if isinstance(o, tuple) else o for o in operands]
    return {**UNARY, **BINARY, **WITH_NUMBER}[name](*arguments)


def bits(values: Tensor) -> Tensor:
    """The bits of numbers; NaN has many, and counts as one."""
    whole = values.view({torch.float32: torch.int32, torch.float64: torch.int64}[values.dtype])
    return torch.where(values.isnan(), 1, whole)


def shown(tree: Tree) -> str:
    name, *operands = tree
    return name.format(*(shown(o) if isinstance(o, tuple) else o for o in operands))


@pytest.mark.slow
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(trees=st.lists(TREES, min_size=12, max_size=12))
def test_random_steps_are_those_of_pytorch_to_the_bit_and_so_are_their_gradients(trees):
    def step(x, v):
        return *(value(tree, x, v) for tree in trees), v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    for dtype in (torch.float32, torch.float64):
        x, v = (
            torch.cartesian_prod(*2 * [torch.tensor(SPECIAL, dtype=dtype)])
            .T.contiguous()
            .requires_grad_()
        )
        node = cls(step_mode="s", backend="native")
        node.v = v
        outputs = node(x)
        for tree, out in zip(trees, outputs, strict=True):
            expected = value(tree, x, v)
            assert torch.equal(bits(out), bits(expected)), shown(tree)
            if dtype == torch.float64 and expected.requires_grad:
                assert_same_gradients(tree, out, expected, (x, v))


def assert_same_gradients(
    tree: Tree, out: Tensor, expected: Tensor, leaves: tuple[Tensor, ...]
) -> None:
    """For finite arguments, and where autograd does not give NaN for a 0 times infinity."""
    found = torch.autograd.grad(out.sum(), leaves, retain_graph=True)
    wanted = torch.autograd.grad(expected.sum(), leaves, retain_graph=True, allow_unused=True)
    for ours, theirs in zip(found, wanted, strict=True):
        theirs = torch.zeros_like(ours) if theirs is None else theirs
        said = leaves[0].isfinite() & leaves[1].isfinite() & ~theirs.isnan()
        torch.testing.assert_close(
            ours[said], theirs[said], rtol=1e-9, atol=1e-9, msg=lambda m: f"{shown(tree)}: {m}"
        )
