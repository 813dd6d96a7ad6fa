"""Targets are judged by the rows of the run, and what was not measured is not judged."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

import pytest

from benchmarks import environment, startup, targets
from benchmarks.case import Case
from benchmarks.suites import neurons
from benchmarks.targets import PAIR, PAIRS, evaluate, leaves_caches
from benchmarks.timing import summarize

SMALL, LARGE, BIG = (16, 32, 1024), (64, 32, 1024), (128, 64, 4096)


def rows(case: Case, saved: int = 0, **seconds: float) -> list[dict[str, Any]]:
    return [
        {**case.columns(), "contender": name, "saved": saved, **asdict(summarize([[each]]))}
        for name, each in seconds.items()
    ]


def result(case: Case, native: float, loop: float = 1.0, copy: float = 1.0, saved: int = 0):
    return rows(case, saved, native=native, loop=loop, copy=copy, clone=2 * copy)


def judged(found, started=()) -> dict[str, targets.Target]:
    return {target.what: target for target in evaluate(found, list(started))}


@pytest.mark.parametrize(("native", "met"), [(1 / 25, True), (1 / 24, False)])
def test_the_ratio_to_plain_pytorch_is_judged(native: float, met: bool):
    found = judged(result(neurons(SMALL), native))
    assert found["times plain PyTorch at [16, 32, 1024]"].met is met
    assert found["times plain PyTorch at [64, 32, 1024]"].met is None


@pytest.mark.parametrize(("factor", "met"), [(1.4, True), (1.6, False)])
@pytest.mark.parametrize("what", PAIRS)
def test_sigmoid_and_bfloat16_are_judged_by_what_was_timed_in_turns(what, factor, met):
    pair = Case(PAIR, SMALL, variant=what)
    target = judged(rows(pair, base=1.0, other=factor))[f"{what} at [16, 32, 1024]"]
    assert target.met is met
    assert target.found == f"{factor:.2f}x"
    assert judged([])[f"{what} at [16, 32, 1024]"].met is None


def test_only_shapes_beyond_the_caches_are_held_to_the_copy_bandwidth(monkeypatch):
    monkeypatch.setattr(environment, "last_level_cache", lambda: 32 * 1024**2)
    assert leaves_caches(neurons(BIG))
    assert not leaves_caches(neurons(SMALL))
    found = judged([*result(neurons(SMALL), 1.0), *result(neurons(BIG), 2.0)])
    (share,) = [target for what, target in found.items() if what.startswith("share of the copy")]
    # 5 accesses in 2 s against 4 in 1 s.
    assert share.found.startswith("62%")
    assert share.met is True
    assert "of a copy into fresh memory: 125%" in share.found


def test_the_worst_shape_is_judged_for_what_is_kept():
    small, large = neurons(SMALL), neurons(LARGE)
    found = judged(
        [
            *result(small, 1.0, saved=small.input_bytes // 4),
            *result(large, 1.0, saved=large.input_bytes // 16),
        ]
    )
    target = found["kept for backward beside x, over x, worst shape"]
    assert target.met is False
    assert target.found == "0.250 at [16, 32, 1024]"


def test_rows_of_other_neurons_and_modes_are_not_judged():
    other, inference = neurons(SMALL, kind="plif"), neurons(SMALL, "inference")
    found = judged([*result(other, 1e-9), *result(inference, 1e-9)])
    assert all(target.met is None for target in found.values())


def test_start_up_is_judged_and_a_prebuilt_library_has_no_cold_build():
    def started(seconds: float, origin: str) -> list[dict[str, Any]]:
        built = {"what": startup.build_name("cpu"), "seconds": seconds, "origin": origin}
        return [built, {"what": startup.IMPORT, "seconds": 0.3, "origin": ""}]

    found = judged([], started(9.0, "jit"))
    assert found[startup.build_name("cpu")].met is True
    assert found[startup.IMPORT].met is False
    assert judged([], started(0.1, "prebuilt"))[startup.build_name("cpu")].met is None


def test_the_command_measures_all_that_the_targets_speak_of(measured, monkeypatch, capsys):
    shape = (4, 2, 8)
    monkeypatch.setattr(targets, "SHAPES", (shape,))
    monkeypatch.setattr(targets, "RATIOS", {shape: 1e9})
    monkeypatch.setattr(targets.startup, "measure", lambda device: [])
    code, found = measured("targets")
    assert code == 0
    met = {each["what"]: each["met"] for each in found["targets"]}
    assert met["times plain PyTorch at [4, 2, 8]"] is False
    assert met["Sigmoid over ATan at [4, 2, 8]"] is not None
    assert "missed" in capsys.readouterr().out


@pytest.mark.parametrize(("training", "met"), [(15e-6, True), (17e-6, False)])
def test_a_small_layer_is_judged_by_what_was_timed_in_turns(training: float, met: bool):
    found = judged(rows(targets.HOST, empty=10e-6, training=training, inference=training))
    assert found["training at [4, 1, 16] over an empty autograd.Function"].met is met
    assert found["inference at [4, 1, 16]"].met is met
    assert judged([])["inference at [4, 1, 16]"].met is None


def test_the_calls_of_a_small_layer_do_the_same_as_a_neuron():
    contenders = targets.contenders(targets.HOST, argparse.Namespace())
    assert list(contenders) == ["empty", "training", "inference"]
    for prepare in contenders.values():
        job = prepare()
        assert len(job.samples(2)) == 2
        assert job.outcome() is None
