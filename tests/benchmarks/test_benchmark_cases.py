"""Which cases a run measures, and the bytes they are charged with."""

from __future__ import annotations

import itertools

import pytest

from benchmarks import cases, traffic
from benchmarks.cases import Axes, Case, parse_shape, select


def test_the_default_selection_has_every_neuron_dtype_shape_and_mode():
    rows = select(["cpu"])
    assert {row.neuron for row in rows} == set(cases.NEURONS)
    assert {row.dtype for row in rows} == set(cases.DTYPES)
    assert {row.shape for row in rows} == set(cases.SHAPES)
    assert {row.mode for row in rows} == set(cases.MODES)


def test_the_default_selection_has_the_rows_of_the_targets():
    assert set(select(["cpu"], targets=True)) <= set(select(["cpu"]))


def test_no_selection_measures_a_case_twice():
    for extent in ({}, {"full": True}, {"quick": True}, {"targets": True}):
        rows = select(["cpu", "cpu"], **extent)
        assert len(rows) == len(set(rows))


def test_the_full_selection_is_the_product_and_begins_with_the_default_one():
    rows = select(["cpu"], full=True)
    product = {
        Case(*values, "cpu")
        for values in itertools.product(cases.NEURONS, cases.DTYPES, cases.SHAPES, cases.MODES)
    }
    assert product <= set(rows)
    default = select(["cpu"])
    assert rows[: len(default)] == default


def test_a_given_axis_leaves_the_others_at_lif_float32_all_shapes_both_modes():
    rows = select(["cpu"], axes=Axes(dtypes=["bfloat16"]))
    assert {row.neuron for row in rows} == {"lif"}
    assert {row.dtype for row in rows} == {"bfloat16"}
    assert {row.shape for row in rows} == set(cases.SHAPES)
    assert {row.mode for row in rows} == set(cases.MODES)


@pytest.mark.parametrize("extent", ["full", "quick"])
def test_axes_restrict_the_full_and_the_quick_selection(extent: str):
    axes = Axes(neurons=["plif"], shapes=[(3, 2, 5)], modes=["inference"])
    rows = select(["cpu"], axes=axes, **{extent: True})
    assert rows
    assert {(row.neuron, row.shape, row.mode) for row in rows} == {("plif", (3, 2, 5), "inference")}


def test_the_surrogate_reaches_the_rows_but_not_those_of_the_targets():
    rows = select(["cpu"], "Erf", Axes(neurons=["if"]))
    assert {row.surrogate for row in rows} == {"Erf"}
    assert {row.surrogate for row in select(["cpu"], "Erf", targets=True)} == {"ATan", "Sigmoid"}


def test_every_device_gets_the_same_rows():
    rows = select(["cpu", "cuda"], quick=True)
    assert [row.device for row in rows].count("cpu") == [row.device for row in rows].count("cuda")


@pytest.mark.parametrize("text", ["16,32,1024", "[16, 32, 1024]", " (16,32,1024) "])
def test_a_shape_is_read_with_or_without_brackets(text: str):
    assert parse_shape(text) == (16, 32, 1024)


@pytest.mark.parametrize("text", ["16", "", "a,b", "0,4", "4,-1", "4,,2", "4x2"])
def test_a_bad_shape_is_refused_by_name(text: str):
    with pytest.raises(ValueError, match=r"^shape: got .*expected T,B"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("mode", "dtype", "per_element"),
    [
        ("training", "float32", 20),
        ("inference", "float32", 8),
        ("training", "bfloat16", 10),
        ("inference", "float64", 16),
    ],
)
def test_traffic_counts_five_accesses_in_training_and_two_in_inference(
    mode: str, dtype: str, per_element: int
):
    case = Case("lif", dtype, (16, 32, 1024), mode, "cpu")
    assert traffic.traffic_bytes(case) == per_element * 16 * 32 * 1024


def test_a_copy_moves_the_footprint_of_the_case():
    training = Case("lif", "float32", (4, 8, 16), "training", "cpu")
    inference = Case("lif", "float32", (4, 8, 16), "inference", "cpu")
    assert traffic.copy_bytes(training) == 4 * training.input_bytes
    assert traffic.copy_bytes(inference) == 2 * inference.input_bytes
    for case in (training, inference):
        assert 2 * traffic.copy_elements(case) * 4 == traffic.copy_bytes(case)


def test_a_share_of_one_is_the_bandwidth_of_the_copy():
    assert traffic.share(100, 2.0, 50, 1.0) == 1.0
    assert traffic.share(100, 4.0, 50, 1.0) == 0.5
