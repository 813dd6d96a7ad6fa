"""Targets are judged by the rows of the run, and what was not measured is not judged."""

from __future__ import annotations

import pytest

from benchmarks import environment, targets
from benchmarks.cases import Case, main_case
from benchmarks.memory import Memory
from benchmarks.pairs import PairResult, target_pairs
from benchmarks.runner import CaseResult, Measurement
from benchmarks.startup import ColdBuild, Startup
from benchmarks.targets import evaluate, leaves_caches
from benchmarks.timing import summarize

SMALL, LARGE, BIG = (16, 32, 1024), (64, 32, 1024), (128, 64, 4096)


def result(case: Case, native: float, reference: float = 1.0, copy: float = 1.0, saved: int = 0):
    def timed(role, seconds, memory=None):
        return Measurement(role=role, time=summarize([[seconds]]), memory=memory)

    return CaseResult(
        case,
        {
            "native": timed("fused", native, Memory(0, saved)),
            "torch": timed("reference", reference),
            "copy": timed("copy", copy),
            "clone": timed("copy", 2 * copy),
        },
    )


def judged(results, startup: Startup | None = None, pairs=()) -> dict[str, targets.Target]:
    return {target.what: target for target in evaluate(results, startup or Startup(), pairs)}


@pytest.mark.parametrize(("native", "met"), [(1 / 25, True), (1 / 24, False)])
def test_the_ratio_to_the_reference_is_judged(native: float, met: bool):
    found = judged([result(main_case(SMALL), native)])
    assert found["times the reference at [16,32,1024]"].met is met
    assert found["times the reference at [64,32,1024]"].met is None


@pytest.mark.parametrize(("factor", "met"), [(1.4, True), (1.6, False)])
@pytest.mark.parametrize("pair", target_pairs(), ids=lambda pair: pair.what)
def test_sigmoid_and_bfloat16_are_judged_by_what_was_timed_in_turns(pair, factor, met):
    timed = PairResult(pair, summarize([[1.0]]), summarize([[factor]]))
    rows = [result(pair.base, 1.0), result(pair.other, 9.0)]
    target = judged(rows, pairs=[timed])[pair.what]
    assert target.met is met
    assert target.found == f"{factor:.2f}x"
    assert judged(rows)[pair.what].met is None


def test_only_shapes_beyond_the_caches_are_held_to_the_copy_bandwidth(monkeypatch):
    monkeypatch.setattr(environment, "last_level_cache", lambda: 32 * 1024**2)
    assert leaves_caches(main_case(BIG))
    assert not leaves_caches(main_case(SMALL))
    found = judged([result(main_case(SMALL), 1.0), result(main_case(BIG), 2.0)])
    shares = [target for what, target in found.items() if what.startswith("share of the copy")]
    (share,) = shares
    # 5 accesses in 2 s against 4 in 1 s.
    assert share.found.startswith("62%")
    assert share.met is True
    assert "of clone into fresh memory: 125%" in share.found


def test_the_worst_shape_is_judged_for_what_is_saved():
    small, large = main_case(SMALL), main_case(LARGE)
    rows = [
        result(small, 1.0, saved=small.input_bytes // 4),
        result(large, 1.0, saved=large.input_bytes // 16),
    ]
    target = judged(rows)["saved for backward beside x, over x, worst shape"]
    assert target.met is False
    assert target.found == "0.250 at [16,32,1024]"


def test_rows_of_other_neurons_and_modes_are_not_judged():
    other = Case("plif", "float32", SMALL, "training", "cpu")
    inference = Case("lif", "float32", SMALL, "inference", "cpu")
    found = judged([result(other, 1e-9), result(inference, 1e-9)])
    assert all(target.met is None for target in found.values())


def test_start_up_is_judged_and_a_prebuilt_library_has_no_cold_build():
    startup = Startup(summarize([[0.3]]), (ColdBuild("cpu", 9.0, "jit"),))
    found = judged([], startup)
    assert found["cold CPU build"].met is True
    assert found["import snnkernels after torch"].met is False
    prebuilt = judged([], Startup(None, (ColdBuild("cpu", 0.1, "prebuilt"),)))
    assert prebuilt["cold CPU build"].met is None
