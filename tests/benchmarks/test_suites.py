"""Which cases are measured in this process, by whom, and the bytes that they are charged with."""

from __future__ import annotations

import argparse
import itertools
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from benchmarks import run, suites, workloads
from benchmarks.__main__ import make_parser
from benchmarks.arguments import shape
from benchmarks.case import Case, Unavailable
from benchmarks.measure import copies
from benchmarks.suites import CONTENDERS, KINDS, SHAPES, SUITES, SURROGATES, neurons, on_engines


def options(*arguments: str) -> argparse.Namespace:
    return make_parser().parse_args(["neurons", "--device", "cpu", *arguments])


def rows(*arguments: str) -> list[Case]:
    return list(suites.neuron_cases(options(*arguments)))


def kinds(cases: list[Case]) -> set[str]:
    return {case.options["neuron"].kind for case in cases}


def test_the_default_rows_have_every_neuron_dtype_shape_and_mode():
    found = rows()
    assert kinds(found) == set(KINDS)
    assert {case.dtype for case in found} == set(suites.DTYPES)
    assert {case.shape for case in found} == set(SHAPES)
    assert {case.mode for case in found} == {"training", "inference"}


@pytest.mark.parametrize("extent", [[], ["--quick"], ["--full"]])
def test_no_row_is_measured_twice(extent):
    found = rows(*extent)
    assert len(found) == len(set(found)) == len(set(map(str, found)))


def test_the_full_rows_are_the_product():
    product = itertools.product(SHAPES, ("training", "inference"), suites.DTYPES, KINDS)
    assert set(rows("--full")) == {neurons(*each[:3], kind=each[3]) for each in product}


@pytest.mark.parametrize("extent", [[], ["--quick"], ["--full"]])
def test_an_axis_that_is_given_replaces_that_of_any_extent(extent):
    found = rows("--neurons", "plif", "--shapes", "3,2,5", "--modes", "inference", *extent)
    assert found
    assert kinds(found) == {"plif"}
    assert {(case.shape, case.mode) for case in found} == {((3, 2, 5), "inference")}


def test_the_surrogate_reaches_the_rows():
    assert {case.variant for case in rows("--surrogate", "Erf")} == {f"{k} Erf" for k in KINDS}


def test_an_axis_that_is_given_leaves_the_others_at_lif_float32_all_shapes_both_modes():
    found = rows("--dtypes", "bfloat16")
    assert {(case.variant, case.dtype) for case in found} == {("lif ATan", "bfloat16")}
    assert {case.shape for case in found} == set(SHAPES)
    assert {case.mode for case in found} == {"training", "inference"}


@pytest.mark.parametrize("text", ["16,32,1024", "[16, 32, 1024]", " (16,32,1024) "])
def test_a_shape_is_read_with_or_without_brackets(text: str):
    assert shape(text) == (16, 32, 1024)


@pytest.mark.parametrize("text", ["16", "", "a,b", "0,4", "4,-1", "4,,2", "4x2"])
def test_a_bad_shape_is_refused_by_name(text: str):
    with pytest.raises(argparse.ArgumentTypeError, match=r"^got .*expected T,B"):
        shape(text)


@pytest.mark.parametrize(
    ("mode", "dtype", "per_element"),
    [
        ("training", "float32", 20),
        ("inference", "float32", 8),
        ("training", "bfloat16", 10),
        ("training", "autocast", 10),
        ("inference", "float64", 16),
    ],
)
def test_traffic_counts_five_accesses_in_training_and_two_in_inference(mode, dtype, per_element):
    case = neurons((16, 32, 1024), mode, dtype)
    assert case.traffic_bytes == per_element * 16 * 32 * 1024


@pytest.mark.parametrize(("mode", "tensors"), [("training", 4), ("inference", 2)])
def test_a_copy_moves_the_footprint_of_the_case(mode, tensors):
    case = neurons((4, 8, 16), mode)
    assert case.copy_bytes == tensors * case.input_bytes
    source = copies(case)["clone"].call.__self__
    assert 2 * source.nbytes == case.copy_bytes


def outcome(case: Case, name: str = "loop"):
    return on_engines(case, [CONTENDERS[name]])[name]().outcome()


@pytest.mark.parametrize("name", SURROGATES)
def test_every_surrogate_can_be_asked_for(name):
    found = outcome(neurons((4, 2, 8), fire=name))
    assert found["gradient"].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", suites.DTYPES)
def test_neurons_fire_but_not_always_and_give_their_gradients(kind, dtype):
    found = outcome(neurons((16, 8, 64), dtype=dtype, kind=kind))
    assert 0.05 < found["output"].float().mean() < 0.95
    assert str(found["gradient"].dtype) == f"torch.{dtype}"
    assert ("state 1" in found) == (kind == "cuba")
    assert ("learnt 0" in found) == (kind == "plif")


@pytest.mark.parametrize("asked", [["loop", "compile", "native"], ["native"], ["compile"]])
def test_plain_pytorch_is_the_reference_of_whoever_is_asked_for(asked):
    wanted = options("--contenders", *asked)
    found = list(suites.neuron_contenders(rows()[0], wanted))
    assert found == [name for name in ("native", "compile") if name in asked] + ["loop"]
    (suite,) = [suite for suite in SUITES if suite.name == "neurons"]
    assert suite.timed(wanted) == asked


def test_all_of_a_large_input_is_compared():
    """Other processes are handed a part of it, repeated; what is in this one has it whole."""
    case = neurons((4, 64, 65536), "inference")
    assert case.few_rows < 64
    assert outcome(case)["output"].shape == workloads.arrays(case)["x"].shape == case.shape


def test_a_contender_that_cannot_do_a_case_says_why():
    case = neurons((65, 2, 4))
    for name, reason in (("cupy", "does not run on cpu"), ("compile", "T=65")):
        with pytest.raises(Unavailable, match=reason):
            on_engines(case, [CONTENDERS[name]])[name]()
    with pytest.raises(Unavailable, match="cuba has no loop"):
        on_engines(neurons((2, 2, 4), kind="cuba"), [CONTENDERS["compile"]])["compile"]()


@pytest.mark.parametrize("name", [suite.name for suite in SUITES if suite.name != "neurons"])
def test_every_suite_measures_its_cases_by_the_same_results(name, capsys):
    """On small cases; what differs from its reference would be left out with exit code 1."""
    small = {
        "compiled": [Case("neuron", (5, 2, 8), variant=kind) for kind in suites.TWINS],
        "encoding": [Case("encoding", (3, 4, 10), "inference")],
        "products": [
            Case("products", (640, 100), variant="x", options={"rate": 0.1, "outputs": 64})
        ],
        "storage": [
            Case("conv", (2, 2, 3, 8, 8), variant=layout, options={"width": 2})
            for layout in ("", "channels_last")
        ],
    }[name]
    (suite,) = [replace(suite, cases=lambda _: small) for suite in SUITES if suite.name == name]
    asked = make_parser().parse_args([name, "--device", "cpu", "--budget", "0.001"])
    results = run.new_results(asked)
    assert run.measure_suite(results, suite, asked, Console()) == 0
    assert run.finish(results, asked, Console()) == 0
    assert len(results.rows) >= 2 * len(small)
    assert all(row["median"] > 0 for row in results.rows)
    assert results.not_measured == []
    assert "milliseconds" in capsys.readouterr().out


def test_storage_keeps_less():
    case = Case("conv", (2, 2, 3, 16, 16), options={"width": 8})
    packed, plain = (prepare().memory() for prepare in suites.storage(case, options()).values())
    assert packed.saved < 0.9 * plain.saved


@pytest.mark.parametrize("kind", suites.TWINS)
def test_what_a_suite_times_of_a_twin_is_the_whole_backward(kind):
    case = Case("neuron", (9, 4, 7), variant=kind)
    jobs = [prepare() for prepare in suites.twins(case, options()).values()]
    ours, theirs = (job.call().gradients for job in jobs)
    assert len(ours) == len(theirs) == (2 if kind.startswith(("Param", "ALIF")) else 1)
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
