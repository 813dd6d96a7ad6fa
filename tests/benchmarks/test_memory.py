"""Memory figures against allocations whose size is known."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from benchmarks.memory import kept, peak_extra, storage_bytes
from benchmarks.suites import CONTENDERS, neurons, on_engines

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

    assert peak_extra(call, "cpu") == 300 * KIB


def test_temporaries_that_do_not_live_together_do_not_add_up():
    def call() -> Result:
        for size in (100, 250, 200):
            kib(size)
        return Result([kib(10)])

    assert peak_extra(call, "cpu") == 240 * KIB


def test_a_call_that_makes_nothing_but_its_output_has_no_extra():
    assert peak_extra(lambda: Result([kib(64)]), "cpu") == 0


def test_inputs_that_exist_before_do_not_count():
    x = torch.ones(1000)
    assert peak_extra(lambda: Result([x.neg()]), "cpu") == 0


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
    assert peak_extra(call, "cpu") == 692 * KIB


@pytest.mark.parametrize("mode", ["training", "inference"])
def test_two_measurements_of_the_same_call_agree_to_the_byte(mode: str):
    case = neurons((16, 4, 64), mode)
    job = on_engines(case, [CONTENDERS["loop"]])["loop"]()
    first, second = job.memory(), job.memory()
    assert first == second
    assert first is not None
    assert first.peak_extra > 0
    if mode == "inference":
        assert first.saved is None
    else:  # about three tensors of a step, which plain PyTorch keeps for each step
        assert 2.5 * case.input_bytes < first.saved <= 3 * case.input_bytes


def test_memory_of_an_earlier_measurement_does_not_hide_the_peak_where_it_goes():
    living = []

    def call() -> Result:
        living.clear()
        living.append(kib(5))
        return Result([kib(1)])

    assert [peak_extra(call, "cpu") for _ in range(3)] == [5 * KIB] * 3


def test_what_a_forward_keeps_is_what_lives_beside_its_output():
    class Saves(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:
            ctx.save_for_backward(x, torch.empty(256))
            ctx.hidden = torch.empty(8)
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:
            return grad.clone()

    x = torch.ones(1000, requires_grad=True)
    assert kept(lambda: Saves.apply(x), "cpu") == 4 * (256 + 8)
    assert kept(lambda: x.detach().neg(), "cpu") == 0


def test_views_of_one_storage_are_one_output():
    base = torch.empty(100)
    assert storage_bytes([base[:10], base[10:], torch.empty(5)]) == 4 * 105
