"""Run by test_shim.py under `shim.nvrtc_plugin`: the cupy backend's operators in PyTorch."""

import pytest
import torch

from snnkernels import functional, surrogate
from snnkernels._backends import operators

from ..cases import CASES, assert_same_bits, randn, run
from ..test_compile import arguments

OPERATORS = torch.ops.snnkernels_cupy


@pytest.mark.parametrize("states", [False, True], ids=["numbers", "states"])
@pytest.mark.parametrize("tables", [False, True], ids=["numbers", "tables"])
@pytest.mark.parametrize("states_of", [1, 2])
def test_opcheck_passes_for_both_directions(states_of, tables, states):
    given = arguments(tables, states, states_of=states_of)
    torch.library.opcheck(OPERATORS.scan_forward.default, given)
    forward = [a.detach() if isinstance(a, torch.Tensor) else a for a in given]
    spikes, v_seq, after, checkpoints = OPERATORS.scan_forward(*forward)
    gradients = torch.randn_like(spikes), torch.randn_like(v_seq), torch.randn_like(after)
    backward = (*forward[:3], checkpoints, *gradients, *forward[3:-2], tables)
    torch.library.opcheck(OPERATORS.scan_backward.default, backward)


def test_opcheck_passes_for_the_operators_on_spikes():
    keys = torch.arange(3)
    torch.library.opcheck(OPERATORS.poisson_encode.default, (randn(3, 10), keys, torch.float32))
    x = (randn(70) > 0).float()
    torch.library.opcheck(OPERATORS.pack_spikes.default, (x,))
    words, _ = OPERATORS.pack_spikes(x)
    torch.library.opcheck(OPERATORS.unpack_spikes.default, (words, 70, torch.float32))


def test_the_native_operators_give_the_same_bits():
    for given in (arguments(True, True), arguments(False, False, dtype=torch.float64)):
        given = [a.detach() if isinstance(a, torch.Tensor) else a for a in given]
        ours, native = OPERATORS.scan_forward(*given), torch.ops.snnkernels.scan_forward(*given)
        for actual, expected in zip(ours, native, strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neuron": 1}, "neuron: expected the number of a kernel's name, got 1"),
        ({"x": randn(37, 12).int()}, "x: expected float64, float32, float16 or bfloat16, got tor"),
        ({"x": randn(37, 12).T.contiguous().T}, "x: expected steps whose elements lie side"),
        ({"states": randn(2, 11)}, r"states: expected \(2, 12\), got \(2, 11\)"),
        ({"states": randn(2, 12).double()}, "states: expected torch.float32, got torch.float64"),
        ({"state_count": 1}, "state_count: expected 2, got 1"),
        ({"param_count": 3}, "param_count: expected 4, got 3"),
        ({"numbers": [0.0]}, "numbers: expected 6 and the surrogate's, at most 14, got 1"),
        ({"numbers": [0.0] * 15}, "numbers: expected 6 and the surrogate's, at most 14, got 15"),
        ({"layout": [0]}, "layout: expected 8 entries, got 1"),
        ({"layout": [5, 0, 3, 0, 1, 1, 1, 1]}, "layout: expected a product that divides the lane"),
        ({"surrogate": 2}, "surrogate: expected the number of a kernel's name, got 2"),
        ({"chunk": 3}, "chunk: expected 4, got 3"),
        ({"outputs": 2}, "outputs: expected 1, got 2"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change, message):
    given = [a.detach() if isinstance(a, torch.Tensor) else a for a in arguments(True, True)]
    names = ["x", "states", "tables", *operators.Attributes._fields, "store_v", "keep"]
    with pytest.raises(ValueError, match=message):
        OPERATORS.scan_forward(**{**dict(zip(names, given, strict=True)), **change})


def test_autograd_refuses_what_kept_nothing_and_what_is_differentiated_twice():
    with pytest.raises(RuntimeError, match=r"snnkernels_cupy\.scan_forward.* needs keep=True"):
        OPERATORS.scan_forward(*arguments(False, False)[:-1], False)
    x = randn(5, 3).requires_grad_()
    (grad,) = torch.autograd.grad(functional.lif(x)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second backward through a fused neuron"):
        grad.sum().backward()


def test_a_compiled_function_has_no_graph_break_and_the_same_results():
    def call(x):
        return functional.lif(x, tau=3.0, surrogate_function=surrogate.ATan())[0]

    x = randn(12, 3, 6).requires_grad_()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(x), call(x))
    (ours,) = torch.autograd.grad(compiled(x).sum(), x)
    (expected,) = torch.autograd.grad(call(x).sum(), x)
    torch.testing.assert_close(ours, expected)


def test_nothing_ran_on_the_native_operators(monkeypatch):
    monkeypatch.delitem(operators._loaded, "snnkernels")
    for case in CASES:
        run(case, randn(9, 2, 6), "native")
