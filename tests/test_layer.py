"""Layers with a step mode, containers, dropout and the synapse filter."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from snnkernels import functional, layer, neuron

T, B = 3, 4

WRAPPED = [
    (layer.Linear, nn.Linear, (6, 5), (6,)),
    (layer.Conv1d, nn.Conv1d, (2, 3, 3), (2, 8)),
    (layer.Conv2d, nn.Conv2d, (2, 3, 3), (2, 8, 8)),
    (layer.Conv3d, nn.Conv3d, (2, 3, 3), (2, 4, 4, 4)),
    (layer.ConvTranspose1d, nn.ConvTranspose1d, (2, 3, 3), (2, 8)),
    (layer.ConvTranspose2d, nn.ConvTranspose2d, (2, 3, 3), (2, 8, 8)),
    (layer.ConvTranspose3d, nn.ConvTranspose3d, (2, 3, 3), (2, 4, 4, 4)),
    (layer.BatchNorm1d, nn.BatchNorm1d, (2,), (2, 8)),
    (layer.BatchNorm1d, nn.BatchNorm1d, (6,), (6,)),
    (layer.BatchNorm2d, nn.BatchNorm2d, (2,), (2, 8, 8)),
    (layer.BatchNorm3d, nn.BatchNorm3d, (2,), (2, 4, 4, 4)),
    (layer.GroupNorm, nn.GroupNorm, (2, 4), (4, 8, 8)),
    (layer.MaxPool1d, nn.MaxPool1d, (2,), (2, 8)),
    (layer.MaxPool2d, nn.MaxPool2d, (2,), (2, 8, 8)),
    (layer.MaxPool3d, nn.MaxPool3d, (2,), (2, 4, 4, 4)),
    (layer.AvgPool1d, nn.AvgPool1d, (2,), (2, 8)),
    (layer.AvgPool2d, nn.AvgPool2d, (2,), (2, 8, 8)),
    (layer.AvgPool3d, nn.AvgPool3d, (2,), (2, 4, 4, 4)),
    (layer.AdaptiveAvgPool1d, nn.AdaptiveAvgPool1d, (2,), (2, 8)),
    (layer.AdaptiveAvgPool2d, nn.AdaptiveAvgPool2d, ((1, 1),), (2, 8, 8)),
    (layer.AdaptiveAvgPool3d, nn.AdaptiveAvgPool3d, (1,), (2, 4, 4, 4)),
    (layer.Upsample, nn.Upsample, ((16, 16),), (2, 8, 8)),
    (layer.Flatten, nn.Flatten, (), (2, 8, 8)),
]


@pytest.mark.parametrize(("ours", "torchs", "args", "shape"), WRAPPED)
def test_a_layer_does_in_each_mode_what_pytorchs_does_to_the_steps(ours, torchs, args, shape):
    x_seq = torch.randn(T, B, *shape)
    ours, torchs = ours(*args).eval(), torchs(*args).eval()
    ours.load_state_dict(torchs.state_dict())
    assert torch.equal(ours(x_seq[0]), torchs(x_seq[0]))
    functional.set_step_mode(ours, "m")
    expected = torch.stack([torchs(x) for x in x_seq])
    torch.testing.assert_close(ours(x_seq), expected)
    assert isinstance(ours, type(torchs))


def test_a_step_mode_may_be_given_to_the_constructor_and_shows():
    assert layer.Linear(2, 3, step_mode="m").step_mode == "m"
    assert "step_mode='m'" in repr(layer.Flatten(step_mode="m"))
    with pytest.raises(ValueError, match="step_mode must be one of 's', 'm', got 'x'"):
        layer.Linear(2, 3, step_mode="x")


def test_batch_norm_counts_all_steps_in_step_mode_m():
    x_seq = torch.randn(T, B, 5)
    norm = layer.BatchNorm1d(5, step_mode="m")
    y = norm(x_seq)
    torch.testing.assert_close(y.mean((0, 1)), torch.zeros(5), atol=1e-6, rtol=0)
    assert norm.num_batches_tracked == 1


def test_merging_steps_and_batch_copies_nothing_and_keeps_channels_last():
    seen = []

    def look(x):
        seen.append(x)
        return x

    x_seq = torch.randn(T * B, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    y = functional.seq_to_ann_forward(x_seq.unflatten(0, (T, B)), look)
    assert seen[0].data_ptr() == x_seq.data_ptr() == y.data_ptr()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    conv = layer.Conv2d(3, 4, 3, step_mode="m").to(memory_format=torch.channels_last)
    y = conv(x_seq.unflatten(0, (T, B)))
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("shape", [(0, B), (T, 0)])
def test_no_step_and_no_sample_pass(shape):
    assert layer.Linear(6, 5, step_mode="m")(torch.rand(*shape, 6)).shape == (*shape, 5)


def test_what_is_not_a_sequence_is_refused():
    with pytest.raises(ValueError, match=r"x_seq must be a tensor of shape \[T, B, ...\], got"):
        layer.Linear(6, 5, step_mode="m")(torch.rand(6))
    with pytest.raises(ValueError, match="at least one step, got T = 0"):
        functional.multi_step_forward(torch.rand(0, 2), nn.ReLU())


def lif(mode):
    return neuron.LIFNode(step_mode=mode)


@pytest.mark.parametrize("modules", [nn.ReLU(), [nn.ReLU(), nn.Tanh()], nn.Sequential(nn.Tanh())])
def test_both_functions_take_one_module_or_several(modules):
    x_seq = torch.randn(T, B, 5)
    whole = functional.seq_to_ann_forward(x_seq, modules)
    assert torch.equal(whole, functional.multi_step_forward(x_seq, modules))


def test_containers_give_what_their_modules_give_and_keep_their_step_mode():
    x_seq = torch.rand(T, B, 6)
    linear = nn.Linear(6, 5)
    net = nn.Sequential(
        layer.SeqToANNContainer(linear, layer.Flatten()),
        layer.MultiStepContainer(lif("s")),
        layer.StepModeContainer(True, "s", lif("s")),
        layer.StepModeContainer(False, "s", nn.ReLU()),
    )
    functional.set_step_mode(net, "m")
    assert [m.step_mode for m in net.modules() if isinstance(m, neuron.LIFNode)] == ["s", "s"]
    assert net[2].step_mode == "m"
    plain = nn.Sequential(linear, lif("m"), lif("m"), nn.ReLU())
    assert torch.equal(net(x_seq), plain(x_seq))
    functional.reset_net(net)
    assert net[1][0].v == 0.0


@pytest.mark.parametrize("kind", [layer.Dropout, layer.Dropout2d])
def test_dropout_keeps_one_mask_for_all_steps_until_reset(kind):
    dropout = kind(0.5)
    x_seq = torch.ones(T, B, 16, 3, 3)
    steps = torch.stack([dropout(x) for x in x_seq])
    assert torch.equal(steps, steps[:1].expand_as(steps))
    assert set(steps.unique().tolist()) == {0.0, 2.0}
    dropout.step_mode = "m"
    assert torch.equal(dropout(x_seq), steps)
    functional.reset_net(dropout)
    assert not torch.equal(dropout(x_seq), steps)
    assert torch.equal(dropout.eval()(x_seq), x_seq)
    if kind is layer.Dropout2d:
        assert torch.equal(steps.amax((3, 4)), steps.amin((3, 4)))


def test_dropout_keeps_the_dtype_and_refuses_another_shape_before_a_reset():
    dropout = layer.Dropout(step_mode="m").half()
    assert dropout(torch.ones(T, B, 5).half()).dtype == torch.half
    with pytest.raises(ValueError, match=r"shape of the mask, \(4, 5\) a step, got \(4, 6\)"):
        dropout(torch.ones(T, B, 6))
    with pytest.raises(ValueError, match="p must be < 1, got 1"):
        layer.Dropout(1.0)


def plain_synapse(s_seq, tau):
    out, i = [], torch.zeros_like(s_seq[0])
    for s in s_seq:
        i = i - (1 - s) * i / tau + s
        out.append(i)
    return torch.stack(out)


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_the_synapse_filter_decays_between_spikes_and_learns_its_tau(learnable, backend):
    s_seq = (torch.rand(9, B, 5) < 0.3).double()
    synapse = layer.SynapseFilter(4.0, learnable, "m", backend).double()
    out = synapse(s_seq)
    torch.testing.assert_close(out, plain_synapse(s_seq, 4.0), rtol=1e-7, atol=1e-7)
    assert synapse.tau == pytest.approx(4.0)
    if learnable:
        w = synapse.w.detach().clone().requires_grad_()
        plain_synapse(s_seq, 1 / w.sigmoid()).sum().backward()
        out.sum().backward()
        torch.testing.assert_close(synapse.w.grad, w.grad)
    synapse.reset()
    synapse.step_mode = "s"
    torch.testing.assert_close(torch.stack([synapse(s) for s in s_seq]), out)


def test_a_synapse_filter_can_be_copied_and_pickled():
    synapse = layer.SynapseFilter(4.0, True)
    synapse(torch.ones(2))
    for twin in (copy.deepcopy(synapse), pickle.loads(pickle.dumps(synapse))):
        assert torch.equal(twin.out_i, synapse.out_i)
    with pytest.raises(ValueError, match="tau must be finite and > 1, got 1"):
        layer.SynapseFilter(1.0)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (layer.ThresholdDependentBatchNorm1d, (T, B, 6)),
        (layer.ThresholdDependentBatchNorm2d, (T, B, 6, 5, 5)),
    ],
)
def test_the_threshold_dependent_norm_scales_to_alpha_times_the_threshold(norm, shape):
    x_seq = 3 + torch.randn(shape)
    y = norm(0.5, 2.5, 6)(x_seq).transpose(1, 2).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(1, correction=0), torch.full((6,), 1.25), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match="affine must be True"):
        norm(0.5, 2.5, 6, affine=False)


def test_a_convolutional_network_runs_alike_step_by_step_and_over_all_steps():
    net = nn.Sequential(
        layer.Conv2d(1, 4, 3, padding=1),
        layer.BatchNorm2d(4),
        neuron.LIFNode(),
        layer.MaxPool2d(2),
        layer.Flatten(),
        layer.Linear(4 * 16, 5),
        neuron.LIFNode(v_threshold=0.1),
    ).eval()
    x_seq = 9 * torch.rand(T, B, 1, 8, 8)
    steps = torch.stack([net(x) for x in x_seq])
    functional.reset_net(net)
    functional.set_step_mode(net, "m")
    assert torch.equal(net(x_seq), steps)
    assert steps.any()
