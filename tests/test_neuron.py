"""The neurons as modules: modes, state, monitor, copies, subclasses."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from snnkernels import FallbackWarning, functional, neuron, surrogate

from .cases import assert_same_bits, randn

NODES = [neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode, neuron.CubaLIFNode]
MULTI_STEP = [
    neuron.MultiStepIFNode,
    neuron.MultiStepLIFNode,
    neuron.MultiStepParametricLIFNode,
    neuron.MultiStepCubaLIFNode,
]


def current(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return randn(*shape, dtype=dtype) + 0.8


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("cls", NODES)
def test_step_by_step_gives_the_bits_and_gradients_of_multi_step(cls, backend):
    x = current(12, 3, 7)
    multi = x.clone().requires_grad_()
    whole = cls(step_mode="m", backend=backend)
    out = whole(multi)
    (grad,) = torch.autograd.grad(out.sum() + whole.v.sum(), multi)

    single = x.clone().requires_grad_()
    node = cls(step_mode="s", backend=backend)
    steps = torch.stack([node(step) for step in single])
    (single_grad,) = torch.autograd.grad(steps.sum() + node.v.sum(), single)

    assert 0 < out.mean() < 1
    assert_same_bits(steps, out)
    assert_same_bits(node.v, whole.v)
    torch.testing.assert_close(single_grad, grad)


@pytest.mark.parametrize("cls", MULTI_STEP)
def test_multi_step_classes_start_in_multi_step_mode(cls):
    node = cls()
    assert node.step_mode == "m"
    assert node(current(4, 2, 3)).shape == (4, 2, 3)
    assert isinstance(node, cls.__mro__[2])


@pytest.mark.parametrize("cls", NODES)
def test_v_is_a_number_until_the_first_call_and_after_reset(cls):
    node = cls(step_mode="m", v_reset=-0.2)
    assert node.v == -0.2
    x = current(5, 2, 3)
    first = node(x)
    assert node.v.shape == (2, 3)
    carried = node.v
    node(x)
    assert not torch.equal(node.v, carried)
    node.reset()
    assert node.v == -0.2
    assert_same_bits(node(x), first)
    assert_same_bits(node.v, carried)


def test_soft_reset_starts_at_zero_and_subtracts_the_threshold():
    node = neuron.IFNode(v_reset=None)
    assert node.v == 0.0
    assert node(torch.tensor([2.5])).item() == 1
    assert node.v.item() == 1.5


def test_the_neuron_fires_at_the_threshold():
    node = neuron.IFNode(v_threshold=1.0)
    assert node(torch.tensor([1.0, 0.999])).tolist() == [1.0, 0.0]
    assert node.v.tolist() == pytest.approx([0.0, 0.999])


@pytest.mark.parametrize("cls", NODES)
def test_v_seq_holds_the_potential_after_each_step(cls):
    x = current(9, 2, 4)
    node = cls(step_mode="m", store_v_seq=True)
    node(x)
    single = cls()
    expected = []
    for step in x:
        single(step)
        expected.append(single.v)
    assert_same_bits(node.v_seq, torch.stack(expected))
    node.reset()
    assert node.v_seq is None


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("cls", NODES)
def test_the_monitor_keeps_numpy_arrays_of_every_step_until_reset(cls, step_mode):
    x = current(6, 2, 4)
    node = cls(step_mode=step_mode, monitor_state=True, v_reset=-0.1, detach_reset=True)
    out = node(x) if step_mode == "m" else torch.stack([node(step) for step in x])
    assert [len(node.monitor[key]) for key in "vhs"] == [6, 6, 6]
    assert all(isinstance(a, np.ndarray) and a.shape == (2, 4) for a in node.monitor["h"])
    spikes = np.stack(node.monitor["s"])
    np.testing.assert_array_equal(spikes, out.detach().numpy())
    charged = np.stack(node.monitor["h"])
    np.testing.assert_array_equal(spikes, charged >= 1.0)
    np.testing.assert_array_equal(node.monitor["v"][-1], node.v.detach().numpy())
    np.testing.assert_array_equal(
        np.stack(node.monitor["v"]), np.where(spikes == 1, np.float32(-0.1), charged)
    )
    node.reset()
    assert set(node.monitor) == {*cls.equations.states, "h", "s"}
    assert not any(node.monitor.values())


def test_the_monitor_takes_bfloat16():
    node = neuron.LIFNode(step_mode="m", monitor_state=True)
    node(current(3, 2, 4, dtype=torch.bfloat16))
    assert node.monitor["v"][0].dtype == np.float32


@pytest.mark.parametrize("learnable", [False, True], ids=["fixed", "learnable"])
@pytest.mark.parametrize("shape", [(), (6,), (6, 4, 5)], ids=["scalar", "channel", "neuron"])
def test_tensor_parameters_of_lif_are_kept_and_learnt(shape, learnable):
    make = nn.Parameter if learnable else (lambda t: t)
    node = neuron.LIFNode(
        tau=make(torch.full(shape, 2.5)),
        v_threshold=make(torch.full(shape, 0.8)),
        v_reset=make(torch.full(shape, -0.1)),
        step_mode="m",
    )
    names = {"tau", "v_threshold", "v_reset"}
    assert {n for n, _ in node.named_parameters()} == (names if learnable else set())
    assert {n for n, _ in node.named_buffers()} == (set() if learnable else names)
    x = current(8, 2, 6, 4, 5)
    out = node(x)
    plain = neuron.LIFNode(tau=2.5, v_threshold=0.8, v_reset=-0.1, step_mode="m")
    assert_same_bits(out.detach(), plain(x))
    node.reset()
    if learnable:
        node(x).sum().backward()
        assert all(p.grad.shape == shape and p.grad.abs().sum() > 0 for p in node.parameters())


@pytest.mark.parametrize("v_reset", [-0.1, torch.full((4,), -0.1)], ids=["number", "tensor"])
def test_single_steps_and_multi_step_agree_for_a_tensor_reset(v_reset):
    x = current(7, 3, 4)
    out = neuron.LIFNode(v_reset=v_reset, step_mode="m")(x)
    node = neuron.LIFNode(v_reset=v_reset)
    assert_same_bits(torch.stack([node(step) for step in x]), out)


def test_plif_learns_its_time_constant():
    node = neuron.ParametricLIFNode(init_tau=3.0, step_mode="m")
    assert node.tau.item() == pytest.approx(3.0)
    node(current(8, 2, 6)).sum().backward()
    assert node.w.grad.shape == () and node.w.grad != 0


def trained_net() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Linear(5, 6),
        neuron.LIFNode(step_mode="m"),
        nn.Linear(6, 4),
        neuron.CubaLIFNode(step_mode="m"),
        neuron.ParametricLIFNode(step_mode="m"),
    )
    net(current(5, 2, 5)).sum().backward()
    return net


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, copy.copy, lambda net: pickle.loads(pickle.dumps(net))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_copies_carry_the_state_without_its_history(duplicate):
    net = trained_net()
    twin = duplicate(net)
    assert_same_bits(twin[1].v, net[1].v.detach())
    if duplicate is not copy.copy:
        assert not twin[1].v.requires_grad and not twin[3].i.requires_grad
    x = current(5, 2, 5)
    assert_same_bits(twin(x).detach(), net(x).detach())


def test_the_state_dict_holds_parameters_and_no_state():
    net = trained_net()
    assert {k for k in net.state_dict() if not k.startswith(("0", "2"))} == {"4.w"}
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    fresh = trained_net()
    fresh.load_state_dict(torch.load(buffer))


def test_replicas_for_data_parallel_keep_their_own_state():
    net = trained_net()
    functional.reset_net(net)
    node = net[1]
    replica = node._replicate_for_data_parallel()
    replica(current(5, 2, 6))
    assert replica.v.shape == (2, 6)
    assert node.v == 0.0


def test_reset_detach_step_mode_and_backend_reach_every_neuron():
    net = trained_net()
    functional.detach_net(net)
    assert not net[1].v.requires_grad and isinstance(net[1].v, torch.Tensor)
    functional.reset_net(net)
    assert net[1].v == 0.0 and net[3].i == 0.0
    functional.set_step_mode(net, "s")
    functional.set_backend(net, "torch")
    assert all(net[k].step_mode == "s" and net[k].backend == "torch" for k in (1, 3, 4))
    assert net(current(2, 5)).shape == (2, 4)


def test_truncated_backpropagation_stops_at_detach():
    node = neuron.LIFNode(step_mode="m")
    x = current(4, 2, 3).requires_grad_()
    node(x)
    node.detach()
    node(current(4, 2, 3))
    assert not node.v.requires_grad


def test_gradients_flow_through_the_state_between_calls():
    x = current(4, 2, 3).requires_grad_()
    node = neuron.LIFNode(step_mode="m", v_threshold=100.0)
    node(x)
    node(torch.zeros(1, 2, 3))
    (grad,) = torch.autograd.grad(node.v.sum(), x)
    torch.testing.assert_close(grad[:, 0, 0], 0.5 ** torch.tensor([5.0, 4.0, 3.0, 2.0]))


def test_state_moves_with_the_module_and_stays_wide():
    node = neuron.LIFNode(step_mode="m")
    node(current(3, 2, 4))
    node.double()
    assert node.v.dtype == torch.float64
    node.float().half()
    assert node.v.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", NODES)
def test_half_precision_keeps_its_dtype_outside_and_float32_inside(cls, dtype):
    x = current(9, 2, 8, dtype=dtype)
    node = cls(step_mode="m", store_v_seq=True)
    out = node(x)
    assert out.dtype == dtype and node.v_seq.dtype == dtype and node.v.dtype == torch.float32
    wide = cls(step_mode="m")
    assert_same_bits(out.float(), wide(x.float()))
    assert_same_bits(node.v, wide.v)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_feeds_the_kernels_in_its_dtype(dtype):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 32), neuron.LIFNode(step_mode="m", backend="native"))
    x = current(6, 4, 16) * 2
    with torch.autocast("cpu", dtype=dtype):
        out = net(x)
    assert out.dtype == dtype and 0 < out.float().mean() < 1
    out.sum().backward()
    assert net[0].weight.grad.dtype == torch.float32 and net[0].weight.grad.abs().sum() > 0


class TutorialNeuron(neuron.BaseNode):
    """As the tutorial writes one: a charge, and the rest inherited."""

    def __init__(self, decay: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.decay = decay

    def neuronal_charge(self, x):
        self.v = self.decay * self.v + x


def test_a_subclass_defines_its_own_charge():
    x = current(8, 2, 5)
    node = TutorialNeuron(0.5, step_mode="m", store_v_seq=True, monitor_state=True)
    with pytest.warns(FallbackWarning, match="TutorialNeuron defines its own equations"):
        out = node(x)
    v = torch.zeros(2, 5)
    for t, step in enumerate(x):
        v = 0.5 * v + step
        assert torch.equal(out[t], (v >= 1).float())
        v = torch.where(v >= 1, 0.0, v)
        assert torch.equal(node.v_seq[t], v)
    assert len(node.monitor["h"]) == 8
    with pytest.raises(ValueError, match="native.*TutorialNeuron"):
        TutorialNeuron(0.5, backend="native")(x[0])


def test_a_subclass_of_a_built_in_neuron_may_change_one_equation():
    class NeverReset(neuron.LIFNode):
        def neuronal_reset(self, spike):
            pass

    x = current(8, 2, 5) * 3
    node = NeverReset(tau=2.0, backend="torch", step_mode="m")
    node(x)
    v = torch.zeros(2, 5)
    for step in x:
        v = v + (step - v) / torch.tensor(2.0)
    torch.testing.assert_close(node.v, v)


def test_a_subclass_may_keep_more_state():
    class Counting(neuron.BaseNode):
        def __init__(self):
            super().__init__(backend="torch")
            self.register_memory("count", 0)

        def neuronal_charge(self, x):
            self.v = self.v + x
            self.count = self.count + 1

    node = Counting()
    node(torch.ones(2))
    node(torch.ones(2))
    assert node.count == 2
    node.reset()
    assert node.count == 0


def test_a_neuron_without_a_charge_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="BaseNode must define neuronal_charge"):
        neuron.BaseNode(backend="torch")(torch.ones(2))


def test_the_representation_shows_the_settings():
    node = neuron.LIFNode(tau=nn.Parameter(torch.full((4,), 2.0)), v_reset=None)
    text = repr(node)
    assert "tau=tensor(4,)" in text and "v_reset=None" in text and "Sigmoid(alpha=4" in text
    assert "tau=2" in repr(neuron.ParametricLIFNode())


def test_distributed_data_parallel_on_one_process_gives_the_plain_gradients(tmp_path):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        net = nn.Sequential(nn.Linear(5, 6), neuron.ParametricLIFNode(step_mode="m"))
        x = current(5, 2, 5)
        net(x).sum().backward()
        expected = [p.grad.clone() for p in net.parameters()]
        net.zero_grad()
        functional.reset_net(net)
        nn.parallel.DistributedDataParallel(net)(x).sum().backward()
        for p, e in zip(net.parameters(), expected, strict=True):
            torch.testing.assert_close(p.grad, e)
    finally:
        dist.destroy_process_group()


def test_any_callable_may_be_the_surrogate():
    x = randn(5, 2, 3)
    node = neuron.LIFNode(
        surrogate_function=lambda u: (u >= 0).to(u), step_mode="m", backend="torch"
    )
    assert_same_bits(node(x), neuron.LIFNode(step_mode="m", backend="torch")(x))


def test_the_default_surrogate_is_the_sigmoid():
    assert isinstance(neuron.LIFNode().surrogate_function, surrogate.Sigmoid)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_carried_states_may_be_changed_in_place(backend):
    node = neuron.MultiStepCubaLIFNode(backend=backend)
    node(torch.randn(5, 3, 4, requires_grad=True))
    expected = 2 * node.v.detach()
    node.v.mul_(2)
    assert torch.equal(node.v, expected)


def test_a_native_neuron_refuses_forward_mode_by_name():
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(torch.rand(3, 2, 4), torch.ones(3, 2, 4))
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            neuron.MultiStepLIFNode(backend="native")(x)
