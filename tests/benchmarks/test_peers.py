"""Peers in processes of their own: what they say, and what happens when they fail."""

from __future__ import annotations

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import fake_adapter
import numpy as np
import pytest

from benchmarks import workloads
from benchmarks.__main__ import main
from benchmarks.case import Case, Memory, Neuron, Task, Unavailable
from benchmarks.peers import install, measure, worker
from benchmarks.peers.measure import PeerMeasurement, Pool, Watch
from benchmarks.peers.process import PeerFailed, PeerProcess, RemoteJob
from benchmarks.peers.spec import Peer, peers
from benchmarks.results import read

CASE = Case("neuron", (4, 2, 8))


@pytest.fixture(autouse=True)
def adapter_on_the_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def fake(name: str) -> Peer:
    (peer,) = [peer for peer in fake_adapter.PEERS if peer.name == name]
    return replace(peer, adapter="fake_adapter")


def start(name: str, folder: Path) -> PeerProcess:
    return PeerProcess(fake(name), None, folder / "log", threads=1)


def job_of(process: PeerProcess, limit: float = 60) -> RemoteJob:
    return RemoteJob(process, "id", Task(CASE), workloads.arrays(CASE), limit)


def measured(names: list[str], tmp_path: Path, *, limit: float = 20.0, times: int = 1):
    with Pool(1, tmp_path) as pool:
        for _ in range(times):
            who = [fake(name) for name in names]
            rows = PeerMeasurement(CASE, who, pool, budget=0.0, limit=limit).run()
    return {row["contender"]: row for row in rows}


def test_a_job_in_another_process_gives_times_outcome_and_memory(tmp_path: Path):
    with start("faithful", tmp_path) as process:
        assert int(process.versions["pid"]) != os.getpid()
        job = job_of(process)
        assert job.samples(3) == [0.001] * 3
        assert np.array_equal(job.outcome()["output"], workloads.arrays(CASE)["x"] > 1)
        assert job.memory() == Memory(8, 4)
        job.release()
        with pytest.raises(PeerFailed, match="KeyError"):
            job.samples(1)


def test_what_a_library_prints_does_not_disturb_the_answers(tmp_path: Path):
    with start("loud", tmp_path) as process:
        assert job_of(process).samples(1) == [0.001]
    assert "this is no JSON" in (tmp_path / "log").read_text()


def test_a_crash_is_told_with_its_exit_code_and_last_words(tmp_path: Path):
    with (
        start("crashes", tmp_path) as process,
        pytest.raises(PeerFailed, match=r"ended in prepare \(exit code 3\): last words"),
    ):
        job_of(process)


def test_a_peer_that_gives_no_answer_is_ended(tmp_path: Path):
    begin = time.monotonic()
    with start("hangs", tmp_path) as process:
        with pytest.raises(PeerFailed, match="no answer within 1 s in prepare"):
            job_of(process, limit=1)
        assert not process.alive
    assert time.monotonic() - begin < 60


def test_an_error_and_a_refusal_leave_the_process_alive(tmp_path: Path):
    with start("raises", tmp_path) as process:
        with pytest.raises(PeerFailed, match="in prepare: ValueError: bad luck$"):
            job_of(process)
        assert process.alive
    with (
        start("refuses", tmp_path) as process,
        pytest.raises(Unavailable, match="does not do this"),
    ):
        job_of(process)


def test_a_library_that_does_not_load_is_told_with_the_reason(tmp_path: Path):
    with pytest.raises(PeerFailed, match="when it started: ImportError: nothing here"):
        start("unloadable", tmp_path)


def test_a_process_that_cannot_even_begin_is_told_with_its_last_words(tmp_path: Path):
    peer = replace(fake("faithful"), adapter="no_such_adapter")
    with pytest.raises(PeerFailed, match=r"exit code 1.*No module named 'no_such_adapter'"):
        PeerProcess(peer, None, tmp_path / "log", threads=1)


def test_a_worker_ends_with_its_pipe():
    ours, theirs = multiprocessing.Pipe()
    ours.send(("release", "nothing"))
    ours_end = ours.fileno()
    process = multiprocessing.get_context("fork").Process(
        target=lambda: (
            os.close(ours_end),
            worker.serve(lambda: fake_adapter.load(fake("faithful")), theirs),
        )
    )
    process.start()
    theirs.close()
    assert ours.recv()[0] == "ok" and ours.recv() == ("ok", None)
    ours.close()
    process.join(20)
    assert process.exitcode == 0


def test_peers_that_fail_are_left_out_with_their_reasons_and_the_others_are_measured(
    tmp_path: Path, monkeypatch
):
    names = ["native", "crashes", "hangs", "raises", "refuses", "missing", "short", "faithful"]
    monkeypatch.setattr(install, "REQUIREMENTS", tmp_path)
    (tmp_path / "missing.txt").write_text("no-such-fakepeer==1.0\n")
    found = measured(names, tmp_path, limit=3.0)
    reasons = {name: row["skipped"] for name, row in found.items() if "skipped" in row}
    assert set(reasons) == {"crashes", "hangs", "raises", "refuses", "missing", "short"}
    assert "exit code 3" in reasons["crashes"]
    assert "no answer" in reasons["hangs"]
    assert reasons["missing"] == "not installed: python -m benchmarks install missing"
    assert "T=4" in reasons["short"]
    assert found["faithful"]["median"] == found["native"]["median"] == 0.001
    assert (found["faithful"]["peak_extra"], found["faithful"]["saved"]) == (8, 4)


def test_a_peer_that_dies_while_it_is_timed_is_left_out_and_the_others_are_timed_anew(
    tmp_path: Path,
):
    found = measured(["native", "late", "faithful"], tmp_path)
    assert "exit code 4" in found["late"]["skipped"] and "median" not in found["late"]
    assert found["faithful"]["count"] > 0
    assert {"copy", "clone"} <= set(found)


def test_a_peer_that_runs_out_of_memory_while_it_is_timed_is_left_out_and_lives_on(tmp_path: Path):
    found = measured(["native", "full", "faithful"], tmp_path, times=3)
    assert found["full"]["skipped"] == "out of memory" and "median" not in found["full"]
    assert found["faithful"]["count"] > 0


def test_each_peer_is_compared_with_ours_before_it_is_timed(tmp_path: Path):
    found = measured(["native", "faithful", "flipped"], tmp_path)
    assert "verdict" not in found["native"]
    assert found["faithful"]["said"] == "same"
    assert found["flipped"]["said"].startswith("different (1 of the spikes")
    assert found["flipped"]["median"] == 0.001


def test_a_peer_that_ran_another_provider_is_marked(tmp_path: Path):
    found = measured(["native", "chooses"], tmp_path)
    assert found["chooses"]["fell_back"] and found["chooses"]["provider"] == "slow"
    assert not found["native"]["fell_back"]


def test_a_peer_that_failed_twice_is_not_tried_again(tmp_path: Path):
    found = measured(["native", "crashes"], tmp_path, times=4)
    assert found["crashes"]["skipped"].startswith("given up after 2 failures: its process ended")


def test_ours_that_dies_while_another_is_compared_with_it_is_the_one_that_is_left_out(
    tmp_path: Path, monkeypatch
):
    """Its second task is what the others are compared with."""
    remote = PeerMeasurement._remote

    def dying(self, peer, neuron, name):
        if " as " in name:
            self.jobs[peer.name].process.close()
        return remote(self, peer, neuron, name)

    def closed(self, peer):
        return self._processes[peer.name] if peer.name in self._processes else start_of(self, peer)

    start_of = Pool.process
    monkeypatch.setattr(PeerMeasurement, "_remote", dying)
    monkeypatch.setattr(Pool, "process", closed)
    found = measured(["native", "faithful", "flipped"], tmp_path)
    assert "skipped" in found["native"] and "median" not in found["native"]
    for name in ("faithful", "flipped"):
        assert found[name]["median"] == 0.001 and "verdict" not in found[name]


def test_a_message_that_is_cut_off_is_a_failure_of_the_peer(tmp_path: Path, monkeypatch):
    with start("faithful", tmp_path) as process:
        job = job_of(process)

        def cut_off():
            process._process.kill()
            raise OSError("got end of file during message")

        monkeypatch.setattr(process._pipe, "recv", cut_off, raising=False)
        with pytest.raises(PeerFailed, match="its process ended in memory"):
            job.memory()


def test_what_is_left_out_no_longer_holds_its_task(tmp_path: Path):
    with Pool(1, tmp_path) as pool:
        measuring = PeerMeasurement(CASE, [fake("native"), fake("faithful")], pool, 0.0, 20.0)
        measuring.arrays = workloads.arrays(CASE)
        measuring.prepare("faithful")
        job = measuring.jobs["faithful"]
        measuring.leave_out("faithful", Unavailable("enough"))
        with pytest.raises(PeerFailed, match="KeyError"):
            job.samples(1)


def test_a_peer_is_not_tried_on_a_device_that_it_does_not_have(tmp_path: Path):
    other = replace(fake("faithful"), devices=("cuda",))
    with Pool(1, tmp_path) as pool:
        rows = PeerMeasurement(CASE, [fake("native"), other], pool, 0.0, 20.0).run()
    assert {row["contender"]: row.get("skipped") for row in rows}[
        "faithful"
    ] == "does not run on cpu"


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
    assert measured(["native", "faithful"], tmp_path)["copy"]["foreign_cores"] == kept
    assert Busy.values == []


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_time_of_our_own_processes_is_not_that_of_others(monkeypatch):
    """The machine's whole time is made to be what this process and its child take."""
    times = {"machine": 0.0}
    whole = measure.psutil.cpu_times()
    monkeypatch.setattr(measure.psutil, "cpu_times", lambda: whole._replace(user=times["machine"]))
    others, ours = Watch([]), Watch([os.getpid()])
    before = time.process_time()
    burn(0.5)
    times["machine"] += 2 * (time.process_time() - before)
    assert others.cores() > 0.1
    assert ours.cores() < others.cores() / 2


def test_what_a_hypervisor_took_counts_and_idle_time_does_not(monkeypatch):
    whole = measure.psutil.cpu_times()
    changes: dict[str, float] = {}
    monkeypatch.setattr(measure.psutil, "cpu_times", lambda: whole._replace(**changes))
    watch = Watch([])
    changes["idle"] = whole.idle + 100.0
    assert watch.cores() == 0.0
    changes["steal"] = whole.steal + 100.0
    assert watch.cores() > 1.0


def test_ours_come_first_and_each_name_is_there_once():
    names = [peer.name for peer in peers()]
    assert names[:4] == ["native", "dense", "loop", "compile"]
    assert len(set(names)) == len(names)


def test_a_task_survives_the_way_to_another_process(tmp_path: Path):
    task = Task(Case("conv", (4, 2, 3, 8, 8), "inference", "bfloat16", "cpu", "channels_last",
                     {"width": 16}), Neuron(surrogate="Erf", alpha=3.0))  # fmt: skip
    ours, theirs = multiprocessing.Pipe()
    ours.send(task)
    assert theirs.recv() == task


def test_peers_that_are_not_installed_are_named_and_ours_is_measured(
    tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    where = ["--device", "cpu", "--json", str(tmp_path / "found.json")]
    assert main(["peers", "loop", "norse", "--quick", "--budget", "0.01", *where]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "norse, not installed: python -m benchmarks install norse" in said
    found = read(tmp_path / "found.json")
    rows = {(row["mode"], *row["shape"][:1], row["contender"]): row for row in found.rows}
    for mode, steps in (("training", 16), ("inference", 4)):
        assert rows[mode, steps, "native"]["median"] > 0
        assert rows[mode, steps, "loop"]["verdict"] == "same"
    assert set(found.contenders) == {"native", "loop"}
    assert found.contenders["native"]["versions"]["torch"]
