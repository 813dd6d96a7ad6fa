"""The published neurons against plain loops, written here from the equations alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from snnkernels import functional, neuron, surrogate, zoo

from .cases import assert_gradients_close, assert_same_bits, randn

Loop = Callable[..., list[Tensor]]
FIRE = surrogate.ATan()


def after_spike(h, s, threshold, reset, detach):
    s = s.detach() if detach else s
    return h - s * threshold if reset is None else h * (1 - s) + reset * s


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
    results, gradients = with_gradients([out, *(getattr(node, n) for n in cls.states)], [x])
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


KINKS = ("abs", "clamp", "clamp_min", "clamp_max", "maximum", "minimum", "max", "min", "relu")


@pytest.mark.parametrize("cls", [getattr(neuron, n) for n in zoo.__all__], ids=zoo.__all__)
def test_no_neuron_leaves_it_to_pytorch_what_the_gradient_at_a_kink_is(cls):
    node = (
        cls(4, step_mode="m", backend="torch") if cls is neuron.GLIFNode else cls(backend="torch")
    )
    node.step_mode = "m"
    with Called() as called:
        node(randn(4, 2, 3))
    assert {"__add__", "add", "__sub__", "sub"} & called.names
    assert called.names.isdisjoint(KINKS)


@pytest.mark.parametrize("cls", [getattr(neuron, n) for n in zoo.__all__], ids=zoo.__all__)
def test_each_neuron_learns_its_tensors_and_says_what_it_is(cls):
    node = cls(8, 6) if cls is neuron.GLIFNode else cls()
    if "tau" in cls.defaults and cls is not neuron.GLIFNode:
        node = cls(tau=torch.nn.Parameter(torch.full((6,), 2.5)))
    node.step_mode = "m"
    node(randn(8, 3, 6) + 1).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in node.parameters())
    assert "step_mode='m'" in repr(node)
    assert "Source: " in cls.__doc__ or cls is neuron.LINode


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
    with pytest.raises(TypeError, match="unexpected keyword argument 'taw'"):
        neuron.QIFNode(taw=2.0)


def test_importing_the_neurons_traces_and_compiles_nothing():
    code = (
        "import sys, snnkernels\n"
        "assert all(not c._trace.__func__.cache_info().currsize for c in "
        "[snnkernels.neuron.QIFNode])\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
