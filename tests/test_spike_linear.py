"""Linear layers on spikes: the sums of what fired against PyTorch's products."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from snnkernels import functional, layer, neuron
from snnkernels._backends.selection import resolve

pytestmark = pytest.mark.usefixtures("native_cpu")

SHAPES = [
    (6400, 784, 196),  # the tutorial's
    (6400, 784, 10),
    (129, 512, 128),  # one row in the last 64, whole panels
    (4096, 33, 1025),
    (700, 1500, 13),  # inputs in two chunks
    (200, 1024, 129),
    (300, 63, 257),
    (129, 2081, 31),
]


@pytest.fixture(scope="module")
def native_cpu():
    resolve("native", "cpu")


@pytest.fixture(scope="module")
def operators(native_cpu):
    return torch.ops.snnkernels


def spikes(*shape, rate=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < rate).float()


def whole_numbers(*shape, seed=1):
    """So small that float32 sums of thousands of them are exact in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-8, 9, shape, generator=generator).float()


def source(y):
    """What made an output, behind views of it; None if nothing is known."""
    function = y.grad_fn
    while function is not None and "View" in function.name():
        function = function.next_functions[0][0]
    return function


def adds_up(y):
    """Whether an output came of the kernels."""
    function = source(y)
    return function is not None and function.name() == "_SpikeLinearBackward"


def outcome(backend, x, weight, bias, upstream):
    """Output, gradients, and whether the kernels ran."""
    wanted = [t.detach().requires_grad_() for t in (x, weight, bias) if t is not None]
    y = functional.linear(*wanted, backend=backend)
    return [y.detach(), *torch.autograd.grad(y, wanted, upstream)], adds_up(y)


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), SHAPES)
def test_sums_of_whole_numbers_are_those_of_pytorch_to_the_bit(rows, inputs, outputs, with_bias):
    x, weight = spikes(rows, inputs), whole_numbers(outputs, inputs)
    bias = whole_numbers(outputs, seed=2) if with_bias else None
    upstream = whole_numbers(rows, outputs, seed=3)
    found, added_up = outcome("auto", x, weight, bias, upstream)
    expected, dense = outcome("torch", x, weight, bias, upstream)
    assert added_up
    assert not dense
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_sums_of_real_numbers_are_as_near_to_float64_as_pytorchs():
    x, weight = spikes(640, 784), torch.randn(196, 784)
    exact = F.linear(x.double(), weight.double())
    found = functional.linear(x, weight.requires_grad_())
    assert adds_up(found)
    error, theirs = ((y - exact).abs().max() for y in (found, F.linear(x, weight)))
    assert error < 4 * theirs + 1e-5


@pytest.mark.parametrize(("rows", "inputs"), [(100_000, 64), (500, 20_000)])
def test_long_sums_lose_no_digits(rows, inputs):
    """A mean's gradient is the same in every row, and so are the rounding errors of one sum."""
    x, weight = spikes(rows, inputs), torch.full((32, inputs), 0.1)
    upstream = torch.full((rows, 32), 0.1)
    (y, _, grad), added_up = outcome("auto", x, weight, None, upstream)
    assert added_up
    for found, exact in (
        (y, F.linear(x.double(), weight.double())),
        (grad, upstream.double().t() @ x.double()),
    ):
        assert ((found - exact).norm() / exact.norm()).item() < 2e-6


def test_leading_dimensions_stay_as_they_are():
    x, weight = spikes(10, 4, 32, 100), whole_numbers(64, 100).requires_grad_()
    y = functional.linear(x, weight)
    assert adds_up(y)
    assert y.shape == (10, 4, 32, 64)
    assert torch.equal(y, F.linear(x, weight))


def test_the_output_can_be_changed_in_place_as_pytorchs_can():
    x, weight = spikes(10, 100, 100), whole_numbers(64, 100).requires_grad_()
    y = functional.linear(x, weight).relu_()
    (gradient,) = torch.autograd.grad(y.sum(), weight)
    (expected,) = torch.autograd.grad(F.linear(x, weight).relu().sum(), weight)
    assert torch.equal(gradient, expected)


def test_any_number_of_threads_gives_the_same_bits():
    x, weight, upstream = spikes(3000, 300), torch.randn(200, 300), torch.randn(3000, 200)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found, added_up = outcome("auto", x, weight, None, upstream)
            assert added_up
            results.append((found[0], found[2]))
    finally:
        torch.set_num_threads(threads)
    for y, grad_weight in results[1:]:
        assert torch.equal(y, results[0][0])
        assert torch.equal(grad_weight, results[0][1])


def test_no_spikes_at_all_give_the_bias_and_no_gradient():
    x, weight, bias = torch.zeros(1000, 100), whole_numbers(64, 100), whole_numbers(64)
    found, added_up = outcome("auto", x, weight, bias, whole_numbers(1000, 64))
    assert added_up
    assert torch.equal(found[0], bias.expand(1000, 64))
    assert not found[2].any()


def test_only_one_bit_a_spike_is_kept_for_the_backward():
    x, weight = spikes(6400, 784), torch.randn(196, 784, requires_grad=True)
    memory = weakref.ref(x.untyped_storage())
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = functional.linear(x, weight)
    assert [(t.dtype, t.numel()) for t in kept] == [(torch.int32, 6400 * 784 // 32)]
    del x
    assert memory() is None
    assert torch.autograd.grad(y.sum(), weight)[0].any()


def test_what_numpy_wrote_into_the_input_meanwhile_counts():
    """Autograd counts no such change, so nothing may be remembered of a tensor's elements."""
    x, weight = spikes(1000, 100), whole_numbers(64, 100).requires_grad_()
    before = functional.linear(x, weight)
    x.numpy()[:] = spikes(1000, 100, seed=5)
    after = functional.linear(x, weight)
    assert adds_up(before)
    assert adds_up(after)
    assert torch.equal(after, F.linear(x, weight))


def test_spike_storage_leaves_what_is_packed_already():
    x, weight = spikes(1000, 100), whole_numbers(64, 100).requires_grad_()
    with functional.spike_storage():
        y = functional.linear(x, weight)
    (found,) = torch.autograd.grad(y.sum(), weight)
    assert torch.equal(found, x.sum(0).expand(64, 100))


def unfit_inputs():
    x = spikes(1000, 100)
    other = x.clone()
    other[-1, -1] = 0.5
    minus_zero = torch.where(x == 0, torch.tensor(-0.0), x)
    return {
        "another number": other,
        "minus zero": minus_zero,
        "not a number": torch.full_like(x, torch.nan),
        "many spikes": spikes(1000, 100, rate=0.5),
        "not contiguous": spikes(100, 1000).t(),
        "few rows": spikes(100, 100),
        "few inputs": spikes(100_000, 100)[:, :20].contiguous(),
        "one dimension": spikes(100),
        "nothing": spikes(0, 100),
        "float64": x.double(),
    }


@pytest.mark.parametrize("name", unfit_inputs())
def test_other_inputs_are_pytorchs_matter(name):
    x = unfit_inputs()[name]
    sizes = (640, x.shape[-1]), (640,)
    weight, bias = (torch.randn(*size, dtype=x.dtype) for size in sizes)
    y = functional.linear(x, weight.requires_grad_(), bias)
    assert not adds_up(y)
    torch.testing.assert_close(y, F.linear(x, weight, bias), rtol=0, atol=0, equal_nan=True)


def test_autocast_and_transforms_are_pytorchs_matter():
    x, weight = spikes(1000, 100), torch.randn(64, 100, requires_grad=True)
    assert adds_up(functional.linear(x, weight))
    with torch.autocast("cpu"):
        assert functional.linear(x, weight).dtype == torch.bfloat16
    mapped = torch.func.vmap(functional.linear, (0, None))(torch.stack([x, 1 - x]), weight)
    torch.testing.assert_close(mapped[0], F.linear(x, weight))
    tangent = torch.randn_like(weight)
    _, found = torch.func.jvp(lambda w: functional.linear(x, w), (weight.detach(),), (tangent,))
    torch.testing.assert_close(found, F.linear(x, tangent))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight.detach(), tangent)
        found = torch.autograd.forward_ad.unpack_dual(functional.linear(x, dual)).tangent
    torch.testing.assert_close(found, F.linear(x, tangent))


def test_tracers_and_modes_see_pytorchs_product():
    x, weight = spikes(1000, 100), torch.randn(64, 100)
    traced = torch.jit.trace(layer.Linear(100, 64), x)
    assert torch.equal(traced(x), F.linear(x, *traced.parameters()))
    graph = make_fx(lambda x, weight: functional.linear(x, weight))(x, weight)
    assert "spike" not in graph.code
    with FlopCounterMode(display=False) as counter:
        functional.linear(x, weight)
    assert counter.get_total_flops() == 2 * 1000 * 100 * 64


def test_a_batch_of_gradients_can_be_taken_at_once():
    x, weight = spikes(1000, 100).requires_grad_(), whole_numbers(64, 100).requires_grad_()
    y = functional.linear(x, weight)
    assert adds_up(y)
    upstream = whole_numbers(3, 1000, 64)
    found = torch.autograd.grad(y, (x, weight), upstream, is_grads_batched=True)
    expected = torch.autograd.grad(
        F.linear(x, weight), (x, weight), upstream, is_grads_batched=True
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_a_gradient_with_a_graph_can_be_changed_in_place():
    x, weight = spikes(10, 100, 100).requires_grad_(), torch.randn(64, 100, requires_grad=True)
    y = functional.linear(x, weight)
    assert adds_up(y)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    before = gradient.detach().clone()
    assert torch.equal(gradient.mul_(2), 2 * before)


def test_inference_mode_adds_up_too():
    with torch.inference_mode():
        x, weight = spikes(1000, 100), whole_numbers(64, 100)
        assert torch.equal(functional.linear(x, weight), F.linear(x, weight))


def test_a_second_backward_is_refused_with_what_to_do_instead():
    x, weight = spikes(1000, 100), torch.randn(64, 100, requires_grad=True)
    y = functional.linear(x, weight)
    (gradient,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
    with pytest.raises(NotImplementedError, match="linear layer on spikes.*backend='torch'"):
        gradient.sum().backward()


def test_a_weight_that_changed_in_place_is_an_error_in_the_backward():
    x, weight = spikes(1000, 100).requires_grad_(), torch.randn(64, 100, requires_grad=True)
    y = functional.linear(x, weight)
    assert adds_up(y)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_errors_are_pytorchs_own_and_an_unknown_backend_is_named():
    x, weight = spikes(1000, 100), torch.randn(64, 100)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        functional.linear(spikes(1000, 99), weight)
    with pytest.raises(ValueError, match="backend must be one of.*got 'nativ'"):
        functional.linear(x, weight, backend="nativ")
    assert not adds_up(functional.linear(x, weight.requires_grad_(), backend="cupy"))
    assert adds_up(functional.linear(x, weight, backend="native"))
    with pytest.raises(ValueError, match="backend must be one of.*got 3"):
        layer.Linear(3, 4, backend=3)


def test_the_layer_is_pytorchs_but_for_the_sums():
    theirs, ours = torch.nn.Linear(100, 64), layer.Linear(100, 64, step_mode="m")
    ours.load_state_dict(theirs.state_dict())
    x_seq = spikes(20, 50, 100)
    found, expected = copy.deepcopy(ours)(x_seq), theirs(x_seq)
    assert adds_up(found)
    torch.testing.assert_close(found, expected)
    assert repr(ours).endswith("bias=True, backend='auto', step_mode='m')")
    functional.set_backend(ours, "torch")
    assert torch.equal(ours(x_seq), expected)


def test_a_network_trains_to_the_same_gradients_with_either():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        layer.Linear(100, 256), neuron.LIFNode(), layer.Linear(256, 100), neuron.LIFNode()
    )
    functional.set_step_mode(net, "m")
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((8 * parameter).round() / 4)  # exact sums, so that no spike flips
    x_seq, gradients = spikes(16, 32, 100), {}
    for backend in ("auto", "torch"):
        functional.reset_net(net)
        for index in (0, 2):
            net[index].backend = backend
        rates = net(x_seq).mean(0)
        gradients[backend] = torch.autograd.grad(rates.square().sum(), list(net.parameters()))
    for ours, theirs in zip(gradients["auto"], gradients["torch"], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_operators_are_well_formed(operators):
    x, weight, bias = spikes(70, 100), torch.randn(20, 100), torch.randn(20)
    words, _ = operators.pack_spikes(x.view(-1))
    assert operators.count_spikes(words) == x.sum()
    assert operators.count_spikes(words[:0]) == 0
    torch.library.opcheck(operators.spike_linear.default, (words, weight, bias, 70))
    torch.library.opcheck(operators.spike_linear_weight.default, (words, torch.randn(70, 20), 100))


def test_the_operators_name_what_does_not_fit(operators):
    words, weight = torch.zeros(219, dtype=torch.int32), torch.randn(20, 100)
    with pytest.raises(RuntimeError, match="words: expected"):
        operators.spike_linear(words[:-1], weight, None, 70)
    with pytest.raises(RuntimeError, match="words: expected int32"):
        operators.spike_linear(words.float(), weight, None, 70)
    with pytest.raises(RuntimeError, match="weight: expected contiguous float32"):
        operators.spike_linear(words, weight.double(), None, 70)
    with pytest.raises(RuntimeError, match="bias: expected"):
        operators.spike_linear(words, weight, torch.randn(19), 70)
    with pytest.raises(RuntimeError, match="rows, inputs: expected at least 1, got 0 and 100"):
        operators.spike_linear(words[:0], weight, None, 0)
    with pytest.raises(RuntimeError, match="rows, inputs: expected at least 1, got 70 and 0"):
        operators.spike_linear_weight(words[:0], torch.randn(70, 20), 0)
    with pytest.raises(RuntimeError, match="grad: expected contiguous float32"):
        operators.spike_linear_weight(words, torch.randn(20, 70).t(), 100)
