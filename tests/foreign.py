"""Runs in the environment of another library, where it is installed: ``convert`` against it."""

from __future__ import annotations

import itertools
import warnings

import pytest
import torch
from torch import nn

import snnkernels
from snnkernels import functional, neuron

T, B, N = 6, 3, 5


def train(net, x_seq, mode):
    """Outputs of two calls with a carried state, and all gradients, of a copied input."""
    x_seq = x_seq.clone().requires_grad_()
    net.zero_grad()
    if mode == "m":
        out = torch.cat([net(x_seq), net(x_seq)])
    else:
        out = torch.stack([net(x) for x in (*x_seq, *x_seq)])
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return out.detach(), [x_seq.grad, *[p.grad for p in net.parameters()]]


def compare(make, mode):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(N, N), make(), nn.Linear(N, N), make())
    for linear in (net[0], net[2]):
        nn.init.normal_(linear.weight, std=2.0)
    ours = snnkernels.convert(net)
    kept = sum(isinstance(m, neuron.BaseNode) for m in ours.modules())
    assert kept == 2, ours
    assert not any(isinstance(m, neuron.BaseNode) for m in net.modules())
    assert list(ours.state_dict()) == list(net.state_dict())
    functional.set_backend(ours, "native")
    x_seq = 4 * torch.randn(T, B, N)
    (expected, grads), (out, found) = train(net, x_seq, mode), train(ours, x_seq, mode)
    assert torch.equal(out, expected)
    assert expected.any()
    for a, b in zip(found, grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def spikingjelly():
    from spikingjelly.activation_based import layer, surrogate
    from spikingjelly.activation_based import neuron as theirs

    kinds = [
        (theirs.IFNode, {}),
        (theirs.LIFNode, {"tau": 3.0}),
        (theirs.LIFNode, {"tau": 3.0, "decay_input": False}),
        (theirs.ParametricLIFNode, {"init_tau": 3.0}),
        (theirs.ParametricLIFNode, {"init_tau": 3.0, "decay_input": False}),
    ]
    shared = [
        {"v_reset": 0.1, "v_threshold": 0.7},
        {"v_reset": None, "detach_reset": True, "surrogate_function": surrogate.ATan(3.0)},
        {"surrogate_function": surrogate.S2NN(3.0, 0.5)},
    ]
    for (kind, own), arguments, mode in itertools.product(kinds, shared, "sm"):
        compare(lambda k=kind, a={**own, **arguments}, m=mode: k(**a, step_mode=m), mode)

    net = nn.Sequential(layer.Conv2d(1, 2, 3, step_mode="m"), theirs.LIFNode(step_mode="m"))
    net.eval()
    net(torch.rand(T, B, 1, 8, 8))
    before = net[1].v
    assert snnkernels.convert(net, inplace=True) is net
    assert net[1].v is before and not net[1].training
    assert net(torch.rand(T, B, 1, 8, 8)).shape == (T, B, 2, 6, 6)
    learnt = theirs.ParametricLIFNode()
    assert snnkernels.convert(learnt, inplace=True).w is learnt.w

    class Own(theirs.LIFNode):
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mixed = snnkernels.convert(nn.Sequential(theirs.EIFNode(), Own(), theirs.IFNode()))
    assert isinstance(mixed[0], theirs.EIFNode) and isinstance(mixed[2], neuron.IFNode)
    text = str(caught[0].message)
    assert "0 (spikingjelly" in text and "a class of your own" in text, text
    strange = theirs.IFNode(surrogate_function=lambda x: (x >= 0).to(x))
    with pytest.raises(ValueError, match=r"net \(spikingjelly.*its surrogate function is not"):
        snnkernels.convert(strange, strict=True)


def layers_and_encoders():
    """What is not a neuron, against SpikingJelly's."""
    from spikingjelly.activation_based import encoding as their_encoding
    from spikingjelly.activation_based import layer as their_layer

    from snnkernels import encoding, layer

    x = torch.rand(40, 7)
    pattern = (torch.rand(5, 7) < 0.5).float()
    pairs = [
        (encoding.LatencyEncoder(9), their_encoding.LatencyEncoder(9), x),
        (encoding.LatencyEncoder(9, "log"), their_encoding.LatencyEncoder(9, "log"), x),
        (encoding.WeightedPhaseEncoder(6), their_encoding.WeightedPhaseEncoder(6), 0.9 * x),
        (encoding.PeriodicEncoder(pattern), their_encoding.PeriodicEncoder(pattern), pattern),
    ]
    for ours, theirs, given in pairs:
        for _ in range(12):
            assert torch.equal(ours(given), theirs(given)), ours
    s_seq = (torch.rand(T, B, N) < 0.4).float()
    for learnable in (False, True):
        ours = layer.SynapseFilter(5.0, learnable, "m")
        theirs = their_layer.SynapseFilter(5.0, learnable, "m")
        torch.testing.assert_close(ours(s_seq), theirs(s_seq))
        assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    images = torch.randn(T, B, 3, 4, 4)
    norms = [m.ThresholdDependentBatchNorm2d(0.7, 1.5, 3) for m in (layer, their_layer)]
    torch.testing.assert_close(*[norm(images) for norm in norms])
    for kind in ("Dropout", "Dropout2d"):
        dropouts = [getattr(m, kind)(0.4, step_mode="m") for m in (layer, their_layer)]
        torch.manual_seed(1)
        ours = dropouts[0](images)
        torch.manual_seed(1)
        assert torch.equal(ours, dropouts[1](images))


def clock_driven():
    from spikingjelly.clock_driven import neuron as theirs

    for name, own in (("IF", {}), ("LIF", {"tau": 3.0}), ("ParametricLIF", {"init_tau": 3.0})):
        for v_reset in (0.1, None):
            arguments = {**own, "v_reset": v_reset}
            compare(lambda k=f"{name}Node", a=arguments: getattr(theirs, k)(**a), "s")
            multi = getattr(theirs, f"MultiStep{name}Node")
            compare(lambda k=multi, a=arguments: k(**a, backend="torch"), "m")


def left_alone(make):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = snnkernels.convert(nn.Sequential(nn.Linear(N, N), make()))
    assert not isinstance(net[1], neuron.BaseNode)
    assert [w.category for w in caught] == [snnkernels.ConversionWarning]
    print(caught[0].message)


def snntorch():
    import snntorch as theirs

    left_alone(lambda: theirs.Leaky(beta=0.9))
    left_alone(lambda: theirs.Synaptic(alpha=0.9, beta=0.8))


def norse():
    import norse.torch as theirs

    left_alone(lambda: theirs.LIFCell())
    left_alone(lambda: theirs.LIFBoxCell())


def sinabs():
    import sinabs.layers as theirs

    left_alone(lambda: theirs.LIF(tau_mem=10.0))
    left_alone(lambda: theirs.IAF())


if __name__ == "__main__":
    import sys

    globals()[sys.argv[1]]()
    print("same")
