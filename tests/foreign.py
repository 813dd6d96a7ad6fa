"""Runs where another library is installed: ``convert`` against it."""

from __future__ import annotations

import contextlib
import io
import itertools
import pickle
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import snnkernels
import snnkernels.nir
from snnkernels import functional, neuron
from snnkernels.neuron import BaseNode

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


def left_alone(*modules):
    """The text that names neurons which are not converted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = snnkernels.convert(nn.Sequential(*modules))
    assert not any(isinstance(m, BaseNode) for m in net.modules())
    assert [w.category for w in caught] == [snnkernels.ConversionWarning]
    return str(caught[0].message)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, [t for t in tensors if t.requires_grad], allow_unused=True)


def weighed(*outputs):
    """A loss that every element of every output enters with a weight of its own."""
    return sum((o * torch.linspace(-1, 1, o.numel()).view_as(o)).sum() for o in outputs)


def assert_same(ours, theirs, x_seq, call, call_fused=None, rtol=1e-5):
    """Outputs to the bit and gradients to rounding; ``call(node, x_seq)`` gives the outputs."""
    x_seq = x_seq.clone().requires_grad_()
    expected = call(theirs, x_seq)
    found = (call_fused or call)(ours, x_seq)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b), (ours, (a - b).abs().max())
    assert expected[0].any()
    assert not expected[0].all()
    names = dict(theirs.named_parameters())
    assert dict(ours.named_parameters()).keys() == names.keys()
    mine = [dict(ours.named_parameters())[name] for name in names]
    wanted = gradients(weighed(*expected), x_seq, *names.values())
    for a, b in zip(gradients(weighed(*found), x_seq, *mine), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=1e-5)


def snntorch():
    import snntorch as theirs
    from snntorch import surrogate

    def looped(node, x_seq):
        state, rows = (), []
        for x in x_seq:
            out, *state = node(x, *state)
            rows.append((out, *state))
        return [torch.stack(r) for r in zip(*rows, strict=True)]

    def at_once(node, x_seq):
        functional.set_step_mode(node, "m")
        return node(x_seq)

    learnt = {"learn_beta": True, "learn_threshold": True}
    per_neuron = {"beta": torch.linspace(-0.1, 1.1, N), "learn_beta": True}
    variants = [
        {},
        {"threshold": 1, "spike_grad": surrogate.fast_sigmoid(slope=5)},
        {**learnt, "reset_mechanism": "zero", "spike_grad": surrogate.sigmoid(slope=3)},
        {**per_neuron, "reset_mechanism": "none", "spike_grad": surrogate.heaviside()},
        {**learnt, "reset_delay": False, "spike_grad": surrogate.atan(alpha=3.0)},
        {**learnt, "reset_mechanism": "zero", "reset_delay": False},
        {"spike_grad": surrogate.straight_through_estimator()},
        {"spike_grad": surrogate.triangular(0.5)},
        {"spike_grad": surrogate.SFS(slope=3, B=-0.5)},
    ]
    for kind, own in ((theirs.Leaky, {}), (theirs.Synaptic, {"alpha": 0.7})):
        for variant in variants:
            make = lambda k=kind, a={"beta": 0.8, **own, **variant}: k(**a)  # noqa: E731
            torch.manual_seed(0)
            x_seq = torch.randn(2 * T, B, N)
            old = make()
            assert_same(snnkernels.convert(old), old, x_seq, looped)
            old = make()
            new = snnkernels.convert(old)
            assert_same(new, old, x_seq, looped, at_once)
            new.load_state_dict(old.state_dict())
    graded = theirs.Leaky(0.8, graded_spikes_factor=0.5, learn_graded_spikes_factor=True)
    assert_same(snnkernels.convert(graded), graded, torch.randn(2 * T, B, N), looped)

    # At the threshold snnTorch does not fire, and neither does its replacement.
    edge = theirs.Leaky(beta=0.0)
    assert snnkernels.convert(edge)(torch.ones(1, 1))[0].item() == 0 == edge(torch.ones(1, 1))[0]

    # Hidden states: carried, begun anew where the shape changes, copied without their history.
    net = nn.Sequential(nn.Linear(N, N), theirs.Leaky(0.8, init_hidden=True, learn_beta=True))
    net.append(theirs.Synaptic(0.7, 0.9, init_hidden=True, output=True)).eval()
    net(torch.randn(B, N))
    ours = snnkernels.convert(net)
    assert not ours[1].training
    for x in (3 * torch.randn(B, N), 3 * torch.randn(B + 1, N)):
        for a, b in zip(ours(x), net(x), strict=True):
            assert torch.equal(a, b)
    beta = net[1].beta
    assert snnkernels.convert(net, inplace=True)[1].beta is beta
    with pytest.raises(TypeError, match="mem must not be given where init_hidden=True was"):
        net[1](x, x)
    net[2].reset_mem()
    assert net[2].mem == 0.0

    text = left_alone(
        theirs.Leaky(0.9, inhibition=True),
        theirs.Leaky(0.9, spike_grad=surrogate.SSO()),
        theirs.RLeaky(0.9, all_to_all=False),
        theirs.Lapicque(0.9),
    )
    for words in ("0 (snntorch", "inhibition is set", "spike_grad SSO", "RLeaky", "Lapicque"):
        assert words in text, text


def norse():
    import norse.torch as theirs
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract

    def looped(node, x_seq):
        state, spikes, potentials = None, [], []
        for x in x_seq:
            z, state = node(x, state)
            spikes.append(z)
            potentials.append(state.v)
        return torch.stack(spikes), torch.stack(potentials)

    def twice(node, x_seq):
        state, spikes = None, []
        for x in (*x_seq, *x_seq):
            z, state = node(x, state)
            spikes.append(z)
        return *torch.stack(spikes).split(len(x_seq)), state.v, state.i

    def in_two_calls(node, x_seq):
        functional.set_step_mode(node, "m")
        z, state = node(x_seq)
        more, state = node(x_seq, state)
        return z, more, state.v, state.i

    own = {"v_leak": torch.tensor(0.1), "v_th": torch.tensor(0.4), "v_reset": torch.tensor(-0.2)}
    torch.manual_seed(0)
    x_seq = 6 * torch.randn(2 * T, B, N)
    methods = ("super", "tanh", "triangle", "circ", "heavi_erfc")
    for method, alpha in zip(methods, (100.0, 2.0, 0.3, 0.5, 1.5), strict=True):
        shared = {**own, "method": method, "alpha": torch.tensor(alpha)}
        old = theirs.LIFBoxCell(LIFBoxParameters(**shared), dt=0.004)
        assert_same(snnkernels.convert(old), old, x_seq, looped)
        old = theirs.LIFCell(LIFParameters(**shared), dt=0.002)
        assert_same(snnkernels.convert(old), old, x_seq, looped)
        assert_same(snnkernels.convert(old), old, x_seq, twice, in_two_calls)
        old = theirs.LIF(LIFParameters(**shared), dt=0.002)
        assert_same(snnkernels.convert(old), old, x_seq, in_two_calls)
    old = theirs.LIFBoxCell(LIFBoxParameters(**own, reset_method=reset_subtract), dt=0.004)
    assert_same(snnkernels.convert(old), old, x_seq, looped)

    # Parameters that are learnt stay the same tensors, and get the same gradients.
    rates = nn.Parameter(torch.linspace(80.0, 120.0, N))
    old = theirs.LIFBoxCell(LIFBoxParameters(tau_mem_inv=rates, **own), dt=0.004)
    new = snnkernels.convert(old, inplace=True)
    assert new.tau_mem_inv is rates
    wanted, found = (gradients(weighed(*looped(n, x_seq)), rates)[0] for n in (old, new))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    # In a SequentialState, in place of what was there.
    net = theirs.SequentialState(
        nn.Linear(N, N), theirs.LIFCell(dt=0.01), nn.Linear(N, N), theirs.LIFBoxCell(dt=0.01)
    )
    ours, state, expected = snnkernels.convert(net), None, None
    assert sum(isinstance(m, BaseNode) for m in ours) == 2
    for x in 20 * x_seq:
        (a, state), (b, expected) = ours(x, state), net(x, expected)
        assert torch.equal(a, b)
    assert torch.equal(state[3].v, expected[3].v)

    text = left_alone(
        theirs.LIFRecurrentCell(N, N),
        theirs.LIFCell(LIFParameters(method="adjoint")),
        theirs.LIF(LIFParameters(), record_states=True),
        theirs.LIFBoxCell(LIFBoxParameters(method="heaviside")),
    )
    for words in ("LIFRecurrentCell", "adjoint", "record_states", "method 'heaviside'"):
        assert words in text, text


def sinabs():
    import sinabs.activation as activation
    import sinabs.layers as theirs

    def batched(node, x_seq):
        return node(x_seq.transpose(0, 1)), node(x_seq.transpose(0, 1))

    subtract, reset = activation.MembraneSubtract, activation.MembraneReset
    variants = [
        (theirs.LIF, {"tau_mem": 4.0}),
        (theirs.LIF, {"tau_mem": torch.linspace(3, 9, N), "norm_input": False}),
        (theirs.LIF, {"tau_mem": 4.0, "tau_syn": 3.0, "norm_input": False}),
        (theirs.LIF, {"tau_mem": 4.0, "tau_syn": 3.0, "train_alphas": True}),
        (theirs.LIF, {"tau_mem": 4.0, "min_v_mem": -0.3, "reset_fn": reset(0.1)}),
        (theirs.IAF, {"spike_fn": activation.SingleSpike, "min_v_mem": -1.0}),
        (theirs.IAF, {"spike_fn": activation.MaxSpike(2), "reset_fn": subtract(0.3)}),
        (theirs.IAF, {"tau_syn": 3.0, "spike_threshold": torch.tensor(0.8)}),
        (theirs.IAF, {"surrogate_grad_fn": activation.Gaussian(0.1, 0.7, 0.9)}),
        (theirs.IAF, {"surrogate_grad_fn": activation.Heaviside(0.5)}),
        (theirs.IAF, {"surrogate_grad_fn": activation.SingleExponential(0.3, 2.0)}),
    ]
    torch.manual_seed(0)
    x_seq = 4 * torch.randn(2 * T, B, N)
    for kind, arguments in variants:
        old = kind(**arguments)
        new = snnkernels.convert(old)
        assert_same(new, old, x_seq, batched)
        new.load_state_dict(old.state_dict())
        carried = snnkernels.convert(old)
        assert torch.equal(carried(x_seq.transpose(0, 1)), old(x_seq.transpose(0, 1)))
        new.reset_states()
        old.reset_states()
        assert torch.equal(new(x_seq.transpose(0, 1)), old(x_seq.transpose(0, 1)))
    for squeezed in (
        theirs.IAFSqueeze(batch_size=B),
        theirs.LIFSqueeze(tau_mem=5.0, num_timesteps=T),
    ):
        ours = snnkernels.convert(squeezed)
        assert_same(ours, squeezed, x_seq, lambda node, x: [node(x.flatten(0, 1))])
    learnt = theirs.LIF(tau_mem=4.0)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        twin = snnkernels.convert(learnt.eval(), verbose=True)
    assert not twin.training
    assert said.getvalue() == "net (sinabs.layers.lif.LIF): snnkernels.convert.sinabs.LIF\n"
    again = pickle.loads(pickle.dumps(twin))
    assert torch.equal(again(x_seq.transpose(0, 1)), learnt(x_seq.transpose(0, 1)))
    assert snnkernels.convert(learnt, inplace=True).tau_mem is learnt.tau_mem

    text = left_alone(
        theirs.IAF(record_states=True),
        theirs.IAF(surrogate_grad_fn=activation.PeriodicExponential()),
        theirs.IAF(spike_threshold=torch.ones(N)),
        theirs.LIF(4.0, spike_fn=None),
        theirs.ALIF(4.0, 4.0),
        theirs.ExpLeak(4.0),
    )
    for words in ("record_states", "PeriodicExponential", "several values", "spike_fn", "ALIF"):
        assert words in text, text


def norse_nir():
    """A graph that Norse wrote, its time constants multiplied by its dt once more."""
    import norse.torch as theirs
    from norse.torch.utils.export_nir import to_nir

    torch.manual_seed(0)
    fires = theirs.LIFBoxParameters(tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.1))
    reads = theirs.LIBoxParameters(tau_mem_inv=torch.tensor(100.0))
    net = theirs.SequentialState(
        nn.Linear(N, 8),
        theirs.LIFBoxCell(fires, dt=1e-3),
        nn.Linear(8, 2),
        theirs.LIBoxCell(reads, dt=1e-3),
    )
    ours = snnkernels.nir.from_nir(to_nir(net, torch.rand(1, N), dt=1e-3), dt=1e-6, step_mode="m")
    x_seq, state, expected = 2 * torch.rand(20, B, N), None, []
    for x in x_seq:
        out, state = net(x, state)
        expected.append(out)
    spikes = ours[1](ours[0](x_seq))
    assert 0.05 < spikes.mean() < 0.95
    functional.reset_net(ours)
    torch.testing.assert_close(ours(x_seq), torch.stack(expected))


def moving_page(library):
    """What the block of docs/moving.md defines that begins with an import of a library."""
    page = (Path(__file__).resolve().parent.parent / "docs" / "moving.md").read_text("utf-8")
    beginning = rf"(?:import|from) {library}\b"
    (source,) = re.findall(rf"^```python\n({beginning}.*?)^```$", page, re.DOTALL | re.M)
    names = {"__name__": "block"}
    torch.manual_seed(0)
    exec(source, names)
    return names


def moving_from_spikingjelly():
    moving_page("spikingjelly")


def moving_from_snntorch():
    """Without the loop over time the layers round otherwise, which few spikes notice."""
    names = moving_page("snntorch")
    expected = names["net"](names["x_seq"])
    assert expected.mean() > 0.01
    assert (names["spk_seq"] != expected).float().mean() < 0.01


if __name__ == "__main__":
    import sys

    globals()[sys.argv[1]]()
    print("same")
