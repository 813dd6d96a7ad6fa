"""When a result is the same as the one expected, close to it, or another."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.compare import KERNELS, judge

SPIKES = (np.random.default_rng(0).random((4, 8, 256)) < 0.3).astype(np.float32)
GRADIENT = np.random.default_rng(1).standard_normal(8192).astype(np.float32)


def outcome(output=SPIKES, gradient=GRADIENT):
    return {"output": output, "gradient": gradient}


def flipped(count: int) -> np.ndarray:
    spikes = SPIKES.copy()
    spikes.ravel()[:count] = 1 - spikes.ravel()[:count]
    return spikes


def verdict(theirs, dtype="float32", differs=""):
    return judge(outcome(), theirs, dtype=dtype, spikes=True, differs=differs)


def test_equal_spikes_and_gradients_but_for_rounding_are_the_same():
    assert verdict(outcome()).text == "same"
    assert verdict(outcome(gradient=GRADIENT * (1 + 1e-6))).kind == "same"


def test_a_single_other_spike_is_no_longer_the_same():
    found = verdict(outcome(flipped(1)))
    assert found.kind == "close"
    assert found.text == "close (max difference: 0.00012 of the spikes, gradient 0.0e+00)"


def test_many_other_spikes_are_different_and_counted():
    found = verdict(outcome(flipped(820)))
    assert found.text == "different (0.1 of the spikes, gradient 0.0e+00)"
    assert found.output_error == pytest.approx(820 / 8192)


@pytest.mark.parametrize(("factor", "kind"), [(1.001, "close"), (1.1, "different")])
def test_gradients_decide_too(factor, kind):
    assert verdict(outcome(gradient=GRADIENT * np.float32(factor))).kind == kind


def test_the_known_difference_is_named_beside_the_measured_one():
    found = verdict(outcome(1 - SPIKES), differs="fires later")
    assert found.text.startswith("different (fires later; 1 of the spikes")


def test_a_known_difference_is_not_claimed_where_none_is_found():
    assert verdict(outcome(), differs="fires later").text == "same"


def test_low_precision_is_allowed_its_own_rounding():
    rounded = outcome(gradient=GRADIENT * np.float32(1.002))
    assert verdict(rounded, dtype="float16").kind == "same"
    assert verdict(rounded).kind == "close"


def test_potentials_are_compared_as_numbers():
    values = {"output": np.ones((4, 2, 8), np.float32)}
    near = {"output": values["output"] * np.float32(1 + 3e-5)}
    assert judge(values, near, dtype="float32", spikes=False).kind == "close"
    assert judge(values, values, dtype="float32", spikes=False).text == "same"


@pytest.mark.parametrize("broken", [np.full_like(GRADIENT, np.nan), GRADIENT[:5]])
def test_gradients_that_are_no_numbers_or_of_another_shape_are_different(broken):
    assert verdict(outcome(gradient=broken)).kind == "different"


def test_inference_is_judged_by_spikes_alone():
    found = judge({"output": SPIKES}, {"output": SPIKES}, dtype="float32", spikes=True)
    assert (found.kind, found.gradient_error) == ("same", None)


def test_each_gradient_is_judged_by_itself_and_a_sum_has_more_room():
    w = np.float32([3.0])
    expected = {**outcome(), "learnt 0": w}
    for factor, kind in ((1 + 5e-5, "same"), (1.001, "close"), (1.5, "different")):
        found = judge(
            expected,
            {**outcome(), "learnt 0": w * np.float32(factor)},
            dtype="float32",
            spikes=True,
        )
        assert found.kind == kind


def test_float64_is_held_to_more_digits():
    wide = {"output": SPIKES, "gradient": GRADIENT.astype(np.float64)}
    near = {**wide, "gradient": wide["gradient"] * (1 + 1e-8)}
    assert judge(wide, near, dtype="float64", spikes=True).kind == "close"


def test_a_result_of_another_shape_is_different():
    assert verdict(outcome(SPIKES[:2])).output_error == 1.0


def test_a_missing_gradient_is_different_and_a_hidden_state_is_not_compared():
    expected = {**outcome(), "state 0": np.float32([1.0, 2.0])}
    assert judge(expected, outcome(), dtype="float32", spikes=True).kind == "same"
    wrong = {**outcome(), "state 0": np.float32([1.0, 2.5])}
    assert judge(expected, wrong, dtype="float32", spikes=True).kind == "different"
    missing = judge(outcome(), {"output": SPIKES}, dtype="float32", spikes=True)
    assert missing.kind == "different" and missing.gradient_error == float("inf")


def test_kernels_are_held_to_more_than_other_libraries_in_low_precision():
    rounded = outcome(gradient=GRADIENT * np.float32(1.003))
    assert judge(outcome(), rounded, dtype="bfloat16", spikes=True).kind == "same"
    kernel = judge(outcome(), rounded, dtype="bfloat16", spikes=True, tolerance=KERNELS)
    assert kernel.kind == "close"
