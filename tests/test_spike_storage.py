"""functional.spike_storage: one bit for each saved spike, the same gradients to the bit."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from snnkernels import compile_neuron, functional, neuron, reference, spike, surrogate
from snnkernels._spikes import storage
from snnkernels._spikes.storage import _save, _SavedSpikes, _SavedTensor
from snnkernels.functional import poisson_encode

from .cases import assert_same_bits, randn

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def spikes(*shape, dtype=torch.float32):
    return (torch.rand(shape) < 0.3).to(dtype)


@pytest.fixture
def operators():
    functional.lif(randn(2, 2, 2), backend="native")
    return torch.ops.snnkernels


@pytest.fixture
def saved(monkeypatch):
    """What the hooks made of each tensor that autograd saved."""
    kept = []

    def save(tensor):
        kept.append(_save(tensor))
        return kept[-1]

    monkeypatch.setattr(storage, "_save", save)
    return kept


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_packing_and_unpacking_agree_with_the_reference_at_every_size(operators, dtype):
    for count in (0, 1, 31, 32, 33, 511, 512, 513, 40_000, 100_001):
        x = spikes(count, dtype=dtype)
        words, foreign = operators.pack_spikes(x)
        expected, none = reference.pack_spikes(x)
        assert torch.equal(words, expected)
        assert not foreign and not none
        assert torch.equal(operators.unpack_spikes(words, count, dtype), x)
        assert torch.equal(reference.unpack_spikes(words, count, dtype), x)


@pytest.mark.parametrize("value", [-0.0, torch.nan, 0.5, -1.0, 2.0, torch.inf, 1e-7])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_other_number_anywhere_is_found(operators, dtype, value):
    for count in (1, 33, 1000, 100_001):
        for place in {0, count // 2, count - 1}:
            x = spikes(count, dtype=dtype)
            x[place] = value
            if x[place] == 0 and not x[place].signbit():
                continue  # 1e-7 in float16
            assert operators.pack_spikes(x)[1]
            assert reference.pack_spikes(x)[1]


def test_the_number_next_to_one_is_no_spike(operators):
    for dtype in DTYPES:
        x = torch.ones(64, dtype=dtype)
        x[5] = x[5].nextafter(torch.zeros((), dtype=dtype))
        assert operators.pack_spikes(x)[1]


def test_opcheck_passes_for_both_operators(operators):
    x = spikes(100)
    words, _ = operators.pack_spikes(x)
    torch.library.opcheck(operators.pack_spikes.default, (x,))
    torch.library.opcheck(operators.pack_spikes.default, (x.requires_grad_(),))
    torch.library.opcheck(operators.unpack_spikes.default, (words, 100, torch.bfloat16))


class FlatTime(nn.Module):
    """A layer that knows no time, applied to all steps at once."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x_seq):
        return self.layer(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2])


def lif():
    return neuron.LIFNode(step_mode="m")


def linear_net():
    return nn.Sequential(nn.Linear(20, 64), lif(), nn.Linear(64, 48), lif(), nn.Linear(48, 5))


def conv_net():
    layers = []
    for channels in ((3, 8), (8, 8), (8, 4)):
        layers += [
            FlatTime(nn.Conv2d(*channels, 3, padding=1)),
            FlatTime(nn.BatchNorm2d(channels[1])),
            lif(),
        ]
    return nn.Sequential(*layers, FlatTime(nn.AvgPool2d(2)), FlatTime(nn.Flatten()))


def conv_input():
    return randn(4, 2, 3, 8, 8) * 2


def channels_last_input():
    x = conv_input().flatten(0, 1).to(memory_format=torch.channels_last)
    return x.unflatten(0, (4, 2))


class Checkpointed(nn.Module):
    def __init__(self, net: nn.Sequential, use_reentrant: bool) -> None:
        super().__init__()
        self.net, self.use_reentrant = net, use_reentrant

    def forward(self, x_seq):
        first, *rest = self.net
        return checkpoint(
            self.run, nn.Sequential(*rest), first(x_seq), use_reentrant=self.use_reentrant
        )

    @staticmethod
    def run(net, x_seq):
        functional.reset_net(net)  # the second run begins as the first did
        return net(x_seq)


NETS = {
    "linear": (linear_net, lambda: randn(6, 4, 20) * 2),
    "conv": (conv_net, conv_input),
    "channels_last": (
        lambda: conv_net().to(memory_format=torch.channels_last),
        channels_last_input,
    ),
    "checkpoint": (lambda: Checkpointed(conv_net(), False), conv_input),
    "reentrant checkpoint": (lambda: Checkpointed(conv_net(), True), conv_input),
}


def train(net, x_seq, storage: bool, **autocast):
    """Loss and gradients of one step, the backward outside of the context."""
    net.zero_grad()
    functional.reset_net(net)
    leaf = x_seq.clone(memory_format=torch.preserve_format).requires_grad_()
    device = x_seq.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bool(autocast)):
        if storage:
            with functional.spike_storage():
                out = net(leaf)
        else:
            out = net(leaf)
    out.float().square().sum().backward()
    return [out.detach(), leaf.grad, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_gradients_are_the_same_to_the_bit(name, autocast, device):
    build, data = NETS[name]
    torch.manual_seed(0)
    net, x_seq = build().to(device), data().to(device)
    settings = {"dtype": torch.bfloat16} if autocast else {}
    expected = train(net, x_seq, storage=False, **settings)
    for actual, e in zip(train(net, x_seq, storage=True, **settings), expected, strict=True):
        assert_same_bits(actual, e)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_floating_dtype_gives_the_same_gradients(dtype):
    net, x_seq = linear_net().to(dtype), randn(6, 4, 20, dtype=dtype) * 2
    expected = train(net, x_seq, storage=False)
    for actual, e in zip(train(net, x_seq, storage=True), expected, strict=True):
        assert_same_bits(actual, e)


def test_a_double_backward_gives_the_same_gradients():
    x, weight = spikes(8, 40).requires_grad_(), randn(40, 5).requires_grad_()

    def second():
        out = ((x * 1.0) @ weight).pow(3).sum()
        (grad,) = torch.autograd.grad(out, weight, create_graph=True)
        return torch.autograd.grad(grad.square().sum(), [x, weight])

    expected = second()
    with functional.spike_storage():
        actual = second()
    for a, e in zip(actual, expected, strict=True):
        assert_same_bits(a, e)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "transposed"])
def test_strides_are_restored_exactly(layout):
    x = spikes(4, 6, 5, 3)
    if layout == "channels_last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.permute(3, 0, 2, 1)
    kept = _save(x)
    assert isinstance(kept, _SavedSpikes)
    restored = kept.restore()
    assert restored.stride() == x.stride()
    assert torch.equal(restored, x)
    assert restored.dtype == x.dtype


@pytest.mark.parametrize(
    "tensor",
    [
        torch.full((64,), 0.5),
        -torch.zeros(64),
        torch.full((64,), torch.nan),
        torch.ones(64, dtype=torch.int32),
        torch.ones(64, dtype=torch.bool),
        torch.ones(31),
        torch.ones(8, 16)[:, ::2],
        torch.ones(1).expand(64),
        torch.ones(64, requires_grad=True),
        nn.Parameter(torch.ones(64), requires_grad=False),
        torch.ones(64).to_sparse(),
    ],
    ids=lambda t: f"{t.dtype}-{tuple(t.shape)}-{t.layout}",
)
def test_other_tensors_are_left_alone(tensor):
    kept = _save(tensor)
    assert isinstance(kept, _SavedTensor)
    if tensor.layout == torch.strided:
        assert kept.restore().data_ptr() == tensor.data_ptr()


def test_a_saved_spike_takes_one_bit_and_its_tensor_is_let_go(saved):
    x = spikes(100, 320)
    storage = weakref.ref(x.untyped_storage())
    weight = randn(320, 10).requires_grad_()
    with functional.spike_storage():
        out = x @ weight
    del x
    gc.collect()
    assert storage() is None
    (packed,) = [s for s in saved if isinstance(s, _SavedSpikes)]
    assert packed.packed.words.untyped_storage().nbytes() == 100 * 320 // 8
    out.sum().backward()


def test_what_two_layers_save_is_packed_once_also_through_a_view(saved):
    x, weights = spikes(6, 4, 32), [randn(32, 5).requires_grad_() for _ in range(3)]
    with functional.spike_storage():
        outs = [x.flatten(0, 1) @ weights[0], x.view(24, 32) @ weights[1], x[0] @ weights[2]]
    first, second, part = [s for s in saved if isinstance(s, _SavedSpikes)]
    assert first.packed is second.packed
    assert part.packed is not first.packed
    sum(out.sum() for out in outs).backward()
    assert_same_bits(weights[0].grad, x.flatten(0, 1).sum(0)[:, None].expand(-1, 5).contiguous())


def test_what_was_packed_is_forgotten_with_the_graph():
    x = spikes(64, 64)
    kept = _save(x)
    packed = weakref.ref(kept.packed)
    del kept
    assert packed() is None
    assert _save(x).packed is not None


def test_spikes_modified_after_they_were_saved_do_no_harm():
    x, weight = spikes(8, 64), randn(64, 5).requires_grad_()
    kept = x.clone()
    with functional.spike_storage():
        first = x @ weight
        x.add_(3)
        second = x @ weight
        x.fill_(1)
        third = x @ weight
    (first.sum() + third.sum()).backward()
    assert_same_bits(weight.grad, (kept.sum(0) + 8)[:, None].expand(-1, 5).contiguous())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        second.sum().backward()


def test_another_tensor_modified_after_it_was_saved_is_an_error_as_ever():
    x = randn(100).requires_grad_()
    with functional.spike_storage():
        y = x.exp()
        y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_an_output_that_is_saved_keeps_nothing_alive():
    x = randn(100).requires_grad_()
    with functional.spike_storage():
        y = x.sigmoid()
    storage = weakref.ref(y.untyped_storage())
    gc.collect()
    gc.disable()
    try:
        del y
        assert storage() is None
    finally:
        gc.enable()


def test_the_fallback_packs_too(monkeypatch):
    monkeypatch.setattr(storage.selection, "name_for", lambda *_: "torch")
    x = spikes(10, 33).T
    kept = _save(x)
    assert kept.packed.by is reference
    assert torch.equal(kept.restore(), x)
    assert kept.restore().stride() == x.stride()
    assert isinstance(_save(x * 0.5), _SavedTensor)


def test_a_compiled_network_trains_within_the_context():
    net, x_seq = linear_net(), randn(6, 4, 20) * 2
    torch._dynamo.reset()
    expected = train(net, x_seq, storage=False)
    compiled = torch.compile(net)
    for actual, e in zip(train(compiled, x_seq, storage=True), expected, strict=True):
        torch.testing.assert_close(actual, e)


def marked(tensor):
    return getattr(tensor.untyped_storage(), "_snn_spikes", None) is not None


@pytest.mark.gpu
def test_on_a_gpu_spikes_of_neurons_and_encoders_are_packed_and_others_not():
    x = randn(4, 8, 32).cuda().requires_grad_()
    with functional.spike_storage():
        fired = functional.lif(x)[0]
        encoded = poisson_encode(torch.rand(8, 32, device="cuda"), 4)
        for known in (fired, encoded, fired.flatten(0, 1), fired[1]):
            assert isinstance(_save(known), _SavedSpikes)
            assert torch.equal(_save(known).restore(), known)
        for other in (fired + 0, x * 2, fired.view(torch.int32).view(torch.float16)):
            assert isinstance(_save(other), _SavedTensor)
        encoded.mul_(2)
        assert isinstance(_save(encoded), _SavedTensor)
    assert not marked(functional.lif(x)[0])


def fire_twice(x, v):
    s = spike(x + v)
    return s, spike(x - v), v + x


def fire_and_read(x, v):
    s = spike(x + v)
    return s, v + x, v - s


FireTwice = compile_neuron(fire_twice, {"v": 0.0})
FireAndRead = compile_neuron(fire_and_read, {"v": 0.0})
SMOOTH = {"surrogate_function": surrogate.Sigmoid(spiking=False)}


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize(
    ("cls", "arguments", "count"),
    [
        (neuron.QIFNode, {}, 1),
        (neuron.CLIFNode, {"step_mode": "s"}, 1),
        (FireTwice, {}, 2),
        (neuron.QIFNode, SMOOTH, 0),
        (neuron.ILIFNode, {}, 0),
        (neuron.LINode, {}, 0),
        (FireAndRead, {}, 0),
    ],
)
def test_compiled_neurons_mark_spikes_where_all_their_outputs_are(
    monkeypatch, cls, arguments, count, backend
):
    marks = []
    monkeypatch.setattr(storage, "mark", marks.append)
    node = cls(**{"step_mode": "m", "backend": backend, **arguments})
    with functional.spike_storage():
        out = node(randn(4, 8, 32).requires_grad_())
    expected = out if isinstance(out, tuple) else (out,)
    assert len(marks) == count
    assert all(torch.equal(m.flatten(), e.flatten()) for m, e in zip(marks, expected, strict=False))
    node(randn(4, 8, 32))
    assert len(marks) == count


def test_the_gated_neuron_marks_its_spikes_in_the_inputs_dtype(monkeypatch):
    marks = []
    monkeypatch.setattr(storage, "mark", marks.append)
    node = neuron.GLIFNode(4, step_mode="m")
    with functional.spike_storage():
        out = node(randn(4, 8, 32, dtype=torch.float16))
    assert marks[-1] is out


@pytest.mark.gpu
def test_on_a_gpu_the_host_does_not_wait():
    net, x_seq = linear_net().cuda(), randn(6, 4, 20).cuda()
    train(net, x_seq, storage=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        train(net, x_seq, storage=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_mark_is_left_where_nothing_could_use_it():
    x = torch.empty(4, 2, 8, device="meta")
    storage.mark(x)
    assert not marked(x)
    with functional.spike_storage():
        storage.mark(x)
        assert marked(x)
        with torch.no_grad():
            other = torch.empty_like(x)
            storage.mark(other)
        assert not marked(other)


def test_a_step_that_only_pytorch_runs_is_not_marked(monkeypatch):
    def fire_by_mode(x, v, *, by_mean):
        return spike(x - x.mean() if by_mean else x), v + x

    monkeypatch.setattr(storage, "mark", None)
    node = compile_neuron(fire_by_mode, {"v": 0.0}, {"by_mean": False})(True)
    node.backend = "torch"
    with functional.spike_storage():
        assert node(randn(4, 8)).shape == (4, 8)
