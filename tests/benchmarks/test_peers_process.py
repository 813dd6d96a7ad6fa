"""Peers in processes of their own: what they say, and what happens when they fail."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import fake_adapter
import numpy as np
import pytest

from benchmarks.memory import Memory
from benchmarks.peers import measure, worker, workloads
from benchmarks.peers.catalogue import Entry
from benchmarks.peers.install import Place
from benchmarks.peers.measure import Pool, Settings, measure_tasks
from benchmarks.peers.process import PeerFailed, PeerProcess, PeerUnsupported, RemoteRun
from benchmarks.peers.spec import Neuron, Task

HERE = str(Path(__file__).parent)
TASK = Task("neuron", (4, 2, 8), rows=2)


@pytest.fixture(autouse=True)
def adapter_on_the_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def entry(name: str) -> Entry:
    (peer,) = [peer for peer in fake_adapter.PEERS if peer.name == name]
    return Entry(peer, "fake_adapter")


def start(name: str, folder: Path) -> PeerProcess:
    found = entry(name)
    return PeerProcess(found.peer, found.adapter, Path(sys.executable), folder / "log", threads=1)


def run_of(process: PeerProcess, folder: Path, limit: float = 60) -> RemoteRun:
    files = {}
    for name, array in workloads.arrays(TASK).items():
        files[name] = folder / f"{name}.npy"
        np.save(files[name], array)
    return RemoteRun(process, TASK, files, "id", limit=limit)


def measured(names: list[str], tmp_path: Path, *, limit: float = 20.0):
    with Pool(Place(tmp_path), 1, tmp_path) as pool:
        settings = Settings(budget=0.0, limit=limit, threads=1)
        (result,) = measure_tasks([TASK], [entry(name) for name in names], pool, settings)
    return result


def test_a_run_in_another_process_gives_times_outcome_and_memory(tmp_path: Path):
    with start("faithful", tmp_path) as process:
        assert int(process.hello.versions["pid"]) != os.getpid()
        run = run_of(process, tmp_path)
        assert run.samples(3) == [0.001] * 3
        x = workloads.arrays(TASK)["x"]
        assert np.array_equal(run.outcome(tmp_path)["output"], x > 1)
        assert run.memory() == Memory(8, 4)
        run.release()
        with pytest.raises(PeerFailed, match="KeyError"):
            run.samples(1)


def test_what_a_library_prints_does_not_disturb_the_answers(tmp_path: Path):
    with start("loud", tmp_path) as process:
        assert run_of(process, tmp_path).samples(1) == [0.001]
    assert "this is no JSON" in (tmp_path / "log").read_text()


def test_a_crash_is_told_with_its_exit_code_and_last_words(tmp_path: Path):
    with (
        start("crashes", tmp_path) as process,
        pytest.raises(PeerFailed, match=r"ended in prepare \(exit code 3\): last words"),
    ):
        run_of(process, tmp_path)


def test_a_peer_that_gives_no_answer_is_ended(tmp_path: Path):
    begin = time.monotonic()
    with start("hangs", tmp_path) as process:
        with pytest.raises(PeerFailed, match="no answer within 1 s in prepare"):
            run_of(process, tmp_path, limit=1)
        assert not process.alive
    assert time.monotonic() - begin < 60


def test_an_error_and_a_refusal_leave_the_process_alive(tmp_path: Path):
    with start("raises", tmp_path) as process:
        with pytest.raises(PeerFailed, match="in prepare: ValueError: bad luck$"):
            run_of(process, tmp_path)
        assert process.alive
    with (
        start("refuses", tmp_path) as process,
        pytest.raises(PeerUnsupported, match="does not do this"),
    ):
        run_of(process, tmp_path)


def test_a_library_that_does_not_load_is_told_with_the_reason(tmp_path: Path):
    with pytest.raises(PeerFailed, match="when it started: ImportError: nothing here"):
        start("unloadable", tmp_path)


def test_a_process_ends_with_its_requests():
    replies = io.StringIO()
    worker.serve(lambda: fake_adapter.load(entry("faithful").peer), io.StringIO(""), replies)
    assert json.loads(replies.getvalue())["ok"]


def test_a_task_survives_the_way_to_another_process():
    task = Task("conv", (4, 2, 3, 8, 8), "inference", "bfloat16", "cpu", "channels_last", 2, 16,
                Neuron(surrogate="Erf", alpha=3.0), {"parts": 10})  # fmt: skip
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_peers_that_fail_are_left_out_with_their_reasons_and_the_others_are_measured(
    tmp_path: Path,
):
    names = ["native", "crashes", "hangs", "raises", "refuses", "missing", "short", "faithful"]
    found = measured(names, tmp_path, limit=3.0).found
    reasons = {name: each.skipped for name, each in found.items() if each.skipped}
    assert set(reasons) == {"crashes", "hangs", "raises", "refuses", "missing", "short"}
    assert "exit code 3" in reasons["crashes"]
    assert "no answer" in reasons["hangs"]
    assert reasons["missing"] == "not installed: --install-peers missing"
    assert "T=4" in reasons["short"]
    assert found["faithful"].time.median == found["native"].time.median == 0.001
    assert found["faithful"].memory == Memory(8, 4)


def test_a_peer_that_dies_while_it_is_timed_is_left_out_and_the_others_are_timed_anew(
    tmp_path: Path,
):
    result = measured(["native", "late", "faithful"], tmp_path)
    assert "exit code 4" in result.found["late"].skipped
    assert result.found["faithful"].time.count > 0
    assert set(result.copies) == {"copy", "clone"}


def test_each_peer_is_compared_with_ours_before_it_is_timed(tmp_path: Path):
    found = measured(["native", "faithful", "flipped"], tmp_path).found
    assert found["native"].verdict is None
    assert found["faithful"].verdict.text == "same"
    assert found["flipped"].verdict.text.startswith("different (1 of the spikes")


class Busy:
    """A watch that tells one value after the other."""

    values: list[float] = []  # noqa: RUF012

    def __init__(self, processes) -> None:
        list(processes)

    def cores(self) -> float:
        return self.values.pop(0)


@pytest.mark.parametrize(
    ("seen", "kept"), [([0.05], 0.05), ([0.5, 0.02], 0.02), ([0.9, 0.5, 0.7], 0.5)]
)
def test_a_case_is_timed_again_while_others_are_busy_and_the_quietest_try_counts(
    seen, kept, tmp_path: Path, monkeypatch
):
    Busy.values = list(seen)
    monkeypatch.setattr(measure, "Watch", Busy)
    assert measured(["native", "faithful"], tmp_path).foreign_cores == kept
    assert Busy.values == []


def test_a_peer_that_ran_another_provider_is_marked(tmp_path: Path):
    found = measured(["native", "chooses"], tmp_path).found
    assert found["chooses"].fell_back and found["chooses"].provider == "slow"
    assert not found["native"].fell_back


def test_a_peer_that_failed_twice_is_not_tried_again(tmp_path: Path):
    with Pool(Place(tmp_path), 1, tmp_path) as pool:
        settings = Settings(budget=0.0, limit=20.0, threads=1)
        peers = [entry("native"), entry("crashes")]
        results = list(measure_tasks([TASK] * 3, peers, pool, settings))
    last = results[2].found["crashes"].skipped
    assert last.startswith("given up after 2 failures")


def test_no_task_is_begun_once_the_time_is_up(tmp_path: Path):
    with Pool(Place(tmp_path), 1, tmp_path) as pool:
        settings = Settings(budget=0.0, limit=20.0, threads=1)
        tasks = [TASK, TASK]
        found = list(measure_tasks(tasks, [entry("native")], pool, settings, time_limit=0.0))
    assert len(found) < 2
