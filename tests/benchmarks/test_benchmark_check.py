"""A contender that computes something else is caught before it is timed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from benchmark_doubles import altered, flip_one_spike

from benchmarks.cases import DTYPES, NEURONS
from benchmarks.check import CheckFailed, compare
from benchmarks.contenders import (
    Outcome,
    bind,
    copy_to_existing,
    make_forward,
    make_workload,
    on_backend,
)
from benchmarks.runner import Settings, run_case

REFERENCE = on_backend("torch")
CHECK = Settings(budget=0.0, check=True)


def agreement(case, alter):
    workload = make_workload(case)
    outcome = bind(make_forward(case, "torch"), workload)()
    return compare(workload, outcome, alter(outcome))


def scale_gradient(factor: float, index: int = 0):
    def alter(outcome: Outcome) -> Outcome:
        gradients = list(outcome.gradients)
        gradients[index] = gradients[index] * factor
        return replace(outcome, gradients=tuple(gradients))

    return alter


def same(outcome: Outcome) -> Outcome:
    return outcome


def test_a_flipped_spike_stops_the_run_and_is_named_with_its_case_and_place(tiny_case):
    with pytest.raises(CheckFailed) as failure:
        run_case(tiny_case(), [REFERENCE, altered(flip_one_spike)], CHECK)
    message = str(failure.value)
    assert "cpu training lif ATan float32 [4,2,8]: native differs from the reference" in message
    assert "1 of 64 spikes differ, the first at [2, 1, 3]: got " in message


def test_a_contender_is_checked_even_if_the_reference_is_not_timed(tiny_case):
    with pytest.raises(CheckFailed, match="1 of 64 spikes"):
        run_case(tiny_case(), [altered(flip_one_spike)], CHECK)


def test_with_keep_going_the_difference_is_part_of_the_result(tiny_case):
    going = replace(CHECK, keep_going=True)
    result = run_case(tiny_case(), [REFERENCE, altered(flip_one_spike)], going)
    assert result.measurements["native"].time is not None
    (problem,) = result.problems()
    assert "native differs from the reference: 1 of 64 spikes" in problem


def test_without_check_nothing_is_compared(tiny_case):
    result = run_case(tiny_case(), [altered(flip_one_spike)], Settings(budget=0.0))
    assert result.measurements["native"].agreement is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("mode", ["training", "inference"])
def test_equal_results_agree(tiny_case, neuron: str, dtype: str, mode: str):
    found = agreement(tiny_case(neuron=neuron, dtype=dtype, mode=mode), same)
    assert found.problem is None
    assert found.spikes_differing == 0
    assert (found.gradient_error is None) == (mode == "inference")


@pytest.mark.parametrize(
    ("dtype", "slight", "wrong"), [("float64", 1e-12, 1e-9), ("float32", 1e-6, 1e-4)]
)
def test_gradients_may_differ_by_rounding_and_no_more(tiny_case, dtype, slight, wrong):
    case = tiny_case(dtype=dtype)
    assert agreement(case, scale_gradient(1 + slight)).problem is None
    assert "the gradient of x is off by" in str(agreement(case, scale_gradient(1 + wrong)).problem)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_is_judged_by_twice_the_error_of_the_reference(tiny_case, dtype: str):
    case = tiny_case(dtype=dtype, shape=(16, 4, 32))
    assert agreement(case, same).problem is None
    coarse = torch.finfo(case.torch_dtype).eps
    assert "the gradient of x" in str(agreement(case, scale_gradient(1 + coarse)).problem)


def test_the_gradient_of_a_parameter_is_compared(tiny_case):
    found = agreement(tiny_case(neuron="plif"), scale_gradient(1.01, index=1))
    assert "the gradient of parameter 1 is off by" in str(found.problem)


def test_a_gradient_that_is_not_a_number_is_caught(tiny_case):
    assert agreement(tiny_case(), scale_gradient(float("nan"))).problem


def test_a_missing_gradient_is_caught(tiny_case):
    found = agreement(tiny_case(), lambda outcome: replace(outcome, gradients=()))
    assert found.problem == "0 gradients, expected 1"


def test_a_wrong_state_is_caught(tiny_case):
    found = agreement(
        tiny_case(neuron="cuba"),
        lambda outcome: replace(outcome, states=(outcome.states[0], outcome.states[1] + 1)),
    )
    assert "states are off by" in str(found.problem)


def test_a_wrong_shape_is_caught(tiny_case):
    found = agreement(tiny_case(), lambda outcome: replace(outcome, spikes=outcome.spikes[:2]))
    assert found.problem == "spikes have shape (2, 2, 8), expected (4, 2, 8)"


def test_a_copy_has_nothing_to_compare(tiny_case):
    result = run_case(tiny_case(), [REFERENCE, copy_to_existing()], CHECK)
    assert result.measurements["copy"].agreement is None


def test_neurons_fire_but_not_always_on_the_benchmark_s_input(tiny_case):
    for neuron in NEURONS:
        case = tiny_case(neuron=neuron, shape=(16, 8, 64), mode="inference")
        outcome = bind(make_forward(case, "torch"), make_workload(case))()
        assert 0.05 < outcome.spikes.mean().item() < 0.95
