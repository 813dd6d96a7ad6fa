"""Memory layouts and sizes: no copy where the lanes are dense, the input's layout in the output."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from snnkernels import functional, neuron, surrogate
from snnkernels._backends import headers

from .cases import CASES, DTYPES, assert_same_bits, randn, run

LIF = CASES[1]


class Copies(TorchDispatchMode):
    """Counts the copies of tensors of at least ``size`` elements."""

    NAMES = ("aten::clone", "aten::copy_", "aten::_to_copy", "aten::contiguous")

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.seen = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().split(".")[0] in self.NAMES and args[0].numel() >= self.size:
            self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def five_dimensional() -> torch.Tensor:
    return randn(20, 3, 6, 4, 5)


DENSE = {
    "contiguous": lambda: five_dimensional(),
    "channels_last": lambda: (
        five_dimensional()
        .view(60, 6, 4, 5)
        .contiguous(memory_format=torch.channels_last)
        .view(20, 3, 6, 4, 5)
    ),
    "every_other_step": lambda: five_dimensional()[::2],
    "step_permuted": lambda: five_dimensional().permute(0, 3, 1, 4, 2),
    "offset": lambda: randn(20 * 360 + 1)[1:].view(20, 3, 6, 4, 5),
    "constant_over_time": lambda: five_dimensional()[:1].expand(20, -1, -1, -1, -1),
}
OTHER = {
    "time_innermost": lambda: randn(3, 6, 40, 20).permute(3, 0, 1, 2),
    "batch_before_time": lambda: randn(3, 20, 6, 40).transpose(0, 1),
    "every_other_neuron": lambda: randn(20, 3, 6, 80)[..., ::2],
    "expanded_channel": lambda: randn(20, 3, 1, 40).expand(20, 3, 6, 40),
}


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("make", DENSE.values(), ids=DENSE)
def test_dense_lanes_are_used_without_a_copy_and_keep_their_layout(make, backward):
    x = make().requires_grad_()
    grad = torch.randn_like(x)
    with Copies(x[0].numel()) as copies:
        out, v = functional.lif(x, backend="native")
        if backward:
            (grad_x,) = torch.autograd.grad(out, x, grad)
    assert copies.seen == []
    assert out[0].stride() == x[0].stride() and v.stride() == x[0].stride()
    if backward:
        assert grad_x[0].stride() == x[0].stride()
    assert_same_bits(
        out.detach(), run(LIF, x.contiguous(), "torch", tau=2.0, v_threshold=1.0)[0][0]
    )


@pytest.mark.parametrize("make", OTHER.values(), ids=OTHER)
def test_other_strides_are_copied_once(make):
    x = make().requires_grad_()
    with Copies(x.numel()) as copies:
        out, _ = functional.lif(x, backend="native")
        torch.autograd.grad(out, x, torch.randn(out.shape))
    assert len(copies.seen) == 1
    expected, _ = functional.lif(x, backend="torch")
    assert_same_bits(out.detach(), expected.detach())


INCOMING = {
    "dense": lambda out: torch.randn_like(out),
    "expanded_scalar": lambda out: torch.ones(()).expand_as(out),
    "constant_over_time": lambda out: torch.randn_like(out[:1]).expand_as(out),
    "transposed": lambda out: torch.randn(*reversed(out.shape)).permute(
        *reversed(range(out.dim()))
    ),
    "strided": lambda out: torch.randn(*out.shape[:-1], 2 * out.shape[-1])[..., ::2],
}


@pytest.mark.parametrize("make", INCOMING.values(), ids=INCOMING)
def test_incoming_gradients_may_have_any_strides(make):
    gradients = []
    for backend in ("native", "torch"):
        torch.manual_seed(3)
        x = randn(20, 3, 7).requires_grad_()
        out, _ = functional.lif(x, backend=backend, surrogate_function=surrogate.ATan())
        gradients += torch.autograd.grad(out, x, make(out))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [(0, 3, 4), (5, 0, 4), (5, 3, 0), (1, 1, 1), (17, 1, 1), (3, 7), (16, 2, 127), (33, 1, 257)],
    ids=str,
)
def test_any_size_works_forward_and_backward(shape, dtype):
    for case in CASES:
        outputs, gradients = run(case, randn(*shape, dtype=dtype), "native")
        expected, expected_gradients = run(case, randn(*shape, dtype=dtype), "torch")
        for actual, out in zip(outputs, expected, strict=True):
            assert_same_bits(actual, out)
        assert gradients[0].shape == expected_gradients[0].shape


@pytest.mark.parametrize("shape", [(5, 2, 0), (5, 0, 3), (0, 2, 3)], ids=str)
def test_learnt_parameters_of_no_neurons_get_gradients_of_their_shape(shape):
    for learnt in (torch.full(shape[2:], 2.0), torch.tensor(2.0)):
        for kind in (neuron.LIFNode, neuron.ALIFNode):
            tau = nn.Parameter(learnt)
            node = kind(tau=tau, step_mode="m", backend="native")
            x = randn(*shape).requires_grad_()
            spikes = node(x)
            grad_x, grad = torch.autograd.grad(spikes.sum() + node.v.sum(), [x, tau])
            assert grad_x.shape == x.shape
            assert grad.shape == tau.shape
            assert not grad.any()


@pytest.mark.parametrize("offset", [1, 3, 7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_misaligned_storage_gives_the_same_bits(dtype, offset):
    aligned = randn(19, 4, 33, dtype=dtype)
    storage = torch.empty(aligned.numel() + offset, dtype=dtype)
    misaligned = storage[offset:].view(aligned.shape)
    misaligned.copy_(aligned)
    x = misaligned.requires_grad_()
    out, _ = functional.lif(x, backend="native")
    assert_same_bits(out.detach(), functional.lif(aligned, backend="native")[0])


def test_gradients_of_unused_outputs_are_not_needed():
    x = randn(20, 3, 7).requires_grad_()
    _, v, v_seq = functional.lif(x, backend="native", return_v_seq=True)
    expected_x = randn(20, 3, 7).requires_grad_()
    _, expected_v, expected_seq = functional.lif(expected_x, backend="torch", return_v_seq=True)
    (from_v,) = torch.autograd.grad(v.sum(), x, retain_graph=True)
    (from_seq,) = torch.autograd.grad(v_seq.sum(), x)
    (expected,) = torch.autograd.grad(expected_v.sum(), expected_x, retain_graph=True)
    torch.testing.assert_close(from_v, expected)
    (expected,) = torch.autograd.grad(expected_seq.sum(), expected_x)
    torch.testing.assert_close(from_seq, expected)


@pytest.mark.parametrize("steps", [4, 16, 64, 128])
def test_little_is_saved_for_backward_beside_the_input(steps):
    x = randn(steps, 8, 64).requires_grad_()
    saved = []

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() != x.untyped_storage().data_ptr():
            saved.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        functional.lif(x, backend="native")
    assert sum(saved) <= x.numel() * 4 / 8


def test_inference_saves_and_writes_nothing_for_backward():
    x = randn(64, 8, 64)
    seen = []

    class Allocations(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if "scan_forward" in func.name():
                seen.extend(t.numel() for t in out)
            return out

    with Allocations(), torch.no_grad():
        functional.lif(x, backend="native")
    assert seen == [x.numel(), 0, 8 * 64, 0]


def test_arrays_written_around_the_caches_have_the_same_bits():
    """An output of 16 MB or more is streamed; the narrower one of the same lanes is not."""
    x = randn(33, 4, 4096 * 8)
    whole = x.clone().requires_grad_()
    out, v, v_seq = functional.lif(whole, backend="native", return_v_seq=True)
    (grad,) = torch.autograd.grad(out.sum() + v_seq.sum(), whole)
    for part in (slice(0, 1001), slice(1001, None)):
        piece = x[..., part].contiguous().requires_grad_()
        part_out, part_v, part_seq = functional.lif(piece, backend="native", return_v_seq=True)
        (part_grad,) = torch.autograd.grad(part_out.sum() + part_seq.sum(), piece)
        assert_same_bits(part_out, out[..., part])
        assert_same_bits(part_v, v[..., part])
        assert_same_bits(part_seq, v_seq[..., part])
        assert_same_bits(part_grad, grad[..., part])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [0, 5, 16], ids=["even", "odd", "part_of_a_block"])
def test_what_is_stored_past_the_caches_is_the_same(width, dtype):
    lanes = headers.LAUNCH["SNN_CPU_STREAM_BYTES"] // (8 * dtype.itemsize) + width
    x = randn(9, 1, lanes, dtype=dtype)
    assert x.nbytes > headers.LAUNCH["SNN_CPU_STREAM_BYTES"]
    surrogate_function = surrogate.ATan()
    outputs, (grad,) = run(LIF, x, "native", surrogate_function=surrogate_function)
    expected, (wanted,) = run(LIF, x, "torch", surrogate_function=surrogate_function)
    for actual, e in zip(outputs, expected, strict=True):
        assert_same_bits(actual, e)
    torch.testing.assert_close(grad, wanted)


@pytest.mark.parametrize("neuron", [functional.lif, functional.cuba_lif])
@pytest.mark.parametrize("offset", [0, 1], ids=["aligned", "not aligned"])
def test_tiles_that_are_stored_past_the_caches_are_the_same(offset, neuron):
    """Outputs, checkpoints and states, from a state that is carried on; x may lie anywhere."""
    steps = 33
    lanes = headers.LAUNCH["SNN_CPU_STREAM_BYTES"] // (4 * steps) // 16 * 16 + 16
    memory = 2 * randn(steps * lanes + 1)
    x = memory[offset : offset + steps * lanes].view(steps, 1, lanes)
    assert x.nbytes > headers.LAUNCH["SNN_CPU_STREAM_BYTES"]
    v = randn(1, lanes, seed=1)
    upstream = randn(steps, 1, lanes, seed=2)
    found = {}
    for backend in ("native", "torch"):
        whole = x.detach().requires_grad_()
        out, *states = neuron(whole, v, backend=backend)
        (grad,) = torch.autograd.grad(out, whole, upstream)
        with torch.no_grad():
            assert_same_bits(neuron(x, v, backend=backend)[0], out.detach())
        found[backend] = [out.detach(), *(state.detach() for state in states)], grad
    for ours, theirs in zip(found["native"][0], found["torch"][0], strict=True):
        assert_same_bits(ours, theirs)
    torch.testing.assert_close(found["native"][1], found["torch"][1])


def with_a_value_per_neuron(function, name):
    def neuron(x, v, **options):
        return function(x, v, **{name: torch.linspace(1.1, 2, x.shape[-1])}, **options)

    return neuron


@pytest.mark.parametrize(
    "neuron",
    [
        functional.lif,
        functional.if_,
        functional.cuba_lif,
        partial(functional.parametric_lif, w=torch.tensor(0.3)),
        partial(functional.lif, v_threshold=torch.tensor(0.8)),
        with_a_value_per_neuron(functional.parametric_lif, "w"),
        with_a_value_per_neuron(functional.lif, "tau"),
        with_a_value_per_neuron(functional.cuba_lif, "v_threshold"),
    ],
    ids=["lif", "if", "cuba", "plif", "lif_tensor", "plif_table", "lif_table", "cuba_table"],
)
@pytest.mark.parametrize("lanes", [127, 128, 129, 300, 1024])
@pytest.mark.parametrize("steps", [1, 16, 33])
def test_lanes_that_fill_tiles_of_registers_and_those_left_over_are_the_same(steps, lanes, neuron):
    """The states of whole tiles stay in registers over the steps, with and without a gradient."""
    x = 2 * randn(steps, 1, lanes)
    v = randn(1, lanes, seed=1)
    for state in (None, v):
        expected = neuron(x, state, backend="torch")
        for wanted in (x, x.clone().requires_grad_()):
            for actual, e in zip(neuron(wanted, state, backend="native"), expected, strict=True):
                assert_same_bits(actual.detach(), e)
    needs_grad = x.clone().requires_grad_()
    grads = [
        torch.autograd.grad(neuron(needs_grad, v, backend=b)[0].sum(), needs_grad)[0]
        for b in ("native", "torch")
    ]
    torch.testing.assert_close(*grads)
