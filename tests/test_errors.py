"""Bad input: each error names the argument, what was got and what was expected."""

from __future__ import annotations

import re

import pytest
import torch

from snnkernels import functional, neuron, surrogate
from snnkernels._backends import operators

from .cases import lif_attributes

X = torch.zeros(4, 3, 5)


def lif(**settings):
    return lambda: functional.lif(settings.pop("x", X), **settings)


BAD_CALLS = {
    "integer_input": (lif(x=torch.zeros(4, 3, dtype=torch.int64)), TypeError, "x_seq", "int64"),
    "boolean_input": (lif(x=torch.zeros(4, 3) > 0), TypeError, "x_seq", "bool"),
    "complex_input": (lif(x=torch.zeros(4, 3) * 1j), TypeError, "x_seq", "complex64"),
    "not_a_tensor": (lif(x=[1.0, 2.0]), TypeError, "x_seq", "[1.0, 2.0] (list)"),
    "sparse_input": (lif(x=torch.zeros(4, 3).to_sparse()), TypeError, "x_seq", "sparse"),
    "wrong_rank": (lif(x=torch.zeros(4)), ValueError, "x_seq", "(4,)"),
    "tau_below_one": (lif(tau=0.5), ValueError, "tau", "0.5"),
    "tau_not_finite": (lif(tau=float("inf")), ValueError, "tau", "inf"),
    "tau_a_string": (lif(tau="2"), TypeError, "tau", "'2' (str)"),
    "tau_does_not_broadcast": (lif(tau=torch.ones(4)), ValueError, "tau", "(4,)"),
    "threshold_has_too_many_dimensions": (
        lif(v_threshold=torch.ones(2, 3, 5)),
        ValueError,
        "v_threshold",
        "(2, 3, 5)",
    ),
    "reset_does_not_broadcast": (lif(v_reset=torch.ones(3, 4)), ValueError, "v_reset", "(3, 4)"),
    "reset_of_integers": (
        lif(v_reset=torch.zeros(5, dtype=torch.int32)),
        TypeError,
        "v_reset",
        "int32",
    ),
    "parameter_too_wide": (lif(tau=torch.tensor(2.0).double()), TypeError, "tau", "float64"),
    "parameter_on_another_device": (
        lif(tau=torch.ones(5, device="meta")),
        ValueError,
        "tau",
        "meta",
    ),
    "state_of_another_shape": (lif(v=torch.zeros(3, 6)), ValueError, "v has shape", "(3, 6)"),
    "state_a_string": (lif(v="0"), TypeError, "v must be", "'0' (str)"),
    "state_on_another_device": (lif(v=torch.zeros(3, 5, device="meta")), ValueError, "v", "meta"),
    "state_too_wide": (lif(v=torch.zeros(3, 5).double()), TypeError, "v", "float64"),
    "surrogate_class": (
        lif(surrogate_function=surrogate.ATan),
        TypeError,
        "surrogate_function",
        "ATan",
    ),
    "surrogate_name": (lif(surrogate_function="atan"), TypeError, "surrogate_function", "'atan'"),
    "detach_reset_a_number": (lif(detach_reset=1), TypeError, "detach_reset", "1 (int)"),
    "decay_input_a_string": (lif(decay_input="no"), TypeError, "decay_input", "'no' (str)"),
    "unknown_backend": (lif(backend="cuda"), ValueError, "backend", "'cuda'"),
    "native_on_a_device_without_kernels": (
        lif(x=torch.zeros(4, 3, device="meta"), backend="native"),
        ValueError,
        "native",
        "meta",
    ),
    "alpha_above_one": (lambda: functional.cuba_lif(X, alpha=1.5), ValueError, "alpha", "1.5"),
    "beta_below_zero": (lambda: functional.cuba_lif(X, beta=-0.1), ValueError, "beta", "-0.1"),
    "current_of_another_shape": (
        lambda: functional.cuba_lif(X, 0.0, torch.zeros(2)),
        ValueError,
        "i has shape",
        "(2,)",
    ),
    "w_a_string": (lambda: functional.parametric_lif(X, w="0"), TypeError, "w", "'0' (str)"),
    "node_tau_below_one": (lambda: neuron.LIFNode(tau=0.9), ValueError, "tau", "0.9"),
    "node_init_tau_one": (
        lambda: neuron.ParametricLIFNode(init_tau=1.0),
        ValueError,
        "init_tau",
        "1.0",
    ),
    "node_step_mode": (lambda: neuron.LIFNode(step_mode="x"), ValueError, "step_mode", "'x'"),
    "node_backend": (lambda: neuron.LIFNode(backend="gpu"), ValueError, "backend", "'gpu'"),
    "node_surrogate": (
        lambda: neuron.LIFNode(surrogate_function=surrogate.Sigmoid),
        TypeError,
        "surrogate_function",
        "Sigmoid",
    ),
    "node_monitor": (lambda: neuron.LIFNode(monitor_state=1), TypeError, "monitor_state", "1"),
    "node_rank": (
        lambda: neuron.LIFNode(step_mode="m")(torch.zeros(3)),
        ValueError,
        "x_seq",
        "(3,)",
    ),
    "node_scalar": (lambda: neuron.LIFNode()(torch.tensor(1.0)), ValueError, "x must", "()"),
    "node_tau_set_later": (
        lambda: set_and_call(neuron.LIFNode(), tau=0.2),
        ValueError,
        "tau",
        "0.2",
    ),
    "net_not_a_module": (lambda: functional.reset_net([1]), TypeError, "net", "[1] (list)"),
    "net_step_mode": (
        lambda: functional.set_step_mode(neuron.LIFNode(), "t"),
        ValueError,
        "step_mode",
        "'t'",
    ),
}


def set_and_call(node, **attributes):
    for name, value in attributes.items():
        setattr(node, name, value)
    node(X)


@pytest.mark.parametrize(("call", "kind", "name", "got"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_input_is_refused_naming_the_argument_and_what_was_got(call, kind, name, got):
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert name in message and got in message, message
    assert re.search(r"must|expected|shape|kernels|input's device", message), message


def test_a_changed_shape_with_carried_state_says_to_reset():
    node = neuron.LIFNode(step_mode="m")
    node(torch.zeros(4, 3, 5))
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(2, 5\).*reset") as caught:
        node(torch.zeros(4, 2, 5))
    assert "reset_net" in str(caught.value)
    assert node.v.shape == (3, 5)
    node.reset()
    assert node(torch.zeros(4, 2, 5)).shape == (4, 2, 5)


def test_a_refused_call_leaves_the_state_as_it_was():
    node = neuron.LIFNode()
    node(torch.ones(3))
    before = node.v.clone()
    with pytest.raises(TypeError):
        node(torch.ones(3, dtype=torch.int32))
    assert torch.equal(node.v, before)


def test_the_operators_check_what_a_direct_caller_hands_them():
    functional.lif(X, backend="native")
    good = {
        "x": torch.zeros(4, 15),
        "states": None,
        "tables": None,
        **lif_attributes()._asdict(),
        "store_v": False,
        "keep": False,
    }
    call = torch.ops.snnkernels.scan_forward
    call(**good)
    for change, message in [
        ({"neuron": 1}, "neuron: no kernel's name has the number 1"),
        ({"surrogate": 2}, "surrogate: no kernel's name has the number 2"),
        ({"x": torch.zeros(4, 15, dtype=torch.int32)}, "x: expected float64"),
        ({"x": torch.zeros(4)}, r"x: expected \[T, ...\], 2 dimensions, got 1"),
        ({"x": torch.zeros(15, 4).t()}, "x: expected steps whose elements lie side by side"),
        ({"x": torch.zeros(4, 5, 3).mT}, "x: expected steps whose elements lie side by side"),
        ({"state_count": 2}, "state_count: expected 1, got 2"),
        ({"param_count": 4}, "param_count: expected 3, got 4"),
        ({"numbers": [0.0] * 3}, "numbers: expected 4 and at most 8 of the surrogate, got 3"),
        ({"numbers": [0.0] * 13}, "numbers: expected 4 and at most 8 of the surrogate, got 13"),
        ({"layout": [0]}, "layout: expected 6 entries, got 1"),
        ({"tables": torch.ones(4)}, "layout: expected 6 entries, got 0"),
        ({"states": torch.zeros(14)}, "states: expected size 15"),
        ({"states": torch.zeros(1, 15)}, "states: expected 1 dimensions, got 2"),
        ({"states": torch.zeros(15).double()}, "states: expected float32"),
        ({"chunk": 5}, "chunk: this library was built for 16, got 5"),
        ({"outputs": 2}, "outputs: expected 1, got 2"),
        ({"tables": torch.ones(4), "layout": [4, 0, 0, 1, 1, 1]}, "do not divide 15 lanes"),
        ({"tables": torch.ones(4), "layout": [5, 0, 0, 1, 1, 1]}, "tables: expected size 5"),
        ({"layout": [5, 0, 0, 1, 1, 1]}, "tables: expected a tensor"),
        ({"tables": torch.ones(4), "layout": [2**32, 0, 0, 2**32, 1, 1]}, "do not divide 15 lanes"),
    ]:
        with pytest.raises(RuntimeError, match=message):
            call(**{**good, **change})
        with pytest.raises(RuntimeError, match=message):
            eager(**{**good, **change})


def eager(x, states, tables, store_v, keep, **attributes):
    packed = operators.Attributes(**attributes).packed()
    return torch.ops.snnkernels.eager_forward(x, states, tables, packed, store_v, keep)


def test_the_eager_operators_check_what_stands_for_the_attributes():
    functional.lif(X, backend="native")
    x, packed = torch.zeros(17, 15), lif_attributes().packed()
    spikes, v_seq, states, checkpoints = torch.ops.snnkernels.eager_forward(
        x, None, None, packed, False, False
    )
    assert spikes.shape == x.shape and states.shape == (15,)
    assert v_seq is None and checkpoints is None
    for wrong in (packed.int(), packed[:11], packed[::2], packed[None]):
        with pytest.raises(RuntimeError, match="packed: expected the attributes as int64"):
            torch.ops.snnkernels.eager_forward(x, None, None, wrong, False, False)
    for change in (
        packed[:-1],
        torch.cat([torch.tensor([-1]), packed[1:]]),
        torch.full((17,), 2**62),
    ):
        with pytest.raises(RuntimeError, match="packed: expected"):
            torch.ops.snnkernels.eager_forward(x, None, None, change, False, False)
    with pytest.raises(RuntimeError, match="checkpoints: expected 15 elements"):
        torch.ops.snnkernels.eager_backward(x, None, None, None, x, None, None, packed, False)


SPARSE = torch.full((5,), 2.0).to_sparse()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_sparse_and_nested_tensors_are_refused_with_the_arguments_name(backend):
    nested = torch.nested.nested_tensor([torch.rand(2, 3), torch.rand(3, 3)])
    for name, arguments in {
        "x_seq": {"x_seq": nested},
        "tau": {"tau": SPARSE},
        "v": {"v": torch.zeros(3, 5).to_sparse()},
        "v_threshold": {"v_threshold": nested},
        "v_reset": {"v_reset": SPARSE},
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} must be a dense tensor, got a "):
            functional.lif(**{"x_seq": X, "backend": backend, **arguments})
    for x in (nested, torch.zeros(3, 5).to_sparse()):
        with pytest.raises(TypeError, match="^x must be a dense tensor, got a "):
            functional.poisson_encode(x, 3, backend=backend)


@pytest.mark.parametrize("value", ["a", 1, None])
def test_return_v_seq_must_be_true_or_false(value):
    with pytest.raises(TypeError, match="return_v_seq must be True or False"):
        functional.lif(X, return_v_seq=value)


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("kind", [neuron.LIFNode, neuron.CubaLIFNode, neuron.KLIFNode])
def test_a_state_that_inference_mode_made_is_carried_into_training(kind, backend):
    node, twin = (kind(step_mode="m", backend=backend) for _ in range(2))
    x = torch.rand(4, 3, 5)
    with torch.inference_mode():
        node(x)
    with torch.no_grad():
        twin(x)
    gradients = []
    for one in (node, twin):
        y = x.clone().requires_grad_()
        gradients += torch.autograd.grad(one(y).sum() + one.v.sum(), y)
    assert torch.equal(*gradients)
