"""Contenders take turns, blocks follow the speed of a call, the budget bounds the rounds."""

from __future__ import annotations

import gc

import pytest

from benchmarks import timing
from benchmarks.timing import TimedCall, interleave, summarize


class Scripted:
    """A contender whose calls take a given time on a clock of its own."""

    def __init__(self, name: str, seconds: float, log: list[str], time: list[float]) -> None:
        self.name, self.seconds, self.log, self.time = name, seconds, log, time
        self.calls = 0

    def samples(self, count: int) -> list[float]:
        self.log.append(self.name)
        found = []
        for _ in range(count):
            self.calls += 1
            self.time[0] += self.seconds
            found.append(self.seconds + self.calls * 1e-9)
        return found


def race(budget: float, **seconds: float):
    log: list[str] = []
    time = [0.0]
    runs = {name: Scripted(name, value, log, time) for name, value in seconds.items()}
    summaries = interleave(runs, budget, now=lambda: time[0])
    return summaries, log[len(runs) :], time[0]


def test_contenders_take_turns_in_an_order_that_is_reversed_each_round():
    _, log, _ = race(0.0, a=1.0, b=1.0)
    assert log == ["a", "b", "b", "a", "a", "b"]


def test_slow_contenders_get_the_fewest_rounds_allowed():
    summaries, _, _ = race(1.0, slow=5.0)
    assert summaries["slow"].count == summaries["slow"].rounds == timing.MIN_ROUNDS


def test_a_contender_that_has_used_up_its_patience_leaves_and_the_others_go_on():
    log: list[str] = []
    time = [0.0]
    runs = {n: Scripted(n, s, log, time) for n, s in (("slow", 5.0), ("fast", 0.5))}
    found = interleave(runs, 0.0, patience=4.0, now=lambda: time[0])
    assert found["slow"].rounds == 1
    assert found["fast"].rounds == timing.MIN_ROUNDS


def test_rounds_go_on_until_the_budget_is_spent():
    summaries, _, total = race(2.0, fast=0.001, slow=0.01)
    assert 2.0 <= total <= 2.3
    assert summaries["fast"].rounds == summaries["slow"].rounds > timing.MIN_ROUNDS


def test_a_fast_contender_has_more_calls_in_a_block():
    summaries, _, _ = race(0.0, fast=0.001, slow=0.015)
    assert summaries["fast"].count > summaries["slow"].count


def test_a_slow_beginning_does_not_keep_the_blocks_of_a_fast_contender_small():
    class SlowAtFirst:
        calls = 0

        def samples(self, count: int) -> list[float]:
            found = [0.1 if self.calls + i < 2 else 0.001 for i in range(count)]
            self.calls += count
            return found

    found = interleave({"slow at first": SlowAtFirst()}, 0.0, min_rounds=4)["slow at first"]
    assert found.count == 1 + 1 + 20 + 20
    assert found.median == 0.001


def test_the_first_call_of_a_block_of_several_is_not_counted():
    class Cold:
        def samples(self, count: int) -> list[float]:
            return [9.0] + [0.001] * (count - 1) if count > 1 else [0.001]

    assert interleave({"cold": Cold()}, 0.0)["cold"].maximum == 0.001


def test_garbage_is_not_collected_while_timing_and_is_again_afterwards():
    states = []

    class Watching:
        def samples(self, count: int) -> list[float]:
            states.append(gc.isenabled())
            return [1.0] * count

    interleave({"watching": Watching()}, 0.0)
    assert not any(states[1:])
    assert gc.isenabled()


def test_a_summary_has_median_quartiles_and_extremes():
    summary = summarize([[1.0, 2.0, 3.0], [4.0, 5.0]])
    assert (summary.median, summary.q1, summary.q3) == (3.0, 2.0, 4.0)
    assert (summary.minimum, summary.maximum, summary.count, summary.rounds) == (1.0, 5.0, 5, 2)


def test_a_single_sample_has_no_spread():
    summary = summarize([[2.0]])
    assert summary.q1 == summary.median == summary.q3 == 2.0


@pytest.mark.parametrize(("seconds", "calls"), [(1.0, 1), (0.005, 4), (1e-9, 64), (0.0, 64)])
def test_a_block_lasts_about_a_fiftieth_of_a_second(seconds: float, calls: int):
    assert timing.block_calls(seconds) == calls


def test_the_cpu_clock_gives_one_sample_a_call():
    count = []
    assert len(TimedCall(lambda: count.append(1)).samples(5)) == len(count) == 5
