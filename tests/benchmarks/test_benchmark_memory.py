"""Memory figures against allocations whose size is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks import memory
from benchmarks.contenders import LocalRun, bind, make_forward, make_workload
from benchmarks.memory import SavedTensors, measure, storage_bytes

KIB = 1024


@dataclass
class Result:
    tensors: list[Tensor]


def kib(count: int) -> Tensor:
    return torch.empty(count * KIB, dtype=torch.uint8)


def test_a_temporary_counts_and_the_output_does_not():
    def call() -> Result:
        temporary = kib(300)
        out = kib(50)
        del temporary
        return Result([out])

    assert measure(call, "cpu", ()).peak_extra == 300 * KIB


def test_temporaries_that_do_not_live_together_do_not_add_up():
    def call() -> Result:
        for size in (100, 250, 200):
            kib(size)
        return Result([kib(10)])

    assert measure(call, "cpu", ()).peak_extra == 240 * KIB


def test_a_call_that_makes_nothing_but_its_output_has_no_extra():
    assert measure(lambda: Result([kib(64)]), "cpu", ()).peak_extra == 0


def test_inputs_that_exist_before_do_not_count():
    x = torch.ones(1000)
    assert measure(lambda: Result([x.neg()]), "cpu", (x,)).peak_extra == 0


def test_temporaries_inside_an_operator_and_inside_a_backward_count():
    class Hungry(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            kib(700)
            return grad.clone()

    x = torch.ones(KIB, dtype=torch.float64, requires_grad=True)
    upstream = torch.ones_like(x)

    def call() -> Result:
        out = Hungry.apply(x)
        return Result([out.detach(), *torch.autograd.grad(out, x, upstream)])

    # While 700 KiB live the gradient (8 KiB), which is an output, does not exist yet.
    assert measure(call, "cpu", (x, upstream)).peak_extra == 692 * KIB


def test_two_measurements_of_the_same_call_agree_to_the_byte(tiny_case):
    workload = make_workload(tiny_case(shape=(16, 4, 64)))
    run = LocalRun(bind(make_forward(workload.case, "torch"), workload), workload)
    assert run.memory() == run.memory()


def test_memory_of_an_earlier_measurement_does_not_hide_the_peak_where_it_goes():
    kept = []

    def call() -> Result:
        kept.clear()
        kept.append(kib(5))
        return Result([kib(1)])

    assert [measure(call, "cpu", ()).peak_extra for _ in range(3)] == [5 * KIB] * 3


def test_saved_storages_count_once_and_those_of_the_inputs_not_at_all():
    class Saves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            kept = torch.empty(256)
            ctx.save_for_backward(x, x[3:], kept, kept[:5], kept.view(16, 16), torch.empty(8))
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            return grad.clone()

    x = torch.ones(1000, requires_grad=True)

    def call() -> Result:
        out = Saves.apply(x)
        return Result([out.detach(), *torch.autograd.grad(out, x, torch.ones_like(out))])

    assert measure(call, "cpu", (x,)).saved == 4 * (256 + 8)


def test_nothing_is_recorded_as_saved_when_that_is_not_asked_for():
    assert measure(lambda: Result([kib(1)]), "cpu", (), record_saved=False).saved is None


def test_hooks_do_not_change_the_gradient():
    x = torch.randn(5, requires_grad=True)
    with SavedTensors([x]).hooks():
        y = (x.sigmoid() * x).sum()
    (got,) = torch.autograd.grad(y, x)
    (expected,) = torch.autograd.grad((x.sigmoid() * x).sum(), x)
    assert torch.equal(got, expected)


def test_views_of_one_storage_are_one_output():
    base = torch.empty(100)
    assert storage_bytes([base[:10], base[10:], torch.empty(5)]) == 4 * 105


def test_inference_saves_nothing_and_training_saves_something(tiny_case):
    for mode, saves in (("inference", False), ("training", True)):
        workload = make_workload(tiny_case(mode=mode))
        run = LocalRun(bind(make_forward(workload.case, "torch"), workload), workload)
        found = run.memory()
        assert isinstance(found, memory.Memory)
        assert (found.saved > 0) is saves
