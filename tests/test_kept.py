"""A node goes straight to its kernel where a call is like an earlier one, and nowhere else."""

import copy
import pickle

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from snnkernels import compile_neuron, neuron, spike, surrogate
from snnkernels._backends import operators
from snnkernels._call import dispatch

from .cases import assert_same_bits, randn

X = randn(5, 2, 3)
RATE = 0.75


class Seen(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def lif(**settings):
    return neuron.LIFNode(
        **{"tau": 2.5, "step_mode": "m", "surrogate_function": surrogate.ATan(), **settings}
    )


def called_before(**settings):
    """A node that knows its call, as after a reset and as carried on."""
    node = lif(**settings)
    x = X if node.step_mode == "m" else X[0]
    for _ in range(2):
        node.reset()
        node(x), node(x)
    node.reset()
    return node


@pytest.fixture
def found(monkeypatch):
    """The calls whose route is looked for."""
    calls = []
    route_of = dispatch.route_of
    monkeypatch.setattr(dispatch, "route_of", lambda call: calls.append(call) or route_of(call))
    return calls


def result(node, x):
    """Output, gradient and potentials of a call that carries nothing, then of one that does."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    first, second = node(x), node(x)
    (first.sum() + (2 * second).sum()).backward()
    potentials = [] if node.v_seq is None else [node.v_seq]
    return [first, second, x.grad, node.v, *potentials]


def assert_same(node, other, x=X):
    for ours, theirs in zip(result(node, x), result(other, x), strict=True):
        assert_same_bits(ours, theirs)
        assert ours.stride() == theirs.stride()


@pytest.mark.parametrize("settings", [{}, {"step_mode": "s"}, {"store_v_seq": True}], ids=str)
def test_the_same_call_again_looks_for_no_route(found, monkeypatch, settings):
    node = called_before(**settings)
    x = X if node.step_mode == "m" else X[0]
    found.clear()
    ours = result(node, x)
    assert not found
    node.reset()
    with torch.no_grad(), monkeypatch.context() as patched:
        patched.setattr(operators, "_EagerScan", None)  # which keeps what a backward needs
        node(x.clone().requires_grad_())
    assert not found
    for actual, expected in zip(ours, result(lif(**settings, backend="torch"), x), strict=True):
        torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tau", 3.0),
        ("tau", torch.tensor(3.0)),
        ("v_threshold", 0.5),
        ("v_reset", -0.0),
        ("v_reset", None),
        ("decay_input", False),
        ("detach_reset", True),
        ("backend", "torch"),
        ("store_v_seq", True),
        ("surrogate_function", surrogate.Sigmoid()),
        ("surrogate_function", nn.Sigmoid()),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::snnkernels.FallbackWarning")
def test_what_is_set_anew_is_heeded(found, name, value):
    node = called_before()
    node.tau = node.tau + 0.0
    setattr(node, name, value)
    node.reset()
    found.clear()
    assert_same(node, lif(**{name: value}))
    assert found


def test_the_surrogates_own_parameters_are_heeded():
    node = called_before()
    node.surrogate_function.alpha = 3.0
    assert_same(node, lif(surrogate_function=surrogate.ATan(alpha=3.0)))
    node.reset()
    node.surrogate_function.set_spiking_mode(False)
    assert_same(node, lif(surrogate_function=surrogate.ATan(alpha=3.0, spiking=False)))


def test_another_surrogate_without_parameters_is_heeded():
    box = surrogate.custom(lambda x: (x.abs() < 0.5).to(x))
    wide = surrogate.custom(lambda x: (x.abs() < 1.0).to(x))
    node = called_before(surrogate_function=box)
    node.surrogate_function = wide
    assert_same(node, lif(surrogate_function=wide))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_trace_looks_for_a_route_of_its_own(found):
    node = called_before()
    found.clear()
    torch.jit.trace(node, X, check_trace=False)
    assert found


@pytest.mark.filterwarnings("ignore::snnkernels.FallbackWarning")
def test_hooks_on_the_surrogate_run():
    node, ran = called_before(backend="auto"), []
    node.surrogate_function.register_forward_hook(lambda *_: ran.append(1))
    node(X)
    assert len(ran) == len(X)


@pytest.mark.parametrize(
    "x",
    [
        X.double(),
        X.bfloat16(),
        randn(6, 2, 3),
        randn(5, 3, 2).transpose(1, 2),
        randn(5, 2, 6)[:, :, ::2],
        randn(10, 2, 3)[::2],
        randn(1, 2, 3).expand(5, 2, 3),
    ],
    ids=["float64", "bfloat16", "longer", "transposed", "gaps", "skipped steps", "expanded"],
)
def test_inputs_of_another_kind_are_heeded(x):
    node = called_before()
    assert_same(node, lif(), x)
    node.reset()
    assert_same(node, lif(), x)
    node.reset()
    assert_same(node, lif())


def test_a_layout_that_is_no_plain_one_is_kept_too(found):
    x = randn(4, 2, 3, 5).permute(0, 1, 3, 2)
    node = lif()
    assert_same(node, lif(), x)
    node.reset()
    found.clear()
    ours = result(node, x)
    assert not found
    assert ours[0].stride() == x.stride()
    for actual, expected in zip(ours, result(lif(), x), strict=True):
        assert_same_bits(actual, expected)


def test_a_state_that_is_set_is_heeded():
    node, other = called_before(), lif()
    for each in (node, other):
        each.v = 0.25
    assert_same(node, other)
    for value in (torch.full((2, 3), 0.25), torch.full((2, 3), 0.25, dtype=torch.float64)):
        node.v, other.v = value, value
        if value.dtype == torch.float64:
            with pytest.raises(TypeError, match="v"):
                node(X)
        else:
            assert_same(node, other)
    node.v = torch.zeros(2, 4)
    with pytest.raises(ValueError, match="v has shape"):
        node(X)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.to_sparse(), "dense"),
        (torch.nested.nested_tensor([X[0], X[1]]), "dense"),
        (X.int(), "dtypes"),
        (X[0, 0], "dimensions"),
        (None, "tensor"),
    ],
    ids=["sparse", "nested", "integers", "rank", "None"],
)
def test_bad_inputs_are_refused_as_at_first(x, message):
    node = called_before()
    with pytest.raises((TypeError, ValueError), match=message):
        node(x)


def test_states_of_several_are_carried(found):
    def cuba():
        return neuron.CubaLIFNode(step_mode="m", surrogate_function=surrogate.ATan())

    node = cuba()
    assert_same(node, cuba())
    node.reset()
    found.clear()
    ours = result(node, X)
    assert not found
    expected = neuron.CubaLIFNode(
        step_mode="m", surrogate_function=surrogate.ATan(), backend="torch"
    )
    for actual, theirs in zip(ours, result(expected, X), strict=True):
        torch.testing.assert_close(actual, theirs)
    others = []
    for each in (node, cuba()):
        each.reset()
        each.i = torch.full((2, 3), 0.5)  # v is still a number
        others.append(each(X))
    assert_same_bits(*others)


@pytest.mark.parametrize("step_mode", ["m", "s"])
def test_several_outputs_come_apart(found, step_mode):
    def step(x, v, *, tau):
        h = v + (x - v) / tau
        s = spike(h - 1.0)
        return s, spike(h - 0.5), h * (1 - s)

    node = compile_neuron(step, {"v": 0.0}, {"tau": 2.0})(step_mode=step_mode)
    x = X if step_mode == "m" else X[0]
    first = node(x), node(x)
    node.reset()
    found.clear()
    again = node(x), node(x)
    assert not found
    for outs, others in zip(first, again, strict=True):
        for out, other in zip(outs, others, strict=True):
            assert out.shape == x.shape
            assert_same_bits(out, other)


def test_a_step_that_reads_another_value_is_compiled_anew():
    global RATE
    RATE = 0.75

    def step(x, v):
        h = RATE * v + x
        s = spike(h - 1.0)
        return s, h - s

    def fresh():
        return compile_neuron(step, {"v": 0.0})(step_mode="m")

    node = compile_neuron(step, {"v": 0.0})(step_mode="m")
    assert_same(node, fresh())
    node.reset()
    try:
        RATE = 0.5
        assert_same(node, fresh())
    finally:
        RATE = 0.75


def test_copies_keep_nothing_and_work():
    node = called_before()
    for other in (copy.deepcopy(node), pickle.loads(pickle.dumps(node))):
        assert not other._kept._latest
        assert other._kept is not node._kept
        assert_same(other, lif())


def test_modes_and_fake_tensors_see_the_full_operator():
    node = called_before()
    x = X.clone().requires_grad_()
    with Seen() as seen:
        node(x).sum().backward()
    ours = [name for name in seen.names if name.startswith("snnkernels")]
    assert ours == ["snnkernels::scan_forward", "snnkernels::scan_backward"]
    node.reset()
    with FakeTensorMode() as mode:
        assert node(mode.from_tensor(X)).shape == X.shape
    fake = mode.from_tensor(X)
    node.reset()
    assert type(node(fake)) is type(fake)


def test_a_backward_for_many_gradients_at_once_is_that_of_each():
    node = called_before()
    x = X.clone().requires_grad_()
    out = node(x)
    upstream = randn(4, *X.shape)
    (ours,) = torch.autograd.grad(out, x, upstream, is_grads_batched=True, retain_graph=True)
    expected = [torch.autograd.grad(out, x, each, retain_graph=True)[0] for each in upstream]
    assert_same_bits(ours, torch.stack(expected))


def test_a_mode_that_comes_with_the_backward_alone_finds_its_operator():
    node = called_before()
    x = X[:1].clone().requires_grad_()
    node(x), node.reset()
    out = node(x)  # of one chunk, which has no checkpoints
    with Seen():
        out.sum().backward()
    other = X[:1].clone().requires_grad_()
    lif()(other).sum().backward()
    assert_same_bits(x.grad, other.grad)


def test_what_is_first_run_in_inference_mode_trains_later():
    node = lif()
    with torch.inference_mode():
        for _ in range(2):
            node.reset()
            node(X)
    node.reset()
    assert_same(node, lif())


def test_a_second_derivative_is_refused():
    node = called_before()
    x = X.clone().requires_grad_()
    (grad,) = torch.autograd.grad(node(x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="second derivative"):
        grad.sum().backward()


def test_outputs_may_be_changed_in_place():
    for settings, x in (({}, X), ({"step_mode": "s"}, X[0]), ({}, randn(4, 3, 2).transpose(1, 2))):
        node = called_before(**settings)
        for _ in range(2):
            node.reset()
            leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
            out = node(leaf)
            out += 1
            node.v += 1
            (out.sum() + node.v.sum()).backward()
            assert leaf.grad is not None


def test_what_a_subclass_takes_is_asked_for_each_time():
    class Falling(neuron.LIFNode):
        def _taken(self, x_seq):
            return {**super()._taken(x_seq), "v_threshold": self.own}

    node = Falling(step_mode="m")
    for node.own in (1.0, 0.5):
        node.reset()
        assert_same_bits(node(X), neuron.LIFNode(step_mode="m", v_threshold=node.own)(X))


def test_torch_compile_traces_a_node_that_kept_a_call():
    torch._dynamo.reset()
    node = called_before()
    compiled = torch.compile(node, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(X), lif()(X))
    node.reset()
    assert_same(node, lif())


WIDTH = 0.5


def box(x):
    return (x.abs() < WIDTH).to(x)


@pytest.mark.parametrize(
    "make", [neuron.LIFNode, neuron.ParametricLIFNode], ids=["kept", "of a tensor"]
)
def test_a_surrogate_that_reads_another_value_is_compiled_anew(monkeypatch, make):
    function = surrogate.custom(box)

    def gradient(node):
        node.reset()
        x = X.clone().requires_grad_()
        return torch.autograd.grad(node(x).sum(), x)[0]

    node = make(step_mode="m", surrogate_function=function)
    narrow = [gradient(node) for _ in range(3)][-1]
    monkeypatch.setitem(globals(), "WIDTH", 2.0)
    wide = [gradient(node) for _ in range(2)]
    fresh = make(step_mode="m", surrogate_function=surrogate.custom(box))
    assert_same_bits(wide[0], gradient(fresh))
    assert_same_bits(wide[1], wide[0])
    assert not torch.equal(wide[0], narrow)


def test_a_checkpoint_recomputes_calls_step_by_step():
    node, linear = lif(step_mode="s"), nn.Linear(3, 3)

    def network(x):
        node.reset()
        return torch.stack([node(linear(step)) for step in x])

    for batch in (2, 2, 1, 2):
        x = randn(5, batch, 3).requires_grad_()
        out = torch.utils.checkpoint.checkpoint(network, x, use_reentrant=False)
        ours = torch.autograd.grad(out.sum(), x)[0]
        assert_same_bits(ours, torch.autograd.grad(network(x).sum(), x)[0])


def test_of_an_input_with_gaps_a_copy_is_kept():
    node, saved = lif(), []
    for _ in range(3):
        node.reset()
        wide = randn(5, 2, 30).requires_grad_() * 1
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            out = node(wide[..., :3])
        wide[..., 3] = 1.0
        out.sum().backward()
    assert len(saved) == 3
    assert {t.untyped_storage().nbytes() for t in saved} == {5 * 2 * 3 * 4}


def test_a_class_given_to_a_node_later_is_heeded():
    class Doubled(neuron.LIFNode):
        def neuronal_charge(self, x):
            self.v = self.v + 2 * x

    node, other = called_before(tau=2.0, backend="auto"), Doubled(step_mode="m", tau=2.0)
    node.__class__ = Doubled
    assert_same_bits(node(X), other(X))


def test_a_property_over_the_attribute_itself_is_heeded():
    class Scaled(neuron.LIFNode):
        scale = 1.0

        @property
        def tau(self):
            return self.__dict__["tau"] * self.scale

        @tau.setter
        def tau(self, value):
            self.__dict__["tau"] = value

    node = Scaled(step_mode="m", tau=2.0)
    for node.scale in (1.0, 1.0, 10.0):
        node.reset()
        assert_same_bits(node(X), neuron.LIFNode(step_mode="m", tau=2.0 * node.scale)(X))


def test_a_graph_traced_before_dispatch_has_the_full_operator():
    node = called_before()
    graph = make_fx(node, pre_dispatch=True)(X).graph
    assert "snnkernels.scan_forward.default" in {str(n.target) for n in graph.nodes}


def test_a_state_that_is_sparse_is_refused_by_name():
    node = called_before()
    node.v = torch.zeros(2, 3).to_sparse()
    with pytest.raises(TypeError, match="v must be a dense tensor"):
        node(X)


def test_replicas_keep_calls_of_their_own():
    node = called_before()
    assert node._replicate_for_data_parallel()._kept is not node._kept
