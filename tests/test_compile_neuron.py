"""Neurons compiled from one step: against the step itself, run eagerly."""

from __future__ import annotations

import copy
import functools
import itertools
import linecache
import math
import pickle
import random
import time
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint

import snnkernels
from snnkernels import FallbackWarning, StepError, _build, _codegen, functional, spike, surrogate
from snnkernels._backends import kernels, selection
from snnkernels._call import gives_spikes
from snnkernels._call.equations import Equations
from snnkernels.neuron import BaseNode

from .cases import DTYPES, assert_gradients_close, assert_same_bits, forget_kernels, randn
from .properties import given, settings, st

INF, NAN = float("inf"), float("nan")


def adaptive(x, v, a, *, tau, v_threshold, kappa, rho):
    h = v + (x - v) / tau
    s = spike(h - (v_threshold + kappa * a))
    return s, h * (1 - s), rho * a + s


Adaptive = snnkernels.compile_neuron(
    adaptive,
    states={"v": 0.0, "a": 0.0},
    params={"tau": 2.0, "v_threshold": 0.7, "kappa": 0.3, "rho": 0.9},
    learnable=("rho",),
    name="Adaptive",
)


def sixteen(
    x, v, *, a, b, c, d, e, f, g, h, i, j, k, m, n, o, p, v_threshold
):  # fmt: skip
    u = a * v + b * x + (c - d * e) + (f + g * h) * v + (i - j * k) * x + (m + n) * (o - p)
    s = spike(u - v_threshold)
    return s, u * (1 - s)


Sixteen = snnkernels.compile_neuron(
    sixteen,
    states={"v": 0.0},
    params={**dict.fromkeys("abcdefghijkmnop", 0.4), "v_threshold": 0.6},
)


def bare(x, v):
    h = 0.9 * v + x
    s = spike(h - 0.6)
    return s, h * (1 - s)


Bare = snnkernels.compile_neuron(bare, states={"v": 0.0})


def two_fires(x, v, w, *, low, high, v_reset, detach_reset):
    """Two thresholds, two outputs and a readout."""
    h = v * 0.9 + x
    first = spike(h - low)
    second = spike(h * first - high)
    r = second.detach() if detach_reset else second
    v = h - r * high if v_reset is None else torch.where(r > 0, v_reset, h)
    w = 0.5 * w + first
    return first, second, w * h, v, w


TwoFires = snnkernels.compile_neuron(
    two_fires,
    states={"v": "v_reset", "w": torch.tensor(0.25)},
    params={"low": 0.4, "high": 1.1, "v_reset": -0.1, "detach_reset": False},
    name="TwoFires",
)


def exact(x, v, *, k):
    """Everything that is defined to the bit."""
    a = torch.minimum(x.abs(), v + 2) - torch.maximum(x, k * v) / 3
    b = torch.where((x > v) & ~(a <= 0) | (x == 1), -a, a.clamp(-1.5, 0.75))
    c = torch.floor(x) + torch.ceil(v) + torch.round(3 * x) / 8 + torch.sign(b) + F.relu(a)
    d = b**2 + x**3 + 1 / (x.square() + 1) + torch.trunc(v)
    return c + d.clamp(max=4), (0.25 * (c - d) + (x >= v).to(x) + 0.5 * v).clamp(min=-3)


Exact = snnkernels.compile_neuron(exact, states={"v": 0.5}, params={"k": 2.0}, name="Exact")


def smooth(x, v, *, k):
    """Everything that is not."""
    a = torch.exp(-x * x) + torch.log(x.abs() + k) + torch.sigmoid(2 * v) + torch.tanh(x - v)
    b = (
        F.softplus(x)
        + F.softplus(v, beta=3.0)
        + torch.sqrt(a * a + 1)
        + torch.erf(x)
        + torch.sin(v) * torch.cos(x)
    )
    c = (x * x + k) ** 1.7 + (v.abs() + 1) ** -0.5 + torch.log1p(x * x) + torch.expm1(-v.abs())
    return a * b + c, torch.tanh(0.3 * a - 0.1 * b) + 0.05 * torch.rsqrt(c) + torch.atan(v)


Smooth = snnkernels.compile_neuron(smooth, states={"v": 0.1}, params={"k": 1.5}, name="Smooth")


def delayed(x, v, last, before):
    """Three states, no parameter, an output that is no spike."""
    v = 0.5 * v + x
    return v - before, v * (1 - spike(v - 1)), x, last


Delayed = snnkernels.compile_neuron(
    delayed, states={"v": 0.0, "last": 0.1, "before": 0.2}, name="Delayed"
)

NODES = [Adaptive, TwoFires, Exact, Smooth, Delayed]
BITS = [Adaptive, TwoFires, Exact, Delayed]


def call(cls, x, backend, *, states=None, **arguments):
    """All that a call gives: outputs, states, v_seq; and gradients of every tensor that goes in."""
    arguments.setdefault("surrogate_function", surrogate.ATan())
    leaves = {n: a.clone().requires_grad_() for n, a in arguments.items() if torch.is_tensor(a)}
    node = cls(**{**arguments, **leaves}, step_mode="m", backend=backend, store_v_seq=True)
    for name, leaf in leaves.items():
        if name not in cls.equations.learnable:
            setattr(node, name, leaf)
    for name, value in (states or {}).items():
        leaves[name] = value.clone().requires_grad_()
        setattr(node, name, leaves[name])
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = node(x)
    outputs = [*(out if isinstance(out, tuple) else (out,)), node.v_seq]
    outputs += [getattr(node, name) for name in cls.equations.states]
    loss = sum(
        (o.double() * randn(*o.shape, dtype=torch.float64, seed=seed)).sum()
        for seed, o in enumerate(outputs, start=10)
    )
    wanted = [
        x,
        *(t for n, t in leaves.items() if n not in cls.equations.learnable),
        *node.parameters(),
    ]
    gradients = torch.autograd.grad(loss, wanted, allow_unused=True)
    pairs = zip(wanted, gradients, strict=True)
    return [o.detach() for o in outputs], [
        torch.zeros_like(t) if g is None else g for t, g in pairs
    ]


def compare(cls, x, **arguments):
    outputs, gradients = call(cls, x, "native", **arguments)
    expected, expected_gradients = call(cls, x, "torch", **arguments)
    for actual, out in zip(outputs, expected, strict=True):
        assert actual.dtype == out.dtype
        if cls in BITS:
            assert_same_bits(actual, out)
        else:
            torch.testing.assert_close(actual, out)
    assert_gradients_close(gradients, expected_gradients)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", NODES, ids=lambda cls: cls.__name__)
def test_a_compiled_neuron_gives_what_its_step_gives(cls, dtype):
    compare(cls, randn(37, 3, 43, dtype=dtype))


def test_a_neuron_may_have_no_parameters():
    compare(Bare, randn(20, 2, 300))


def test_a_neuron_may_have_sixteen_parameters_that_all_are_learnt():
    values = {name: torch.rand(7) for name in Sixteen.equations.params}
    compare(Sixteen, randn(20, 3, 7), **values)


@pytest.mark.parametrize("spiking", [True, False], ids=["spiking", "primitive"])
@pytest.mark.parametrize("detach_reset", [False, True])
@pytest.mark.parametrize("v_reset", [-0.1, None], ids=["hard", "soft"])
def test_the_step_may_branch_on_options(v_reset, detach_reset, spiking):
    x = randn(20, 2, 21, dtype=torch.float64)
    options = {"v_reset": v_reset, "detach_reset": detach_reset}
    function = surrogate.Sigmoid(spiking=spiking)
    outputs, gradients = call(TwoFires, x, "native", surrogate_function=function, **options)
    expected, wanted = call(TwoFires, x, "torch", surrogate_function=function, **options)
    for actual, out in zip(outputs, expected, strict=True):
        torch.testing.assert_close(actual, out)
    assert_gradients_close(gradients, wanted)


@pytest.mark.parametrize("shape", [(), (6,), (6, 4, 5), (6, 1, 5), (3, 1, 1, 1), (3, 6, 4, 5)])
@pytest.mark.parametrize("names", [("rho",), ("tau", "kappa"), ("v_threshold", "rho", "tau")])
def test_parameters_of_every_shape_are_learnt(names, shape):
    x = randn(18, 3, 6, 4, 5)
    base = {"tau": 2.0, "v_threshold": 0.7, "kappa": 0.3, "rho": 0.9}
    tensors = {n: base[n] + 0.1 * torch.rand(shape) for n in names}
    compare(Adaptive, x, **tensors)


@pytest.mark.parametrize(
    ("shape", "table"),
    [
        ((17, 2, 300), (300,)),
        ((17, 2, 300), (2, 300)),
        ((17, 2, 300), ()),
        ((3, 2, 5, 70), (5,)),
        ((3, 2, 3, 400), (3,)),
        ((33, 1, 32784), (32784,)),
        ((33, 1, 32790), (32790,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("cls", BITS, ids=lambda cls: cls.__name__)
def test_tiles_of_registers_and_lanes_left_over_give_the_steps_bits(cls, shape, table):
    """Whole tiles keep their states in registers, where v_seq is not wanted."""
    x = 2 * randn(*shape)
    rho = {"rho": 0.8 + 0.2 * torch.rand(table)} if cls is Adaptive else {}
    compare_without_v_seq(cls, x, surrogate_function=surrogate.ATan(), **rho)


@pytest.mark.parametrize("cls", [Adaptive, TwoFires], ids=lambda cls: cls.__name__)
def test_tiles_of_registers_give_the_primitives_bits(cls):
    primitive = surrogate.PiecewiseLeakyReLU(spiking=False)
    compare_without_v_seq(cls, randn(17, 2, 300), surrogate_function=primitive)


def compare_without_v_seq(cls, x, **arguments):
    found, gradients = [], []
    for backend in ("native", "torch"):
        node = cls(**arguments, step_mode="m", backend=backend)
        values = []
        for piece, wants_grad in ((x[:2], False), (x[2:], False), (x, False), (x, True)):
            if piece is x:
                node.reset()
            leaf = piece.clone().requires_grad_(wants_grad)
            with torch.set_grad_enabled(wants_grad):
                out = node(leaf)
            values += [*(out if isinstance(out, tuple) else (out,))]
            values += [getattr(node, name) for name in cls.equations.states]
        gradients.append(torch.autograd.grad(values[-1], leaf, randn(*values[-1].shape)))
        found.append(values)
    for actual, expected in zip(*found, strict=True):
        assert_same_bits(actual.detach(), expected.detach())
    assert_gradients_close(*gradients)


def test_a_parameter_that_is_also_the_initial_state_gets_both_gradients():
    compare(TwoFires, randn(18, 3, 7), v_reset=-torch.rand(7), low=torch.rand(3, 7))


@pytest.mark.parametrize("cls", NODES, ids=lambda cls: cls.__name__)
def test_carried_states_enter_and_receive_gradients(cls):
    states = {name: randn(3, 17, seed=k) for k, name in enumerate(cls.equations.states)}
    compare(cls, randn(20, 3, 17), states=states)


def test_a_state_that_starts_from_a_tensor_does_so_in_every_dtype_and_after_a_reset():
    node = TwoFires(step_mode="m", backend="native").double()
    x = randn(4, 2, 3, dtype=torch.float64)
    first = node(x)[2]
    assert node.w.dtype == torch.float64
    node.float()
    node.reset()
    torch.testing.assert_close(node(x.float())[2].double(), first)
    torch.testing.assert_close(first, TwoFires(step_mode="m", backend="torch")(x)[2])


def test_nodes_do_not_share_what_they_learn():
    start = torch.full((3,), 0.5)
    nodes = Adaptive(rho=start), Adaptive(rho=start)
    with torch.no_grad():
        nodes[0].rho.add_(1)
    assert torch.equal(nodes[1].rho, start) and torch.equal(start, torch.full((3,), 0.5))


def test_channels_last_input_keeps_its_layout():
    x = randn(18 * 3, 6, 4, 5).to(memory_format=torch.channels_last).view(18, 3, 6, 4, 5)
    compare(TwoFires, x, low=torch.rand(6))
    node = TwoFires(step_mode="m", backend="native")
    assert all(out.stride() == x.stride() for out in node(x))


@settings(max_examples=30, deadline=None)
@given(
    cls=st.sampled_from(BITS),
    steps=st.integers(0, 40),
    batch=st.integers(0, 3),
    features=st.integers(0, 150),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    seed=st.integers(0, 1000),
)
def test_any_size_agrees(cls, steps, batch, features, dtype, seed):
    compare(cls, randn(steps, batch, features, dtype=dtype, seed=seed))


def test_nan_and_infinity_pass_through_as_in_the_step():
    x = randn(25, 2, 30)
    x[3, 0, 4], x[5, 1, 2], x[7, 0, 0] = float("nan"), float("inf"), -float("inf")
    for cls in BITS:
        outputs, _ = call(cls, x, "native")
        expected, _ = call(cls, x, "torch")
        assert any(e.isnan().any() for e in expected)
        for actual, out in zip(outputs, expected, strict=True):
            assert_same_bits(actual, out)


def test_single_steps_add_up_to_all_of_them_at_once():
    x = randn(9, 2, 5)
    together = Adaptive(step_mode="m", backend="native")
    apart = Adaptive(step_mode="s", backend="native")
    assert_same_bits(torch.stack([apart(step) for step in x]), together(x))
    assert_same_bits(apart.a, together.a)
    apart.reset()
    assert apart.v == 0.0 and apart.a == 0.0


def test_gradients_of_the_primitive_pass_gradcheck():
    def run(x, low):
        node = TwoFires(step_mode="m", backend="native", surrogate_function=smooth_atan)
        node.low = low
        return node(x)

    smooth_atan = surrogate.ATan(spiking=False)
    x = randn(5, 1, 3, dtype=torch.float64).requires_grad_()
    low = torch.full((3,), 0.3, dtype=torch.float64, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.autograd.gradcheck(run, (x, low))


def test_a_second_backward_is_refused_by_name():
    x = randn(4, 2, 3).requires_grad_()
    out = Adaptive(step_mode="m", backend="native")(x)
    (grad,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="fused neuron.*backend='torch'"):
        grad.sum().backward()


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_torch_compile_takes_it_without_a_graph_break(backend):
    node = TwoFires(step_mode="m", backend=backend, low=torch.full((5,), 0.3))
    x = randn(6, 2, 5)
    expected = node(x)
    node.reset()
    torch._dynamo.reset()
    compiled = torch.compile(node, fullgraph=True)
    for actual, out in zip(compiled(x), expected, strict=True):
        torch.testing.assert_close(actual, out)
    node.reset()
    compiled(randn(7, 3, 5))


def test_changing_a_number_compiles_nothing(monkeypatch):
    node = Adaptive(step_mode="m", backend="native")
    x = randn(6, 2, 5)
    node(x)

    def refuse(*_):
        raise AssertionError("a number was changed, and something was compiled")

    monkeypatch.setattr(_build, "compiled_neuron_path", refuse)
    node.reset()
    node.tau = 3.5
    node.surrogate_function.alpha = 1.0
    out = node(x)
    other = Adaptive(tau=3.5, step_mode="m", backend="torch")
    assert_same_bits(out, other(x))


def test_another_process_finds_the_kernel_in_the_cache(monkeypatch):
    node = Adaptive(step_mode="m", backend="native")
    node(randn(6, 2, 5))
    forget_kernels(monkeypatch)
    monkeypatch.setattr(selection.BACKENDS["native"], "_added", set())
    monkeypatch.setattr("snnkernels._build.engine.make", None)
    node(
        randn(6, 2, 5),
    )


def test_without_a_compiler_the_step_runs_with_one_warning(monkeypatch):
    def no_compiler(*_):
        raise _build.BuildError("no C++ compiler")

    monkeypatch.setattr(_build, "compiled_neuron_path", no_compiler)
    forget_kernels(monkeypatch)
    monkeypatch.setattr(selection.BACKENDS["native"], "_added", set())
    node = Adaptive(step_mode="m")
    with pytest.warns(FallbackWarning, match="no C\\+\\+ compiler"):
        node(randn(6, 2, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node(randn(6, 2, 5))
    node.backend = "native"
    with pytest.raises(_build.BuildError, match="no C\\+\\+ compiler"):
        node(randn(6, 2, 5))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node))])
def test_nodes_are_copied_and_pickled_with_their_state(copied):
    node = Adaptive(step_mode="m", rho=torch.full((5,), 0.8))
    node(randn(6, 2, 5))
    other = copied(node)
    assert type(other) is Adaptive
    assert_same_bits(other.a, node.a.detach())
    assert_same_bits(other(randn(6, 2, 5)), node(randn(6, 2, 5)))
    fresh = Adaptive(rho=torch.ones(5))
    fresh.load_state_dict(node.state_dict())
    assert_same_bits(fresh.rho, node.rho)


def test_square_roots_are_rounded_correctly():
    """PyTorch's own are not on every CPU, so they are compared with float64's."""

    def root(x, v):
        return torch.sqrt(x), v

    cls = snnkernels.compile_neuron(root, states={"v": 0.0})
    x = randn(50, 4, 100).abs()
    expected = x.double().sqrt().float()
    assert_same_bits(cls(step_mode="m", backend="native")(x), expected)


def test_the_monitor_records_states_and_output():
    node = Adaptive(step_mode="m", backend="native", monitor_state=True)
    out = node(randn(6, 2, 5))
    assert_same_bits(torch.tensor(node.monitor["s"][-1]), out[-1].detach())
    assert_same_bits(torch.tensor(node.monitor["a"][-1]), node.a.detach())
    functional.reset_net(node)
    assert node.monitor == {"v": [], "a": [], "s": []}


def test_the_source_keeps_the_authors_names():
    source = Adaptive().source()
    for line in ("const T h = v + t2;", "const T s = fire.spike(t5);", "const T grad_h = "):
        assert line in source
    assert "std::" not in source and "torch" not in source


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("value", [None, -0.5])
def test_a_tensor_that_a_state_starts_from_may_be_replaced_before_the_first_call(value, backend):
    node = TwoFires(v_reset=torch.rand(5), step_mode="m", backend=backend)
    del node.v_reset
    node.v_reset = value
    fresh = TwoFires(v_reset=value, step_mode="m", backend=backend)
    x = randn(6, 2, 5)
    for actual, expected in zip(node(x), fresh(x), strict=True):
        assert_same_bits(actual, expected)


def assert_it_runs_in_a_kernel(function):
    x = randn(8, 3, 5).requires_grad_()
    grads = [
        torch.autograd.grad(
            functional.lif(x, surrogate_function=function, backend=backend)[0].sum(), x
        )
        for backend in ("native", "torch")
    ]
    torch.testing.assert_close(*grads)


# What the caller is in when a neuron is traced.


def drift(x, v, *, k):
    h = k * v + x
    s = spike(h - 1.0)
    return s, h - s


def untraced():
    """A neuron whose step is traced at its first call."""
    return type("Drift", (BaseNode,), {"equations": Equations({"v": 0.0}, {"k": 0.75}, step=drift)})


def assert_it_learns_as_its_step(cls):
    outputs, gradients = call(cls, randn(9, 2, 5), "native")
    expected, expected_gradients = call(cls, randn(9, 2, 5), "torch")
    for actual, out in zip(outputs, expected, strict=True):
        assert_same_bits(actual, out)
    assert_gradients_close(gradients, expected_gradients)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize(
    "surroundings",
    [
        torch.inference_mode,
        torch.no_grad,
        lambda: torch.device("meta"),
        lambda: torch.autocast("cpu"),
        lambda: torch.autograd.graph.saved_tensors_hooks(lambda t: None, lambda t: None),
    ],
    ids=["inference_mode", "no_grad", "meta", "autocast", "hooks"],
)
def test_a_first_call_anywhere_leaves_the_gradients_as_they_are(surroundings):
    cls = untraced()
    x = randn(4, 2, 5)
    with surroundings():
        cls(step_mode="m", backend="native")(x)
    assert_it_learns_as_its_step(cls)


def test_a_first_call_inside_a_checkpoint_leaves_the_gradients_as_they_are():
    cls = untraced()
    x = randn(4, 2, 5).requires_grad_()

    def run(x):
        return cls(step_mode="m", backend="native")(x)

    out = torch.utils.checkpoint.checkpoint(run, x, use_reentrant=False)
    (grad,) = torch.autograd.grad(out.sum(), x)
    (expected,) = torch.autograd.grad(run(x).sum(), x)
    assert_same_bits(grad, expected)
    assert_it_learns_as_its_step(cls)


@pytest.mark.parametrize("surroundings", [torch.inference_mode, lambda: torch.device("meta")])
def test_a_surrogate_is_made_anywhere(surroundings):
    with surroundings():
        function = surrogate.custom(gradient=lambda x: 1 / (1 + 3 * x * x))
    assert_it_runs_in_a_kernel(function)


# What is refused, and with which words.


def product(x, v, *, w):
    h = v + x
    return spike(h @ w), h


def reduction(x, v, *, w):
    return spike(v + x.mean()), v


def branch(x, v, *, w):
    h = v + x
    if h > w:
        h = h - w
    return spike(h), h


def in_place(x, v, *, w):
    h = v * w
    h += x
    return spike(h), h


def noise(x, v, *, w):
    return spike(v + torch.rand_like(x)), v


def unknown(x, v, *, w):
    return spike(torch.special.bessel_j0(x)), v


def without_gradient(x, v, *, w):
    return (x > v).to(x), (v + x).detach()


def boolean(x, v, *, w):
    return x > v, v


def no_state(x, v, *, w):
    return spike(x)


def reshaped(x, v, *, w):
    return spike(x.unsqueeze(0)), v


def outside(x, v, *, w):
    return spike(x * WEIGHT), v


def closed_over(x, v, *, w):
    return spike(x * SCALE), v


def fired_from_outside(x, v, *, w):
    return spike(SCALE), v


def given_back(x, v, *, w):
    return spike(x), SCALE


def by_numpy(x, v, *, w):
    return spike(x + v), v + float(np.exp(x.detach().numpy()))


def by_an_array(x, v, *, w):
    return spike(x + v), v + np.asarray(x.detach())


def infinite(x, v, *, w):
    return spike(x), torch.where(x > v, v, float("inf"))


WEIGHT = torch.ones(2, requires_grad=True)
SCALE = torch.tensor(0.5, dtype=torch.float64)


@pytest.mark.parametrize(
    ("step", "line", "words"),
    [
        (product, "return spike(h @ w), h", "matmul.*nn.Linear before the neuron"),
        (reduction, "return spike(v + x.mean()), v", "mean: a reduction.*running value as a state"),
        (branch, "if h > w:", "depends on the value.*torch.where"),
        (in_place, "h += x", "in place.*a = a \\+ b"),
        (noise, "torch.rand_like(x)", "random numbers.*add it to the input"),
        (unknown, "torch.special.bessel_j0(x)", "bessel_j0.*BaseNode"),
        (boolean, "return x > v, v", "value 0.*bool tensor.*to\\(x\\)"),
        (without_gradient, "def without_gradient(x, v, *, w):", "gradient for none.*spike\\(u\\)"),
        (no_state, "def no_state(x, v, *, w):", "one value.*1 of them"),
        (reshaped, "x.unsqueeze(0)", "shapes or indices"),
        (closed_over, "x * SCALE", r"outside of shape \(\)\n.*params="),
        (fired_from_outside, "def fired_from_outside(", r"outside of shape \(\)\n.*params="),
        (given_back, "def given_back(", r"outside of shape \(\)\n.*params="),
        (by_numpy, "x.detach().numpy()", "numpy: Python code that depends on the value"),
        (by_an_array, "np.asarray(x.detach())", "__array__: Python code that depends"),
        (infinite, 'float("inf")', "constant that is not finite.*1e30"),
        (outside, "x * WEIGHT", "requires a gradient.*params="),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_compiled_is_refused_with_its_line_and_a_way_out(step, line, words):
    with pytest.raises(StepError, match=f"(?s)test_compile_neuron.py, line.*{words}") as caught:
        snnkernels.compile_neuron(step, states={"v": 0.0}, params={"w": 1.0})
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"states": {}}, "1 to 8 states"),
        ({"states": {"u": 0.0}}, "names 'u'.*it takes v, a, tau"),
        ({"states": {"a": 0.0, "v": 0.0}}, "in the order"),
        ({"params": {"k": 0.0}}, "names 'k'"),
        ({"learnable": ("k",)}, "learnable names 'k'"),
        ({"states": {"v": "k", "a": 0.0}}, "starts from 'k'"),
        ({"states": {"v": [0.0], "a": 0.0}}, "states: v must be a number, got \\[0.0\\]"),
        ({"states": {"v": None, "a": 0.0}}, "states: v must be a number, got None"),
        ({"states": ("v", "a")}, "states must be a mapping by name, got \\('v', 'a'\\)"),
        (
            {"params": {**Adaptive.equations.params, "rho": (1, 2)}},
            "params: rho must be a number, got",
        ),
        ({"limits": {"k": {"minimum": 1}}}, "limits names 'k', which is not among params"),
        ({"limits": {"tau": {"min": 1}}}, "tau is limited by must be one of 'minimum', .*'min'"),
        ({"limits": {"tau": 1}}, "limits: tau must be a mapping .*got 1"),
        ({"limits": {"tau": {"minimum": "1"}}}, "limits: minimum of tau must be a number, got '1'"),
        ({"limits": ["tau"]}, "limits must be a mapping by name, got \\['tau'\\]"),
    ],
)
def test_a_wrong_definition_is_refused_by_name(arguments, words):
    good = {"states": {"v": 0.0, "a": 0.0}, "params": dict(Adaptive.equations.params)}
    with pytest.raises((ValueError, TypeError), match=words):
        snnkernels.compile_neuron(adaptive, **{**good, **arguments})


@pytest.mark.parametrize("name", ["equations", "forward", "training", "backend", "monitor"])
def test_a_name_that_every_node_has_is_refused(name):
    namespace = {}
    exec(f"def step(x, {name}):\n    return x, {name}", namespace)
    with pytest.raises(ValueError, match=f"must not use the name '{name}'"):
        snnkernels.compile_neuron(namespace["step"], states={name: 0.0})


def test_limits_hold_for_numbers():
    def leak(x, v, *, tau):
        h = v + (x - v) / tau
        return h, h

    cls = snnkernels.compile_neuron(
        leak, states={"v": 0.0}, params={"tau": 2.0}, limits={"tau": {"minimum": 1}}
    )
    with pytest.raises(ValueError, match="tau must be finite and >= 1"):
        cls(tau=0.5)
    node = cls()
    node.tau = 0.5
    with pytest.raises(ValueError, match="tau must be finite and >= 1"):
        node(torch.zeros(2, 3))


def test_tensors_that_the_step_makes_are_constants():
    def made(x, v, *, w):
        half, three = torch.tensor(0.5, dtype=x.dtype), x.new_full((), 3.0)
        h = torch.where(x > half, 1.0, v) * three + torch.zeros_like(x) + 2 ** x.clamp(max=3.0)
        return h.masked_fill(v > 1, 0.25), 0.5 * h * torch.full_like(x, 0.25)

    compare(snnkernels.compile_neuron(made, {"v": 0.0}, {"w": 1.0}), randn(9, 2, 5))


def test_division_by_nought_gives_what_it_gives_in_the_step():
    def divided(x, v):
        return x.detach() / 0, v + x / 1e-320 + (x * 0 + v / 0).clamp(-2.0, 2.0)

    cls = snnkernels.compile_neuron(divided, {"v": 0.5})
    x = randn(1, 2, 5, dtype=torch.float64)
    found = [cls(step_mode="m", backend=backend)(x) for backend in ("native", "torch")]
    assert_same_bits(*found)
    assert found[0].isinf().all()


# Surrogates of one's own.


def hat_gradient(x, width, height):
    return height * (1 - x.abs() / width).clamp(min=0)


def hat_primitive(x, width, height):
    y = (x / width).clamp(-1, 1)
    return height * width * (y - y * y.abs() / 2 + 0.5)


def hat(**changes):
    values = {"width": 0.5, "height": 2.0, **changes}
    return surrogate.custom(gradient=hat_gradient, primitive=hat_primitive, **values)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    ("neuron", "v_reset", "spiking"),
    [
        (functional.if_, 0.0, True),
        (functional.if_, None, False),
        (functional.lif, 0.0, False),
        (functional.lif, None, True),
        (functional.cuba_lif, 0.0, True),
        (functional.cuba_lif, None, False),
    ],
    ids=[
        "if-hard-spiking",
        "if-soft-primitive",
        "lif-hard-primitive",
        "lif-soft-spiking",
        "cuba-hard-spiking",
        "cuba-soft-primitive",
    ],
)
def test_a_custom_surrogate_runs_in_every_neurons_kernel(neuron, v_reset, spiking, dtype):
    x = randn(20, 3, 50, dtype=dtype).requires_grad_()
    found = []
    for backend in ("native", "torch"):
        out, *states = neuron(
            x, v_reset=v_reset, surrogate_function=hat(spiking=spiking), backend=backend
        )
        weights = randn(*out.shape, dtype=dtype, seed=3)
        found.append([out, *states, *torch.autograd.grad((out * weights).sum(), x)])
    for actual, expected in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)
    assert found[1][-1].abs().max() > 0


def test_a_custom_surrogate_runs_in_a_compiled_neuron():
    compare(Adaptive, randn(20, 3, 17), surrogate_function=hat())


@pytest.mark.parametrize("name", ["CustomNode", "printed", "ATan", "Scan"])
def test_a_neuron_may_be_called_as_its_surrogate_is_or_as_anything(name):
    cls = snnkernels.compile_neuron(drift, {"v": 0.0}, {"k": 0.5}, name=name)
    compare(cls, randn(20, 3, 17), surrogate_function=hat())
    compare(cls, randn(20, 3, 17))


def test_a_custom_surrogates_parameter_changes_without_a_compiler(monkeypatch):
    function = hat()
    x = randn(8, 3, 5).requires_grad_()
    functional.lif(x, surrogate_function=function, backend="native")
    monkeypatch.setattr(_build, "compiled_neuron_path", None)
    function.width = 1.5
    grads = [
        torch.autograd.grad(
            functional.lif(x, surrogate_function=function, backend=backend)[0].sum(), x
        )
        for backend in ("native", "torch")
    ]
    torch.testing.assert_close(*grads)


def test_a_custom_surrogate_is_copied_and_pickled():
    function = hat(width=0.7)
    for other in (copy.deepcopy(function), pickle.loads(pickle.dumps(function))):
        assert other.values == (0.7, 2.0) and type(other) is type(function)


def test_a_custom_surrogate_without_primitive_only_spikes():
    only = surrogate.custom(gradient=lambda x: 1 / (1 + x * x))
    with pytest.raises(ValueError, match="no primitive"):
        only.set_spiking_mode(False)
    functional.lif(randn(3, 2, 4), surrogate_function=only, backend="native")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gradient": functools.partial(hat_gradient, width=1.0)}, "gradient must be a function"),
        ({"gradient": torch.sigmoid}, "gradient must be a function made by def or lambda, got"),
        ({"primitive": torch.sigmoid}, "primitive must be a function made by def or lambda"),
        ({"key": 1.0}, "must not use the name 'key'"),
        ({"values": 1.0}, "must not use the name 'values'"),
        ({"forward": 1.0}, "must not use the name 'forward'"),
        ({"training": 1.0}, "must not use the name 'training'"),
        ({f"p{k}": 1.0 for k in range(9)}, "at most 8, got 9: p0, p1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_custom_surrogate_is_refused_by_name(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        surrogate.custom(**{"gradient": lambda x, *rest: 1 / (1 + x * x), **arguments})


def test_a_custom_surrogate_that_cannot_be_compiled_is_refused_with_its_line():
    with pytest.raises(StepError, match=r"(?s)x\.sum\(\).*a reduction"):
        surrogate.custom(gradient=lambda x: x.sum())


def test_a_subclass_with_a_gradient_of_its_own_has_kernels_too():
    class Wide(surrogate.SurrogateFunction):
        @staticmethod
        def gradient(x):
            return torch.exp(-x.abs())

    assert_it_runs_in_a_kernel(Wide())


class Doubled(surrogate.ATan):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_surrogate_with_a_forward_of_its_own_runs_on_the_reference():
    x = randn(8, 3, 5)
    with pytest.raises(ValueError, match="the surrogate Doubled has no kernel"):
        functional.lif(x, surrogate_function=Doubled(), backend="native")
    with pytest.raises(ValueError, match="the surrogate Doubled has no kernel"):
        Adaptive(step_mode="m", surrogate_function=Doubled(), backend="native")(x)
    with pytest.warns(FallbackWarning, match="surrogate Doubled has no kernel"):
        out = functional.lif(x, surrogate_function=Doubled())[0]
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert not gives_spikes(Doubled()) and gives_spikes(surrogate.ATan())


# What a step must not depend on.


def named(source, **outside):
    """A step from its text, which refusals can quote."""
    file = f"<step {hash(source)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace = {"torch": torch, "spike": spike, "np": np, "random": random, "time": time}
    namespace.update(outside)
    exec(compile(source, file, "exec"), namespace)
    return namespace["step"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("v / (x + torch.finfo(x.dtype).eps)", "depend on the dtype"),
        ("v * (0.5 if x.dtype == torch.float32 else 0.25)", "depend on the dtype"),
        ("v / x.numel()", "depend on the dtype, shape"),
        ("v + x.dim()", "depend on the dtype, shape"),
        ("v + x.ndim", "depend on the dtype, shape"),
        ("v * x.element_size()", "depend on the dtype, shape"),
        ("v * (2 if x.shape else 3)", "depend on the dtype, shape"),
        ("v * (2 if x.stride() else 3)", "depend on the dtype, shape"),
        ("v * (1 + tau.numel())", "depend on the dtype, shape"),
        ("v * x.shape[0]", "shapes"),
        ("v * x.size(0)", "shapes"),
        ("v * len(x)", "len"),
        ("v * (2 if x.device.type == 'cuda' else 3)", "or device"),
        ("v * (2 if x.is_cuda else 3)", "or device"),
        ("v * (2 if x.requires_grad else 3)", "need gradients"),
        ("v * (2 if torch.is_grad_enabled() else 3)", "need gradients"),
        ("v.squeeze()", "shapes"),
        ("v.double()", "another dtype"),
        ("v * torch.tensor(0.1, dtype=torch.float64)", "another dtype"),
        ("torch.float_power(v, 2).to(x)", r"float_power\): a conversion to another dtype"),
        ("v * next(counter)", "changes from call to call"),
        ("v * random.random()", "random numbers"),
        ("v * (2 if random.random() < 0.5 else 3)", "random numbers"),
        ("v * np.random.rand()", "random numbers"),
        ("v * rng.standard_normal()", "random numbers"),
        ("v * time.time()", "the time"),
        ("helper(v)", "random numbers"),
    ],
)
def test_what_would_be_another_value_in_another_call_is_refused_with_its_line(line, words):
    text = f"def step(x, v, *, tau):\n    s = spike(v + x)\n    return s, {line}\n"
    if line == "helper(v)":
        text += "def helper(v):\n    return v * random.uniform(0, 1)  # helper(v)\n"
    step = named(text, rng=np.random.default_rng(0), counter=itertools.count(1))
    with pytest.raises(StepError, match=f"(?s)line [35], cannot be compiled.*{words}") as caught:
        snnkernels.compile_neuron(step, {"v": 0.0}, {"tau": 2.0})
    assert line in str(caught.value)


def test_dtype_shape_and_device_may_go_into_what_makes_constants():
    def step(x, v, *, w):
        like = {"dtype": x.dtype, "device": x.device}
        half = torch.full(x.shape, 0.5, **like) + torch.zeros(x.shape, **like)
        third = torch.tensor(1 / 3, **like).to(x.device, x.dtype)
        return spike(x - half), v * third.expand(x.shape) + w.expand(x.shape) * (x > v).to(x.dtype)

    cls = snnkernels.compile_neuron(step, {"v": 0.0}, {"w": 0.3})
    for dtype in (torch.float32, torch.float64):
        compare(cls, randn(9, 2, 5, dtype=dtype))


def test_sums_and_products_of_masks_are_masks():
    def step(x, v):
        a, b = x > 0, v > 0
        both, any_, least, most = a * b, a + b, torch.minimum(a, b), torch.maximum(a, b)
        chosen = torch.where(a, b, any_)
        full = torch.full_like(a, 2.0)
        numbers = [m.to(x) for m in (both, any_, least, most, chosen, full, any_ + any_)]
        return *numbers, v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    signs = torch.tensor([1.0, -1.0])
    x, v = torch.cartesian_prod(signs, signs).T.contiguous()
    node = cls(backend="native")
    node.v = v
    found = [out.tolist() for out in node(x)]
    assert found[:4] == [[1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    assert found[4:] == [[1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1, 0]]


SIGNED_ZEROS = {
    "abs": (lambda x: x.abs(), [0.0, 0.0, 2.0, NAN, INF]),
    "relu": (torch.relu, [0.0, -0.0, 0.0, NAN, 0.0]),
    "clamp to 0": (lambda x: x.clamp(min=0), [0.0, -0.0, 0.0, NAN, 0.0]),
    "clamp to -0": (lambda x: x.clamp(min=-0.0), [0.0, -0.0, -0.0, NAN, -0.0]),
    "clamp from -0": (lambda x: x.clamp(max=-0.0), [0.0, -0.0, -2.0, NAN, -INF]),
    "a constant": (lambda x: torch.where(x < 0, -0.0, x), [0.0, -0.0, -0.0, NAN, -0.0]),
    "plus -0": (lambda x: x + -0.0, [0.0, -0.0, -2.0, NAN, -INF]),
    "times 0": (lambda x: x * 0.0, [0.0, -0.0, -0.0, NAN, NAN]),
    "sign": (torch.sign, [0.0, 0.0, -1.0, 0.0, -1.0]),
    "addcdiv": (lambda x: torch.addcdiv(x, x, x - 3, value=0.1), None),
}


def test_signs_of_zeros_are_those_of_the_step():
    functions = [function for function, _ in SIGNED_ZEROS.values()]

    def step(x, v):
        return *(function(x) for function in functions), v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([0.0, -0.0, -2.0, NAN, -INF], dtype=dtype)
        found = cls(backend="native")(x)
        for (name, (function, wanted)), out in zip(SIGNED_ZEROS.items(), found, strict=True):
            expected = function(x) if wanted is None else torch.tensor(wanted, dtype=dtype)
            assert_same_bits(out, expected)
            signs = [values[~values.isnan()].signbit().tolist() for values in (out, expected)]
            assert signs[0] == signs[1], name


# Values from outside.


def test_a_number_outside_that_changes_is_the_new_one_in_the_kernel():
    step = named(
        "PI = 3.0\ntable = {'gain': [1.0]}\nclass Scale:\n    by = 2.0\n"
        "def inner(x):\n    return x * table['gain'][0]\n"
        "def step(x, v):\n"
        "    return spike(v + x - 1), 0.5 * v + inner(x) * PI * Scale.by + around()\n"
        "def around():\n    return 0.0\n"
    )
    outside = step.__globals__
    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    x = randn(4, 2, 3)
    node = cls(step_mode="m", backend="native")

    def state():
        node.reset()
        node(x)
        expected = cls(step_mode="m", backend="torch")
        expected(x)
        assert_same_bits(node.v, expected.v)
        return node.v

    seen = [state()]
    outside["PI"] = 4.0
    seen.append(state())
    outside["table"]["gain"][0] = 5.0
    seen.append(state())
    outside["Scale"].by = -1.0
    seen.append(state())
    outside["around"] = lambda: 0.25
    seen.append(state())
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(seen))


CHANGES = {
    "a function of torch": ("act = torch.sigmoid", "act(x)", "act = torch.tanh"),
    "an array's item": ("gains = np.ones(2)", "x * gains[0]", "gains[0] = 2"),
    "an array": ("gains = np.ones(2)", "x * gains.sum().item()", "gains[0] = 2"),
    "an item's attribute": (
        "class A: a = 1\nall = [A()]",
        "x * all[0].a",
        "all[0].a = 2",
    ),
    "what a partial's function reads": (
        "g = 1\ndef inner(x, k): return x * g * k\nact = functools.partial(inner, k=1)",
        "act(x)",
        "g = 2",
    ),
    "a partial's argument": ("act = functools.partial(torch.mul, 2.0)", "act(x)", "act = -1"),
    "what a wrapped function reads": (
        "g = 1\n@functools.cache\ndef gain(): return g",
        "x * gain()",
        "g = 2",
    ),
    "one item of a long list": ("all = [1] * 5000", "x * all[7]", "all[7] = 2"),
    "one item of a dict that holds itself": (
        "all = {'g': 1}\nall['all'] = all",
        "x * all['g']",
        "all['g'] = 2",
    ),
    "a name that is gone": ("g = 1", "x * g", "del g"),
    "a name that comes": ("", "x * g if v is None else x", "g = 2"),
    "a property that raises": (
        "class A:\n    g = property(lambda self: 1 / 0)\nall = A()",
        "x * all.g if v is None else x",
        "A.g = 2",
    ),
    "a method's object": ("all = [1, 2]", "x * all.index(2)", "all[0] = 2"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_step_reads_from_outside_is_seen_to_change(change):
    before, expression, after = CHANGES[change]
    step = named(
        f"import functools\nimport numpy as np\n{before}\n"
        f"def step(x, v):\n    return {expression}, v\n"
    )
    outside = _codegen.Outside(step)
    assert not outside.has_changed
    exec(after, step.__globals__)
    assert outside.has_changed


def test_an_entry_that_a_step_does_not_read_may_change():
    step = named("all = {'g': 1, 'count': 0}\ndef step(x, v):\n    return x * all['g'], v\n")
    outside = _codegen.Outside(step)
    step.__globals__["all"]["count"] += 1
    assert not outside.has_changed


@pytest.mark.parametrize("table", ["[1] * 5000", "[[]]"], ids=["large", "in_itself"])
def test_tables_that_cannot_be_compared_at_each_call_are_refused(table):
    step = named(
        f"all = {table}\nif not all[0]: all[0] = all\n"
        "def step(x, v):\n    i = int(7)\n    return x * all[i], v\n"
    )
    with pytest.raises(StepError, match="more than 1000 values from outside"):
        snnkernels.compile_neuron(step, {"v": 0.0})


def test_a_number_outside_that_stays_compiles_once(monkeypatch):
    around = 0.5

    def step(x, v):
        return spike(v + x * around - math.pi), v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    node = cls(step_mode="m", backend="native")
    node(randn(4, 2, 3))
    monkeypatch.setattr(_build, "compiled_neuron_path", None)
    kernels._kernels.clear()
    node.reset()
    key = cls.equations.key
    node(randn(4, 2, 3))
    assert cls.equations.key == key


def test_a_surrogates_number_outside_that_changes_is_the_new_one_in_the_kernel():
    width = 1.0
    function = surrogate.custom(gradient=lambda x: width / (1 + x * x))
    assert_it_runs_in_a_kernel(function)
    width = 3.0
    assert_it_runs_in_a_kernel(function)


# Names and text.

NAMES = [
    "_1",
    "NAN",
    "NULL",
    "INFINITY",
    "M_PI",
    "SNN_HD",
    "register",
    "linux",
    "unix",
    "int",
    "p",
    "params",
    "T",
    "P",
    "Fire",
    "state",
    "out",
    "before",
    "grad_out",
    "grad_p",
    "grad_params",
    "t1",
    "t2",
    "abs",
    "exp",
    "select",
    "scaled",
    "x_",
    "τ",
    "__v__",
    "kStates",
    "EOF",
]


def test_names_may_be_keywords_macros_or_anything():
    names = NAMES[:16], NAMES[16:]
    step = named(
        f"def step(x, v, *, {', '.join(names[0])}):\n"
        + "".join(f"    {name} = x * {k} + v\n" for k, name in enumerate(names[1], start=2))
        + f"    return {' + '.join(NAMES)}, 0.5 * v\n"
    )
    params = dict.fromkeys(names[0], 0.25)
    cls = snnkernels.compile_neuron(step, {"v": 0.0}, params, name="SNN_HDNode")
    compare(cls, randn(4, 2, 3, dtype=torch.float64))


def test_no_text_of_the_authors_becomes_code():
    step = named(
        "def step(x, v):\n"
        "    h = v + \\\n"
        "        x  # a comment that ends in a backslash \\\n"
        "    h = h * 2  # and in one that is spelled out ??/\n"
        "    h = h + \\\n"
        "        1  # \u2028 \u202e */ \\  \n"
        "    return spike(h), h - 1\n"
    )
    step.__doc__ = step.__qualname__ = 'step\n#error "the name"\\'
    cls = snnkernels.compile_neuron(step, {"v": 0.0}, name="a/b\n\\Node")
    source = cls().source()
    lines = [line.strip() for line in source.splitlines()]
    assert not any(line.endswith(("\\", "??/")) or line.startswith("#error") for line in lines)
    assert source.isprintable() or all(c.isprintable() or c == "\n" for c in source)
    node = cls(backend="native")
    node(torch.tensor([0.5, 1.0]))
    assert node.v.tolist() == [1.0, 2.0]


def fires(x, v):
    return spike(v + x), v


class Callable_:
    def __call__(self, x, v):
        return spike(v + x), v

    method = __call__


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (functools.partial(fires), "partial"),
        (Callable_(), "Callable_"),
        (Callable_().method, "method"),
        (torch.sigmoid, "builtin_function_or_method"),
        (Callable_, "type"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", [None, "Named"])
def test_what_is_no_python_function_is_refused_by_name(step, kind, name):
    with pytest.raises(TypeError, match=f"(?s)step must be a function made by def.*{kind}.*calls"):
        snnkernels.compile_neuron(step, {"v": 0.0}, name=name)


# Gradients of what nobody uses.


def test_an_output_that_nobody_uses_leaves_the_gradient_alone():
    def step(x, v, w):
        s = spike(v + x - 1)
        return s, torch.sqrt(x.abs()), x / w, torch.log(x), 1 / x, x**-0.5, 0.0 * v, torch.sqrt(w)

    cls = snnkernels.compile_neuron(step, {"v": 0.0, "w": 0.0})
    x = torch.zeros(1, 2).requires_grad_()
    for backend in ("native", "torch"):
        node = cls(step_mode="m", backend=backend, surrogate_function=surrogate.ATan())
        (grad,) = torch.autograd.grad(node(x)[0].sum(), x)
        expected = 1 / (1 + torch.pi**2)  # ATan's at -1
        torch.testing.assert_close(grad, torch.full((1, 2), expected))


def test_a_gradient_that_is_nan_goes_through_all_the_same():
    def step(x, v):
        return torch.sqrt(x), x / v, v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    for output in (0, 1):
        x = torch.tensor([[0.0, 4.0]]).requires_grad_()
        node = cls(step_mode="m", backend="native")
        (grad,) = torch.autograd.grad(node(x)[output], x, torch.tensor([[NAN, NAN]]))
        assert grad.isnan().all()


def test_a_surrogate_that_is_infinite_leaves_the_gradient_of_others_alone():
    def step(x, v):
        return spike(x), 2 * x, v

    cls = snnkernels.compile_neuron(step, {"v": 0.0})
    pole = surrogate.custom(gradient=lambda x: 1 / x.abs())
    x = torch.zeros(1, 2).requires_grad_()
    node = cls(step_mode="m", backend="native", surrogate_function=pole)
    spikes, doubled = node(x)
    (grad,) = torch.autograd.grad(doubled.sum(), x, retain_graph=True)
    assert grad.tolist() == [[2.0, 2.0]]
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    assert grad.tolist() == [[INF, INF]]
