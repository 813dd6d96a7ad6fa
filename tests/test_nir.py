"""NIR: round trips, what its equations say, and what it cannot say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from snnkernels import functional, layer, neuron, surrogate
from snnkernels.nir import from_nir, to_nir

nir = pytest.importorskip("nir", reason="needs the package nir")

DTS = [1.0, 1e-3, 1e-4]


def make_net(decay_input=True):
    return nn.Sequential(
        layer.Conv2d(1, 3, 3, stride=2, padding=1),
        neuron.LIFNode(3.7, decay_input, v_threshold=torch.tensor([0.3, 0.5, 0.7])[:, None, None]),
        nn.Conv2d(3, 2, 3, bias=False),
        neuron.IFNode(v_threshold=0.2, v_reset=0.1),
        layer.Flatten(),
        layer.Linear(8, 6),
        neuron.CubaLIFNode(0.9, 0.7, v_threshold=0.2),
        nn.Linear(6, 4, bias=False),
        neuron.LINode(5.0, decay_input=decay_input, v_rest=0.2),
    )


def run(net, x_seq):
    functional.reset_net(net)
    return torch.stack([net(x) for x in x_seq])


@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("through_a_file", [False, True])
def test_a_round_trip_keeps_weights_and_parameters_exactly(
    dt, decay_input, through_a_file, tmp_path
):
    net = make_net(decay_input)
    graph = to_nir(net, (1, 8, 8), dt=dt)
    if through_a_file:
        nir.write(tmp_path / "net.nir", graph)
        graph = nir.read(tmp_path / "net.nir")
    back = from_nir(graph, dt=dt)
    parameters = dict(back.named_parameters())
    assert parameters.keys() == dict(net.named_parameters()).keys()
    for name, p in net.named_parameters():
        assert torch.equal(parameters[name], p), name
    assert (back[1].tau, back[1].decay_input) == (3.7, decay_input)
    assert (back[3].v_threshold, back[3].v_reset) == (0.2, 0.1)
    assert (back[6].alpha, back[6].beta) == (0.9, 0.7)
    assert (back[8].tau, back[8].v_rest, back[8].decay_input) == (5.0, 0.2, decay_input)
    assert torch.equal(back[1].v_threshold, net[1].v_threshold.expand(3, 4, 4))
    x_seq = 3 * torch.rand(7, 2, 1, 8, 8)
    assert torch.equal(run(back, x_seq), run(net, x_seq))


@pytest.mark.parametrize("dt", DTS)
@pytest.mark.parametrize("decay_input", [True, False])
def test_a_step_is_one_of_eulers_on_nirs_equations(dt, decay_input):
    x, v = 1.3, 0.4
    for node in (neuron.LIFNode(3.0, decay_input, 9.0, 0.1), neuron.LINode(3.0, decay_input, 0.1)):
        p = to_nir(nn.Sequential(node), (1,), dt=dt).nodes["0"]
        node.v = torch.tensor([[v]], dtype=torch.float32)
        node(torch.tensor([[x]]))
        expected = v + dt / p.tau * ((p.v_leak - v) + p.r * x)
        np.testing.assert_allclose(node.v.flatten(), expected, rtol=1e-6)
    cuba = neuron.CubaLIFNode(0.6, 0.8, v_threshold=9.0)
    p = to_nir(nn.Sequential(cuba), (1,), dt=dt).nodes["0"]
    cuba.v, cuba.i = torch.tensor([[v]]), torch.tensor([[0.2]])
    cuba(torch.tensor([[x]]))
    i = 0.2 + dt / p.tau_syn * (-0.2 + p.w_in * x)
    np.testing.assert_allclose(cuba.i.flatten(), i, rtol=1e-6)
    expected = v + dt / p.tau_mem * ((p.v_leak - v) + p.r * i)
    np.testing.assert_allclose(cuba.v.flatten(), expected, rtol=1e-6)
    integrate = neuron.IFNode(v_threshold=9.0)
    p = to_nir(nn.Sequential(integrate), (1,), dt=dt).nodes["0"]
    integrate(torch.tensor([[x]]))
    np.testing.assert_allclose(integrate.v.flatten(), dt * p.r * x, rtol=1e-6)


def test_a_parametric_lif_goes_as_the_lif_that_it_is():
    net = nn.Sequential(neuron.ParametricLIFNode(init_tau=4.0))
    back = from_nir(to_nir(net, (3,), dt=1e-3), dt=1e-3, step_mode="m")
    assert isinstance(back[0], neuron.LIFNode) and back[0].step_mode == "m"
    assert back[0].tau == pytest.approx(4.0)


def test_the_surrogate_is_what_the_reader_asks_for():
    net = nn.Sequential(neuron.IFNode(surrogate_function=surrogate.ATan()))
    graph = to_nir(net, (3,), dt=1.0, drop_surrogate=True)
    assert isinstance(from_nir(graph, dt=1.0)[0].surrogate_function, surrogate.Sigmoid)
    function = surrogate.ATan()
    assert from_nir(graph, dt=1.0, surrogate_function=function)[0].surrogate_function is function


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (neuron.LIFNode(v_reset=None), ValueError, "module '0': NIR has no soft reset"),
        (neuron.IFNode(surrogate_function=surrogate.ATan()), ValueError, "NIR has no surrogates"),
        (neuron.CubaLIFNode(1.0, 0.5), ValueError, r"NIR needs alpha in \[0, 1\), got 1.0"),
        (neuron.QIFNode(), TypeError, "module '0' is a QIFNode, which NIR has no node for"),
        (nn.ReLU(), TypeError, "module '0' is a ReLU"),
    ],
)
def test_what_nir_cannot_say_is_refused(module, error, words):
    with pytest.raises(error, match=words):
        to_nir(nn.Sequential(module), (3,), dt=1e-3)


def chain(**nodes):
    nodes = {"input": nir.Input(np.array([2])), **nodes, "output": nir.Output(np.array([2]))}
    return nir.NIRGraph(nodes, list(zip(nodes, list(nodes)[1:], strict=False)))


def test_a_graph_that_ours_cannot_be_is_refused_by_its_node():
    two = np.ones(2)
    leaky = nir.LIF(tau=two, r=two, v_leak=two, v_threshold=two, v_reset=0 * two)
    with pytest.raises(ValueError, match="node 'a': v_leak must be"):
        from_nir(chain(a=leaky), dt=0.1)
    strong = nir.LI(tau=two, r=3 * two, v_leak=0 * two)
    with pytest.raises(ValueError, match="node 'a': r must be 1, or tau / dt, got"):
        from_nir(chain(a=strong), dt=0.1)
    with pytest.raises(TypeError, match="node 'a' is a Scale"):
        from_nir(chain(a=nir.Scale(two)), dt=0.1)
    linear = nir.Linear(np.eye(2))
    nodes = {"input": nir.Input(np.array([2])), "a": linear, "b": linear}
    nodes["output"] = nir.Output(np.array([2]))
    edges = [("input", "a"), ("input", "b"), ("a", "output"), ("b", "output")]
    with pytest.raises(ValueError, match="chain, but it branches at 'input'"):
        from_nir(nir.NIRGraph(nodes, edges), dt=0.1)


@pytest.mark.parametrize("tau", np.linspace(2e-3, 5e-2, 20))
def test_a_graph_in_float32_is_read_within_its_rounding(tau):
    t, r, zero, one = (np.full(2, value, np.float32) for value in (tau, tau / 1e-3, 0, 1))
    leaky = nir.LIF(tau=t, r=r, v_leak=zero, v_threshold=one, v_reset=zero)
    node = from_nir(chain(a=leaky), dt=1e-3)[0]
    assert (node.tau, node.decay_input) == (pytest.approx(tau / 1e-3, rel=1e-6), False)
    leaky.r = r * np.float32(1.00001)
    with pytest.raises(ValueError, match="node 'a': r must be 1, or tau / dt"):
        from_nir(chain(a=leaky), dt=1e-3)


def test_a_step_must_last():
    with pytest.raises(ValueError, match="dt must be finite and > 0, got 0"):
        to_nir(nn.Sequential(), (3,), dt=0)
