"""The monitor: records what neurons do, bounded, without changing it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from snnkernels import functional, layer, neuron
from snnkernels.monitor import Monitor

T, B, N = 6, 3, 5


def make_net(mode):
    net = nn.Sequential(
        layer.Linear(N, N), neuron.LIFNode(v_threshold=0.2), neuron.QIFNode(v_threshold=0.3)
    )
    functional.set_step_mode(net, mode)
    return net


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_both_step_modes_record_the_same_and_the_outputs_stay(backend):
    x_seq = 3 * torch.rand(T, B, N)
    net = make_net("m")
    functional.set_backend(net, backend)
    plain = net(x_seq)
    functional.reset_net(net)
    with Monitor(net) as multi:
        assert torch.equal(net(x_seq), plain)
    functional.reset_net(net)
    functional.set_step_mode(net, "s")
    with Monitor(net) as single:
        for x in x_seq:
            net(x)
    assert list(multi) == list(single) == ["1", "2"]
    for name in multi:
        assert torch.equal(multi[name].s, single[name].s)
        assert torch.equal(multi[name].v, single[name].v)
        torch.testing.assert_close(multi[name].rate, single[name].rate)
        assert multi[name].rate.shape == (N,)
    assert torch.equal(multi["2"].s, plain)
    torch.testing.assert_close(multi["2"].rate, plain.double().mean((0, 1)))
    assert plain.any()


def test_neurons_are_as_before_when_the_monitor_is_off_and_records_stay_until_cleared():
    net = make_net("m")
    monitor = Monitor(net, ["v", "s"], "1")
    monitor.enable()
    monitor.enable()
    net(torch.rand(T, B, N))
    monitor.disable()
    assert net[1].store_v_seq is False and net[1].v_seq is None
    assert not net[1]._forward_hooks
    net(torch.rand(T, B, N))
    assert monitor["1"].steps == T and monitor["1"].rate is None
    monitor.clear()
    assert monitor["1"].s is None and monitor["1"].steps == 0


def test_only_the_last_steps_are_kept_and_rates_count_all():
    net = make_net("m")
    x_seq = 3 * torch.rand(T, B, N)
    with Monitor(net, modules="2", limit=4) as monitor:
        first = net(x_seq)
        second = net(x_seq)
    both = torch.cat([first, second])
    assert torch.equal(monitor["2"].s, both[-4:])
    assert len(monitor["2"].v) == 4
    assert (monitor["2"].steps, monitor["2"].dropped) == (12, 8)
    torch.testing.assert_close(monitor["2"].rate, both.double().mean((0, 1)))


@pytest.mark.parametrize("first_off", [0, 1])
def test_two_monitors_of_a_neuron_do_not_get_in_each_others_way(first_off):
    net = make_net("m")
    monitors = [Monitor(net, "v"), Monitor(net, ["v", "s"])]
    for monitor in monitors:
        monitor.enable()
    monitors[first_off].disable()
    net(torch.rand(T, B, N))
    assert monitors[1 - first_off]["1"].v.shape == (T, B, N)
    monitors[1 - first_off].disable()
    monitors[1 - first_off].disable()
    assert net[1].store_v_seq is False


def test_steps_of_different_batches_are_refused_by_their_shapes_and_rates_go_on():
    net = make_net("m")
    with Monitor(net) as monitor:
        for samples in (B, 1):
            net(torch.rand(T, samples, N))
            functional.reset_net(net)
    with pytest.raises(ValueError, match=r"different shapes, \(3, 5\), \(1, 5\); clear\(\)"):
        _ = monitor["1"].s
    assert monitor["1"].rate.shape == (N,)


def test_a_kept_step_holds_no_memory_of_the_others():
    net = make_net("m")
    with Monitor(net, ["s", "v"], limit=2) as monitor:
        net(torch.rand(T, B, N))
    for kept in monitor["1"]._kept.values():
        assert [step.untyped_storage().nbytes() for step in kept] == [B * N * 4] * 2


@pytest.mark.parametrize(
    ("modules", "names"),
    [
        (None, ["1", "2"]),
        ("1", ["1"]),
        ("?", ["1", "2"]),
        (neuron.LIFNode, ["1"]),
        ([neuron.QIFNode, "1"], ["1", "2"]),
    ],
)
def test_neurons_are_selected_by_name_pattern_or_class(modules, names):
    assert list(Monitor(make_net("s"), modules=modules)) == names


def test_gradients_are_the_same_under_the_monitor():
    x_seq = torch.rand(T, B, N)
    grads = []
    net = make_net("m")
    for watched in (False, True):
        functional.reset_net(net)
        net.zero_grad()
        monitor = Monitor(net)
        if watched:
            monitor.enable()
        net(x_seq).sum().backward()
        grads.append(net[0].weight.grad.clone())
    assert torch.equal(*grads)
    assert not monitor["1"].v.requires_grad


def test_the_table_shows_a_line_for_each_module(capsys):
    net = make_net("m")
    with Monitor(net, "rate") as monitor:
        net(torch.zeros(T, B, N))
    monitor.show()
    printed = capsys.readouterr().out
    assert "LIFNode" in printed and "QIFNode" in printed
    assert "silent" in printed
    with pytest.raises(ValueError, match="quantities must contain 'rate'"):
        Monitor(net, "s").table()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"quantities": "h"}, ValueError, "quantities must be one of 's', 'v', 'rate', got 'h'"),
        ({"modules": "9"}, ValueError, "select a neuron, got '9'; there are '1' .LIFNode."),
        ({"modules": [3]}, TypeError, "modules must be names or classes, got 3"),
        ({"limit": 0}, ValueError, "limit must be finite and >= 1"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, words):
    with pytest.raises(error, match=words):
        Monitor(make_net("s"), **arguments)
    with pytest.raises(TypeError, match="net must be a torch.nn.Module"):
        Monitor("net")
