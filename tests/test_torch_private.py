"""What is private in PyTorch does what this package takes it for, in each release of it."""

from __future__ import annotations

import torch
from torch import nn

from snnkernels._core import torch_private


def with_every_hook(module: nn.Module, ran: list[str]) -> nn.Module:
    module.register_forward_pre_hook(lambda *_: ran.append("pre"))
    module.register_forward_pre_hook(lambda *_: ran.append("pre with kwargs"), with_kwargs=True)
    module.register_forward_hook(lambda *_: ran.append("forward"))
    module.register_forward_hook(lambda *_: ran.append("forward with kwargs"), with_kwargs=True)
    module.register_full_backward_pre_hook(lambda *_: ran.append("backward pre"))
    module.register_full_backward_hook(lambda *_: ran.append("full backward"))
    return module


def test_copied_hooks_run_as_those_of_the_module_they_came_from():
    runs = []
    original = with_every_hook(nn.ReLU(), ran := [])
    copy = nn.ReLU()
    assert torch_private.has_hooks(original) and not torch_private.has_hooks(copy)
    torch_private.copy_hooks(original, copy)
    for module in (original, copy):
        ran.clear()
        module(torch.ones(3, requires_grad=True) * 2).sum().backward()
        runs.append(list(ran))
    assert runs[0] == runs[1]
    assert len(runs[0]) == 6


def test_a_tangent_a_transform_and_a_mode_are_seen():
    x = torch.ones(3)
    seen = []
    assert not torch_private.is_watched() and not torch_private.may_have_tangents()
    with torch.autograd.forward_ad.dual_level():
        assert torch_private.may_have_tangents() and torch_private.is_watched()
    torch.func.vmap(lambda a: seen.append(torch_private.is_watched()) or a)(x)
    with torch_private.TorchDispatchMode():
        seen.append(torch_private.is_watched())
    assert seen == [True, True]


def test_a_gradient_that_stands_for_a_batch_is_seen():
    x = torch.ones(3, requires_grad=True)
    seen = []
    y = x * 1
    y.register_hook(lambda grad: seen.append(torch_private.is_batched(grad)))
    torch.autograd.grad(y, x, torch.eye(3), is_grads_batched=True)
    torch.autograd.grad(x * 1, x, torch.ones(3))
    assert seen == [True]
    assert not torch_private.is_batched(x)


def test_changes_in_place_are_counted():
    x = torch.zeros(3)
    before = torch_private.version_of(x)
    x.add_(1)
    assert torch_private.version_of(x) == before + 1


def test_below_autograd_nothing_is_recorded():
    x = torch.ones(3, requires_grad=True)
    assert torch.mul(x, 2).requires_grad
    assert not torch_private.below_autograd(torch.mul, (x, 2)).requires_grad


def test_a_marked_function_is_called_once_when_a_graph_is_made_and_never_run_in_it():
    calls = []

    @torch_private.constant_when_compiled
    def constant(name):
        calls.append(name)
        return {"a": 2}[name]

    compiled = torch.compile(lambda x: x * constant("a"), backend="eager", fullgraph=True)
    for _ in range(3):
        assert compiled(torch.ones(1)).item() == 2
    assert calls == ["a"]


def test_zeros_without_memory_are_told_from_others():
    assert torch_private.is_zero_tensor(torch._efficientzerotensor(3))
    assert not torch_private.is_zero_tensor(torch.zeros(3))


def test_submodules_are_those_of_the_module_itself_and_can_be_replaced():
    net = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())
    assert list(torch_private.submodules(net)) == ["0", "1"]
    torch_private.submodules(net)["1"] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
