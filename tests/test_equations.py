"""Every neuron against a plain loop, written here from its equations alone."""

from __future__ import annotations

import copy
import inspect
import math
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import snnkernels
from snnkernels import functional, neuron, surrogate
from snnkernels._backends import headers
from snnkernels._call.equations import Equations

from . import cases
from .cases import assert_gradients_close, assert_same_bits, randn

Loop = Callable[..., list[Tensor]]
FIRE = surrogate.ATan()
LOG_3 = torch.tensor(3.0).log().item()


def after_spike(h, s, threshold, reset, detach):
    s = s.detach() if detach else s
    return h - s * threshold if reset is None else h * (1 - s) + reset * s


def integrate_and_fire(x_seq, theta=1.0, v_reset=0.0, detach=False):
    v, out = torch.full_like(x_seq[0], v_reset or 0.0), []
    for x in x_seq:
        out.append(FIRE(v + x - theta))
        v = after_spike(v + x, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v]


def lif(x_seq, tau=2.0, theta=1.0, v_reset=0.0, decay_input=True, detach=False):
    rest = v_reset or 0.0
    v, out = torch.full_like(x_seq[0], rest), []
    for x in x_seq:
        h = (1 - 1 / tau) * v + rest / tau + (x / tau if decay_input else x)
        out.append(FIRE(h - theta))
        v = after_spike(h, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v]


def cuba(x_seq, alpha=0.5, beta=0.5, theta=1.0, v_reset=0.0, detach=False):
    v, i, out = torch.full_like(x_seq[0], v_reset or 0.0), torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        i = alpha * i + x
        h = beta * v + i
        out.append(FIRE(h - theta))
        v = after_spike(h, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v, i]


def li(x_seq, tau=2.0, v_rest=0.0, decay_input=True):
    v, out = torch.full_like(x_seq[0], v_rest), []
    for x in x_seq:
        change = (v_rest - v) / tau + (x / tau if decay_input else x)
        v = v + change
        out.append(v)
    return [torch.stack(out), v]


def qif(x_seq, tau=2.0, v_c=0.8, a0=1.0, theta=1.0, v_rest=0.0, v_reset=-0.1, detach=False):
    v, out = torch.full_like(x_seq[0], v_reset or 0.0), []
    for x in x_seq:
        h = v + 1 / tau * (x + a0 * (v - v_rest) * (v - v_c))
        out.append(FIRE(h - theta))
        v = after_spike(h, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v]


def eif(x_seq, tau=2.0, d=1.0, rh=0.8, theta=1.0, v_rest=0.0, v_reset=-0.1, detach=False):
    v, out = torch.full_like(x_seq[0], v_reset or 0.0), []
    for x in x_seq:
        h = v + 1 / tau * (x + v_rest - v + d * ((v - rh) / d).exp())
        out.append(FIRE(h - theta))
        v = after_spike(h, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v]


def izhikevich(
    x_seq, tau=2.0, v_c=0.8, a0=1.0, theta=1.0, v_reset=0.0, v_rest=-0.1, tau_w=2.0, a=0.0, b=0.0
):
    v, w, out = torch.full_like(x_seq[0], v_reset or 0.0), torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        h = v + 1 / tau * (x + a0 * (v - v_rest) * (v - v_c) - w)
        out.append(FIRE(h - theta))
        w = w + 1 / tau_w * (a * (h - v_rest) - w) + b * out[-1]
        v = after_spike(h, out[-1], theta, v_reset, False)
    return [torch.stack(out), v, w]


def alif(x_seq, tau=2.0, kappa=0.2, rho=0.9, theta=1.0, v_reset=0.0, detach=False):
    v, a, out = torch.full_like(x_seq[0], v_reset or 0.0), torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        h = v + (x - (v - (v_reset or 0.0))) / tau
        out.append(FIRE(h - theta - kappa * a))
        v = after_spike(h, out[-1], theta, v_reset, detach)
        a = rho * a + out[-1]
    return [torch.stack(out), v, a]


def klif(x_seq, tau=2.0, k=1.0, theta=1.0, v_reset=0.0, detach=False):
    v, out = torch.full_like(x_seq[0], v_reset or 0.0), []
    for x in x_seq:
        h = v + (x - (v - (v_reset or 0.0))) / tau
        f = (k * h) * (k * h > 0)
        out.append(FIRE(f - theta))
        v = after_spike(f, out[-1], theta, v_reset, detach)
    return [torch.stack(out), v]


def clif(x_seq, tau=2.0, theta=1.0, detach=False):
    v, m, out = torch.zeros_like(x_seq[0]), torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        h = (1 - 1 / tau) * v + x
        s = FIRE(h - theta)
        m = m / (1 + torch.exp(-h / tau)) + s
        v = h - (s.detach() if detach else s) * (theta + 1 / (1 + torch.exp(-m)))
        out.append(s)
    return [torch.stack(out), v, m]


class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, largest):
        ctx.save_for_backward(x)
        ctx.largest = largest
        return x.clamp(0, largest).round()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * ((x >= 0) & (x <= ctx.largest)), None


def ilif(x_seq, tau=2.0, theta=1.0, largest=4):
    v, out = torch.zeros_like(x_seq[0]), []
    for x in x_seq:
        h = (1 - 1 / tau) * v + x
        out.append(Round.apply(h / theta, largest))
        v = h - out[-1] * theta
    return [torch.stack(out), v]


CASES = [
    (neuron.IFNode, integrate_and_fire, {}, {}),
    (neuron.IFNode, integrate_and_fire, {"v_reset": None}, {"v_reset": None}),
    (neuron.LIFNode, lif, {}, {}),
    (neuron.LIFNode, lif, {"tau": 3.0, "v_reset": -0.2}, {"tau": 3.0, "v_reset": -0.2}),
    (neuron.LIFNode, lif, {"decay_input": False}, {"decay_input": False}),
    (neuron.LIFNode, lif, {"detach_reset": True}, {"detach": True}),
    (neuron.ParametricLIFNode, lif, {}, {}),
    (neuron.ParametricLIFNode, lif, {"init_tau": 4.0}, {"tau": 1 + math.exp(LOG_3)}),
    (neuron.ParametricLIFNode, lif, {"decay_input": False}, {"decay_input": False}),
    (neuron.CubaLIFNode, cuba, {}, {}),
    (neuron.CubaLIFNode, cuba, {"alpha": 0.7, "beta": 0.9}, {"alpha": 0.7, "beta": 0.9}),
    (neuron.LINode, li, {}, {}),
    (neuron.LINode, li, {"tau": 3.0, "v_rest": -0.2}, {"tau": 3.0, "v_rest": -0.2}),
    (neuron.LINode, li, {"decay_input": False}, {"decay_input": False}),
    (neuron.QIFNode, qif, {}, {}),
    (neuron.QIFNode, qif, {"v_reset": None, "tau": 9.0}, {"v_reset": None, "tau": 9.0}),
    (neuron.QIFNode, qif, {"detach_reset": True, "v_c": 0.5}, {"detach": True, "v_c": 0.5}),
    (neuron.EIFNode, eif, {}, {}),
    (neuron.EIFNode, eif, {"delta_T": 0.7, "theta_rh": 0.6}, {"d": 0.7, "rh": 0.6}),
    (neuron.IzhikevichNode, izhikevich, {}, {}),
    (neuron.IzhikevichNode, izhikevich, {"a": 0.3, "b": 0.2}, {"a": 0.3, "b": 0.2}),
    (neuron.ALIFNode, alif, {}, {}),
    (neuron.ALIFNode, alif, {"v_reset": None, "kappa": 1.8}, {"v_reset": None, "kappa": 1.8}),
    (neuron.ALIFNode, alif, {"v_reset": -0.1, "rho": 0.5}, {"v_reset": -0.1, "rho": 0.5}),
    (neuron.KLIFNode, klif, {}, {}),
    (neuron.KLIFNode, klif, {"k": 1.25, "v_reset": None}, {"k": 1.25, "v_reset": None}),
    (neuron.CLIFNode, clif, {}, {}),
    (neuron.CLIFNode, clif, {"detach_reset": True}, {"detach": True}),
    (neuron.ILIFNode, ilif, {}, {}),
    (neuron.ILIFNode, ilif, {"D": 2, "v_threshold": 0.6}, {"largest": 2, "theta": 0.6}),
]


def test_every_neuron_has_a_plain_loop():
    assert {case[0] for case in CASES} | {neuron.GLIFNode} == set(NEURONS)


def test_every_neuron_of_the_library_is_among_the_cases_of_other_tests():
    functions = {case.function for case in cases.CASES}
    assert functions == {of_module(cls) for cls in NEURONS if cls.equations.kernel}


def name(case):
    return f"{case[0].__name__}({', '.join(case[2])})"


def with_gradients(results: list[Tensor], leaves: list[Tensor]) -> tuple[list[Tensor], list]:
    loss = sum(
        (r * randn(*r.shape, dtype=r.dtype, seed=seed)).sum()
        for seed, r in enumerate(results, start=10)
    )
    return [r.detach() for r in results], list(torch.autograd.grad(loss, leaves))


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("case", CASES, ids=name)
def test_each_neuron_is_the_plain_loop_of_its_equations(case, backend):
    cls, loop, arguments, plain = case
    x = (1.5 * randn(30, 3, 21, dtype=torch.float64) + 0.4).requires_grad_()
    expected, wanted = with_gradients(loop(x, **plain), [x])
    node = cls(**arguments, step_mode="m", backend=backend, surrogate_function=FIRE)
    out = node(x)
    results, gradients = with_gradients(
        [out, *(getattr(node, n) for n in cls.equations.states)], [x]
    )
    assert 0 < out.abs().mean() < 4
    for actual, e in zip(results, expected, strict=True):
        torch.testing.assert_close(actual, e, rtol=1e-11, atol=1e-11)
    assert_gradients_close(gradients, wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=name)
def test_kernel_and_step_give_the_same_spikes_in_every_dtype(case, dtype):
    cls, _, arguments, _ = case
    x = randn(30, 3, 21, dtype=dtype)
    nodes = [
        cls(**arguments, step_mode="m", backend=backend, surrogate_function=FIRE)
        for backend in ("native", "torch")
    ]
    native, eager = (node(x) for node in nodes)
    assert native.dtype == dtype
    if cls in (neuron.EIFNode, neuron.CLIFNode):  # an exponential is in their steps
        assert (native != eager).double().mean() < 1e-3
        return
    assert_same_bits(native, eager)
    assert_same_bits(nodes[0].v, nodes[1].v)


def gated(x_seq, node):
    """GLIF from the equations, by the node's own gates."""

    def gate(w):
        return w.sigmoid().view(1, -1, *[1] * (x_seq.dim() - 3))

    alpha, beta, gamma = gate(node.alpha), gate(node.beta), gate(node.gamma)
    tau, theta = gate(node.tau), gate(node.v_threshold)
    leak, subtracted = gate(node.linear_decay), gate(node.v_subreset)
    v, s, out = torch.zeros_like(x_seq[0]), torch.zeros_like(x_seq[0]), []
    for t, x in enumerate(x_seq):
        g = gate(node.conduct[t])
        h = (1 - alpha * (1 - tau)) * (1 - gamma * s) * v - (1 - alpha) * leak
        h = h - (1 - gamma) * subtracted * s + x * (1 - beta * (1 - g))
        s = FIRE(h - theta)
        v = h
        out.append(s)
    return [torch.stack(out), v]


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("shape", [(4,), (4, 3, 2)])
@pytest.mark.parametrize("inplane", [None, 4])
def test_the_gated_neuron_is_the_plain_loop_of_its_equations(inplane, shape, backend):
    x = randn(12, 3, *shape, dtype=torch.float64).requires_grad_()
    arguments = {"init_conduct": 0.3, "step_mode": "m", "surrogate_function": FIRE}
    node = neuron.GLIFNode(12, inplane, backend=backend, **arguments).double()
    leaves = [x, *node.parameters()]
    expected, wanted = with_gradients(gated(x, node), leaves)
    results, gradients = with_gradients([node(x), node.v], leaves)
    for actual, e in zip(results, expected, strict=True):
        torch.testing.assert_close(actual, e, rtol=1e-11, atol=1e-11)
    assert_gradients_close(gradients, wanted)
    assert all(g.abs().sum() > 0 for g in gradients)


def test_the_gated_neuron_counts_its_steps():
    node = neuron.GLIFNode(5, step_mode="s")
    whole = neuron.GLIFNode(5, step_mode="m")
    whole.load_state_dict(node.state_dict())
    x = randn(5, 2, 7)
    assert_same_bits(torch.stack([node(step) for step in x]), whole(x))
    with pytest.raises(ValueError, match="T is 5, .* to 6.*reset"):
        node(x[0])
    functional.reset_net(node)
    node(x[0])


@pytest.mark.parametrize("inplane", [None, 1, 4])
def test_the_gated_neuron_takes_one_sequence_of_channels(inplane):
    node = neuron.GLIFNode(6, inplane, step_mode="m")
    x = randn(6, 4)
    alone = node(x)
    assert alone.shape == x.shape
    node.reset()
    assert_same_bits(alone, node(x.unsqueeze(1)).squeeze(1))


def test_a_call_that_fails_does_not_count_as_steps_of_the_gated_neuron():
    node = neuron.GLIFNode(6, 4, step_mode="m")
    for x in (randn(6, 5), randn(6, 3, 5), randn(6, 3, 5, 4)):
        with pytest.raises(ValueError, match="beta has shape \\(4,\\)"):
            node(x)
    with pytest.raises(TypeError, match="beta must be .* no wider"):
        node.double()(randn(6, 3, 4))
    assert node.t == 0
    assert node.float()(randn(6, 3, 4)).shape == (6, 3, 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_gates_work_in_the_arithmetics_dtype(dtype):
    node = neuron.GLIFNode(40, 4, step_mode="m", store_v_seq=True)
    x = randn(40, 30, 4, dtype=dtype)
    out, v, v_seq = node(x), node.v, node.v_seq
    assert out.dtype == v_seq.dtype == dtype and v.dtype == torch.float32
    node.reset()
    assert_same_bits(out.float(), node(x.float()))
    assert_same_bits(v, node.v)
    assert_same_bits(v_seq, node.v_seq.to(dtype))


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_the_gradient_of_an_integer_is_whole_at_both_ends(backend):
    x = torch.tensor([[[-0.5, 0.0, 1.0, 2.0, 2.5]]], requires_grad=True)
    node = neuron.ILIFNode(D=2, step_mode="m", backend=backend)
    (grad,) = torch.autograd.grad(node(x).sum(), x)
    assert grad.flatten().tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_what_an_integer_leaves_behind_has_no_gradient_from_end_to_end(backend):
    x = torch.tensor([[[-0.5, -0.0, 0.0, 1.0, 2.0, 2.5]]], requires_grad=True)
    node = neuron.ILIFNode(D=2, step_mode="m", backend=backend)
    node(x)
    (grad,) = torch.autograd.grad(node.v.sum(), x)
    assert grad.flatten().tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_potential_of_nought_has_no_gradient_through_the_learnt_scale(backend):
    x = torch.tensor([[[-1.0, -0.0, 0.0, 1.0]]], requires_grad=True)
    node = neuron.KLIFNode(detach_reset=True, step_mode="m", backend=backend)
    node(x)
    grads = torch.autograd.grad(node.v.sum(), [x, node.k])
    assert node.v.flatten().tolist() == [0.0, 0.0, 0.0, 0.5]
    assert grads[0].flatten().tolist() == [0.0, 0.0, 0.0, 0.5]
    assert grads[1].item() == 0.5


class Called(TorchFunctionMode):
    """Which of PyTorch's functions run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.add(func.__name__)
        return func(*args, **(kwargs or {}))


NEURONS = [getattr(neuron, n) for n in neuron.__all__ if not n.startswith(("Base", "MultiStep"))]
KINKS = ("abs", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "relu")


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_no_neuron_leaves_it_to_pytorch_what_the_gradient_at_a_kink_is(cls):
    node = (
        cls(4, step_mode="m", backend="torch") if cls is neuron.GLIFNode else cls(backend="torch")
    )
    node.step_mode = "m"
    with Called() as called:
        node(randn(4, 2, 3))
    assert {"__add__", "add", "__sub__", "sub"} & called.names
    assert called.names.isdisjoint(KINKS)


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_each_neuron_learns_its_tensors_and_says_what_it_is(cls):
    node = cls(8, 6) if cls is neuron.GLIFNode else cls()
    if "tau" in inspect.signature(cls).parameters:
        node = cls(tau=torch.nn.Parameter(torch.full((6,), 2.5)))
    node.step_mode = "m"
    x = (randn(8, 3, 6) + 1).requires_grad_()
    node(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in node.parameters())
    assert "step_mode='m'" in repr(node)
    assert "Source: " in cls.__doc__ or cls in (neuron.IFNode, neuron.LINode)


def test_wrong_values_are_refused_by_name():
    for cls, arguments, words in [
        (neuron.QIFNode, {"tau": 0.5}, "tau must be finite and >= 1"),
        (neuron.EIFNode, {"delta_T": 0.0}, "delta_T must be finite and > 0"),
        (neuron.ILIFNode, {"D": 0.0}, "D must be finite and >= 1"),
        (neuron.ILIFNode, {"D": 2.5}, "D must be finite and >= 1 and whole, got 2.5"),
        (neuron.GLIFNode, {"T": 2.5}, "T must be finite and >= 1 and whole, got 2.5"),
        (neuron.GLIFNode, {"T": 4, "init_tau": 1.0}, "init_tau must be less than 1"),
    ]:
        with pytest.raises(ValueError, match=words):
            cls(**arguments)
    with pytest.raises(TypeError, match=r"QIFNode\(\) got an unexpected keyword argument 'taw'"):
        neuron.QIFNode(taw=2.0)


def test_importing_the_neurons_traces_and_compiles_nothing():
    code = (
        "import sys, snnkernels\n"
        "nodes = snnkernels.neuron.LIFNode, snnkernels.neuron.QIFNode\n"
        "assert not any(node.equations._traces for node in nodes)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_the_library_has_the_kernels_that_neurons_name_with_their_states_and_parameters():
    named = {}
    for cls in NEURONS:
        equations = cls.equations
        if equations.kernel:
            takes = {name: to for name, (to, _) in equations.derived.items()}
            own = equations.numbers[: equations.numbers.index("v_threshold")]
            named[equations.kernel] = tuple(equations.states), tuple(takes.get(n, n) for n in own)
            assert equations.numbers[-2:] == ("v_threshold", "v_reset")
    assert named == headers.neurons()


def test_all_neurons_are_nodes_with_the_same_arguments_and_a_multi_step_name():
    shared = list(inspect.signature(neuron.BaseNode).parameters)
    for cls in NEURONS:
        multi = getattr(neuron, f"MultiStep{cls.__name__}")
        arguments = [4] if cls is neuron.GLIFNode else []
        node, other = cls(*arguments), multi(*arguments)
        assert isinstance(node, neuron.BaseNode) and isinstance(other, cls)
        assert (node.step_mode, other.step_mode) == ("s", "m")
        if cls is not neuron.GLIFNode:
            given = list(inspect.signature(cls).parameters)
            assert given[-5:] == [n for n in shared if n in given][-5:]
            assert [n for n in given if n in shared] == [n for n in shared if n in given]


def test_signatures_tell_names_defaults_and_types():
    given = inspect.signature(neuron.MultiStepLIFNode).parameters
    assert given["tau"].default == 2.0 and given["tau"].annotation == float | Tensor
    assert given["v_reset"].annotation == float | Tensor | None
    assert given["decay_input"].annotation is given["detach_reset"].annotation is bool
    assert given["step_mode"].default == "m" and given["step_mode"].annotation is str
    assert next(iter(inspect.signature(neuron.ParametricLIFNode).parameters)) == "init_tau"
    assert inspect.signature(functional.klif).parameters["k"].annotation == float | Tensor

    class Own(neuron.LIFNode):
        def __init__(self, decay):
            super().__init__(decay)

    assert list(inspect.signature(Own).parameters) == ["decay"]


def of_module(cls):
    """The function of a neuron, and what it takes for the module's defaults."""
    name = cls.__name__.removesuffix("Node")
    special = {"IF": "if_", "ParametricLIF": "parametric_lif", "CubaLIF": "cuba_lif"}
    return getattr(functional, special.get(name, name.lower()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_the_function_of_a_neuron_gives_what_the_module_gives(cls, dtype):
    x = randn(12, 3, 7, dtype=dtype) + 0.5
    given = {}
    if cls is neuron.GLIFNode:
        node = cls(12, step_mode="m", store_v_seq=True, surrogate_function=FIRE)
        names = ("alpha", "beta", "gamma", "tau", "v_threshold", "linear_decay", "v_subreset")
        given = {n: getattr(node, n).detach().sigmoid() for n in (*names, "conduct")}
    else:
        node = cls(step_mode="m", store_v_seq=True, surrogate_function=FIRE)
    out, *states, v_seq = of_module(cls)(x, return_v_seq=True, surrogate_function=FIRE, **given)
    assert_same_bits(out, node(x).detach())
    assert_same_bits(v_seq, node.v_seq.detach())
    assert out.dtype == v_seq.dtype == dtype
    for name, value in zip(node.equations.states, states, strict=True):
        assert_same_bits(value, getattr(node, name).detach())


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_a_function_carries_states_from_call_to_call(cls):
    function, x = of_module(cls), randn(12, 3, 7) + 0.5
    whole = function(x, surrogate_function=FIRE)
    _, *states = function(x[:5], surrogate_function=FIRE)
    _, *after = function(x[5:], *states, surrogate_function=FIRE)
    named = dict(zip(cls.equations.states, states, strict=True))
    _, *by_name = function(x[5:], surrogate_function=FIRE, **named)
    for end, a, b in zip(whole[1:], after, by_name, strict=True):
        assert_same_bits(a, end)
        assert_same_bits(b, end)


def test_a_function_refuses_arguments_that_it_does_not_take():
    x = randn(2, 3, 4)
    with pytest.raises(TypeError, match=r"lif\(\) got an unexpected keyword argument 'taw'"):
        functional.lif(x, taw=2.0)
    with pytest.raises(TypeError, match="too many positional arguments"):
        functional.lif(x, 0.0, 2.0)
    with pytest.raises(TypeError, match="multiple values for argument 'v'"):
        functional.lif(x, 0.0, v=0.0)
    with pytest.raises(ValueError, match="conduct must have one value or row for each of 2 steps"):
        functional.glif(x, conduct=torch.ones(3))


@pytest.mark.parametrize("part", ["neuronal_charge", "neuronal_fire", "neuronal_reset"])
@pytest.mark.parametrize("cls", [c for c in NEURONS if not c.equations.charge])
def test_a_part_of_a_neuron_that_has_no_parts_is_refused(cls, part):
    with pytest.raises(TypeError, match=f"Own defines {part}, but its equations are one whole"):
        type("Own", (cls,), {part: lambda self, *given: None})


def test_a_whole_step_may_be_another():
    class Doubled(neuron.ALIFNode):
        def single_step_forward(self, x):
            return 2 * x

    x = randn(3, 4)
    assert torch.equal(Doubled(backend="torch")(x), 2 * x)


@pytest.mark.parametrize("cls", [c for c in NEURONS if c.equations.charge])
def test_one_part_of_a_neuron_may_be_another_and_the_rest_is_its_own(cls):
    class Never(cls):
        def neuronal_fire(self):
            return torch.zeros_like(self.v)

    node, twin = Never(step_mode="m", backend="torch"), cls(step_mode="m", v_threshold=1e30)
    x = randn(6, 3, 4) / 4
    assert node(x).sum() == 0
    twin(x)
    for name in cls.equations.states:
        torch.testing.assert_close(getattr(node, name), getattr(twin, name))


def test_options_are_told_from_numbers():
    x = randn(2, 3, 4)
    for call, words in [
        (lambda: neuron.KLIFNode(decay_input=1), "decay_input must be True or False, got 1"),
        (lambda: neuron.QIFNode(a0=None), "a0 must be a number, got None"),
        (lambda: neuron.EIFNode(v_threshold="1"), "v_threshold must be a number, got '1'"),
        (lambda: functional.alif(x, kappa=True), "kappa must be a number, got True"),
        (lambda: functional.lif(x, v_reset=True), "v_reset must be a number, got True"),
        (lambda: functional.clif(x, detach_reset=0), "detach_reset must be True or False, got 0"),
        (lambda: functional.glif(x, alpha=None), "alpha must be a number, got None"),
        (lambda: neuron.EIFNode(v_rest=None), "v_rest must be a number, got None"),
    ]:
        with pytest.raises(TypeError, match=words):
            call()


@pytest.mark.parametrize("cls", NEURONS, ids=lambda cls: cls.__name__)
def test_the_source_shows_the_step_or_says_where_it_is(cls):
    node = cls(4) if cls is neuron.GLIFNode else cls()
    shown = node.source()
    if cls.equations.kernel:
        assert f"{cls.equations.kernel} in snnkernels/neurons.h" in shown
    else:
        assert "static SNN_HD void step(" in shown and "adjoint(" in shown


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_parts_of_ones_own_keep_the_dtype_of_half_precision(dtype):
    class Own(neuron.LIFNode):
        def neuronal_fire(self):
            return super().neuronal_fire()

    tau, threshold = (torch.full((5,), value, dtype=dtype) for value in (2.0, 0.5))
    node = Own(tau, v_threshold=threshold, backend="torch", step_mode="m", store_v_seq=True)
    out = node(randn(4, 3, 5, dtype=dtype))
    assert out.dtype == node.v.dtype == node.v_seq.dtype == dtype


def test_parts_of_a_learnt_time_constant_take_it_as_the_whole_step_does():
    x = randn(6, 3, 5)

    class Own(neuron.ParametricLIFNode):
        def neuronal_fire(self):
            return super().neuronal_fire()

    node, whole = (c(3.0, backend="torch", step_mode="m") for c in (Own, neuron.ParametricLIFNode))
    assert_same_bits(node(x), whole(x))
    assert_same_bits(node.v, whole.v)
    grads = [torch.autograd.grad(n.v.sum(), n.w)[0] for n in (node, whole)]
    torch.testing.assert_close(*grads)


def test_what_has_parts_of_its_own_has_no_source_of_kernels():
    class Own(neuron.LIFNode):
        def neuronal_reset(self, spike):
            pass

    with pytest.raises(ValueError, match="Own defines its own equations"):
        Own().source()


def test_equations_that_are_copied_are_known_anew():
    """As where they come from another process, whose numbers stand for other neurons there."""
    given = neuron.QIFNode.equations
    x = randn(5, 2, 4)
    twin = type("QIFTwin", (neuron.QIFNode,), {"equations": copy.copy(given)})
    assert twin.equations.id != given.id and twin.equations.key != given.key
    assert_same_bits(twin(step_mode="m")(x), neuron.QIFNode(step_mode="m")(x))
    state = given.__getstate__()
    assert {"id", "key", "outside", "_traces"}.isdisjoint(state)


def test_the_torch_backend_keeps_no_potentials_that_nobody_asked_for():
    seen, alive = [], []

    def step(x, v, *, tau):
        seen.append(weakref.ref(v))
        alive.append(sum(ref() is not None for ref in seen))
        return x, v + x / tau

    class Watching(neuron.BaseNode):
        equations = Equations({"v": 0.0}, {"tau": 2.0}, step=step)

    for keep, most in ((True, 7), (False, 1)):
        seen.clear(), alive.clear()
        Watching(step_mode="m", backend="torch", store_v_seq=keep)(randn(8, 2, 3))
        assert max(alive) == most, keep


def test_a_surrogate_may_fire_itself():
    node = neuron.LIFNode(
        step_mode="m", backend="torch", surrogate_function=lambda u: snnkernels.spike(u)
    )
    x = randn(5, 2, 3)
    assert_same_bits(node(x), neuron.LIFNode(step_mode="m")(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gates_of_half_precision_work_in_the_arithmetics_dtype(dtype):
    node = neuron.GLIFNode(12, 4, init_conduct=0.3, step_mode="m").to(dtype)
    for name in node.equations.params:  # exactly one half
        torch.nn.init.zeros_(getattr(node, name))
    wide = neuron.GLIFNode(12, 4, step_mode="m")
    wide.load_state_dict(node.state_dict())
    x = randn(12, 3, 4, dtype=dtype)
    assert_same_bits(node(x).float(), wide(x.float()))
    assert_same_bits(node.v, wide.v)
