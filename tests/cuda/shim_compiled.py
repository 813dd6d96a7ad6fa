"""Run by test_shim.py under `shim.plugin`: the CUDA kernels of compiled neurons."""

import pytest
import torch

from snnkernels import functional, surrogate
from snnkernels._backends import kernels
from snnkernels._call import by_kernel

from ..cases import DTYPES, randn
from ..test_compile_neuron import Adaptive, Bare, Exact, Sixteen, TwoFires, compare, hat
from .shim.plugin import last_grid
from .shim_cases import SIZES, K, backward_width


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", [Adaptive, TwoFires, Exact], ids=lambda cls: cls.__name__)
def test_every_size_agrees_with_the_step(cls, dtype):
    for steps, lanes in SIZES:
        compare(cls, randn(steps, 1, lanes, dtype=dtype) * 1.5)
        assert last_grid()[0] == backward_width(dtype, lanes, sums=bool(cls.equations.learnable))


def test_a_neuron_may_have_no_parameters_or_sixteen_tables():
    compare(Bare, randn(K + 3, 3, 7))
    values = {name: torch.rand(7) for name in Sixteen.equations.params}
    compare(Sixteen, randn(K + 3, 3, 7), **values)


def test_tables_and_states_reach_every_lane():
    x = randn(19, 3, 6, 5)
    states = {"v": randn(3, 6, 5, seed=1), "a": randn(3, 6, 5, seed=2)}
    compare(Adaptive, x, rho=torch.rand(6), states=states)
    compare(Adaptive, x, tau=torch.rand(6, 5) + 1.5, v_threshold=torch.rand(()))


def test_an_empty_table_is_none():
    """Its kernels and the plan of their grid have to be of one mind."""
    node = TwoFires(step_mode="m", backend="native")
    function = node.surrogate_function.key
    options = (("detach_reset", False),)
    forms = ("number",) * 3
    kernel = kernels.kernel_for(
        node.equations.key, options, forms, function, True, False, "native", "cpu"
    )
    params = [0.4, 1.1, -0.1]
    plan = by_kernel.new_plan(kernel, (0.0, 0.25), params, node.surrogate_function, "cpu")
    attributes = plan.attributes
    x = randn(K + 3, 1000, dtype=torch.float16)
    scan = getattr(torch.ops, kernel[0])
    out, _, _, checkpoints = scan.scan_forward(x, None, None, *attributes, False, True)
    gradients = torch.ones_like(out), None, None
    expected = scan.scan_backward(x, None, None, checkpoints, *gradients, *attributes, False)
    attributes = attributes._replace(layout=[0] * 6)
    empty = torch.empty(0)
    found = scan.scan_backward(x, None, empty, checkpoints, *gradients, *attributes, False)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0)


def test_a_custom_surrogate_reaches_a_built_in_neuron():
    x = randn(19, 3, 10).requires_grad_()
    grads = []
    for backend in ("native", "torch"):
        out, _ = functional.lif(x, surrogate_function=hat(), backend=backend)
        grads.append(torch.autograd.grad(out.sum(), x)[0])
    torch.testing.assert_close(*grads)


def test_the_primitive_is_emitted():
    x = randn(19, 3, 10)
    function = surrogate.Sigmoid(spiking=False)
    outs = [
        functional.lif(x, surrogate_function=hat(spiking=False), backend=backend)[0]
        for backend in ("native", "torch")
    ]
    torch.testing.assert_close(*outs)
    node = TwoFires(step_mode="m", backend="native", surrogate_function=function)
    eager = TwoFires(step_mode="m", backend="torch", surrogate_function=function)
    for actual, expected in zip(node(x), eager(x), strict=True):
        torch.testing.assert_close(actual, expected)
