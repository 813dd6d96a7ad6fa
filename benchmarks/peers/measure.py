"""Measures a case by peers: each prepared in its process, compared with ours, timed in turns."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, cast

import psutil

from benchmarks import workloads
from benchmarks.case import Case, Neuron, Task, Unavailable
from benchmarks.compare import judge
from benchmarks.measure import Measurement, Tell
from benchmarks.peers import install
from benchmarks.peers.process import PeerFailed, PeerProcess, RemoteJob
from benchmarks.peers.spec import Peer
from benchmarks.timing import Summary, Timed

TRIES = 3
QUIET = 0.1
"""Cores that others may keep busy; above it a case is timed again, and the quietest try counts."""
STRIKES = 2
"""Failures after which a peer is not tried again."""
OTHERS = ("idle", "iowait", "guest", "guest_nice")
"""What of the processors' time is not work, or is counted twice."""


class Pool(AbstractContextManager["Pool"]):
    """The peers' processes, started when they are first needed and again after a failure.

    ``about`` has title, versions and import time of each peer that was started.
    """

    def __init__(self, threads: int, logs: Path) -> None:
        self._threads, self._logs = threads, logs
        self._processes: dict[str, PeerProcess] = {}
        self._strikes: dict[str, list[str]] = {}
        self.about: dict[str, dict[str, Any]] = {}

    def process(self, peer: Peer) -> PeerProcess:
        """The process of a peer.

        Raises:
            Unavailable: it is not installed, or has failed too often.
            PeerFailed: it does not start.
        """
        name = peer.name
        strikes = self._strikes.get(name, [])
        if len(strikes) >= STRIKES:
            raise Unavailable(f"given up after {len(strikes)} failures: {strikes[-1]}")
        running = self._processes.get(name)
        if running and running.alive:
            return running
        if not install.installed(peer):
            raise Unavailable(f"not installed: python -m benchmarks install {name}")
        log = self._logs / f"{name}.log"
        started = PeerProcess(peer, install.packages(peer), log, self._threads)
        self._processes[name] = started
        self.about[name] = {
            "title": peer.title,
            "versions": started.versions,
            "import_seconds": started.import_seconds,
        }
        return started

    def strike(self, failure: PeerFailed) -> None:
        """Count a failure against its peer."""
        self._strikes.setdefault(failure.peer, []).append(str(failure))

    def __exit__(self, *error: object) -> None:
        for process in self._processes.values():
            process.close()


class PeerMeasurement(Measurement):
    """One case by all peers that have its workload.

    Args:
        case: what is done.
        peers: who may do it, ours first.
        pool: their processes.
        budget: seconds of timing.
        limit: seconds that a first call may take.
        tell: hears of each stage.
    """

    def __init__(
        self,
        case: Case,
        peers: Sequence[Peer],
        pool: Pool,
        budget: float,
        limit: float,
        tell: Tell = lambda text: None,
    ) -> None:
        self.peers = {peer.name: peer for peer in peers if case.workload in peer.workloads}
        self.pool, self.limit = pool, limit
        self.arrays: Mapping[str, Any] = {}
        self.expected: dict[Neuron, Mapping[str, Any]] = {}
        self.epoch = case.workload == "mnist"
        # An epoch is timed in its parts, of which preparing and the first sample take one each.
        parts = case.options.get("parts", 2) - 2
        turns = {"min_rounds": parts, "max_rounds": parts} if self.epoch else {"patience": 4.0}
        self.rounds = {"pause": 0.01, **turns}
        spikes = workloads.WORKLOADS[case.workload].spikes
        contenders = {
            name: partial(self._remote, peer, peer.neuron, name)
            for name, peer in self.peers.items()
        }
        super().__init__(case, contenders, budget, tell, spikes=spikes)

    def run(self) -> list[dict[str, Any]]:
        self.arrays = workloads.arrays(self.case, self.case.few_rows)
        return super().run()

    def prepare(self, name: str) -> None:
        peer = self.peers[name]
        reason = unfit(peer, self.case)
        if reason:
            raise Unavailable(reason)
        self.tell(f"{name}: first call")
        self.jobs[name] = job = cast(RemoteJob, self.contenders[name]())
        fell_back = peer.provider is not None and job.provider != peer.provider
        self.note(name, first_seconds=job.first_seconds, provider=job.provider, fell_back=fell_back)

    def _remote(self, peer: Peer, neuron: Neuron, name: str) -> RemoteJob:
        process = self.pool.process(peer)
        task = Task(self.case, neuron, self.case.few_rows)
        return RemoteJob(process, name, task, self.arrays, self.limit)

    def compare(self, name: str) -> None:
        """Compare a peer with ours, set to the equations that the peer computes."""
        ours = next(iter(self.peers.values()))
        if self.epoch or name == ours.name or ours.name not in self.jobs:
            return
        peer = self.peers[name]
        self.tell(f"{name}: comparing")
        if peer.neuron not in self.expected:
            reference = self._remote(ours, peer.neuron, f"{ours.name} as {name}")
            try:
                self.expected[peer.neuron] = reference.outcome()
            except Unavailable as reason:
                if isinstance(reason, PeerFailed):
                    raise
                self.note(name, said=f"not compared: {ours.name}, {reason}")
                return
            finally:
                reference.release()
        found, expected = self.jobs[name].outcome(), self.expected[peer.neuron]
        assert found is not None
        dtype, spikes = self.case.dtype, self.spikes
        self.note_verdict(
            name, judge(expected, found, dtype=dtype, spikes=spikes, differs=peer.differs)
        )

    def time(self) -> dict[str, Summary]:
        """Time everyone in turns, again if others were busy meanwhile."""
        tries: list[tuple[float, dict[str, Summary]]] = []
        while len(tries) < (1 if self.epoch else TRIES):
            watch = Watch(job.process.pid for job in self._remotes())
            times = super().time()
            tries.append((watch.cores(), times))
            if tries[-1][0] <= QUIET:
                break
        cores, times = min(tries, key=lambda each: each[0])
        for name in times:
            self.note(name, foreign_cores=cores)
        return {name: times[name] for name in times if name not in self.peers or name in self.jobs}

    def _remotes(self) -> list[RemoteJob]:
        return [job for job in self.jobs.values() if isinstance(job, RemoteJob)]

    def copies(self) -> dict[str, Timed]:
        return {} if self.case.shape == workloads.TINY else super().copies()

    def after(self, name: str) -> None:
        if not self.epoch:
            super().after(name)
            return
        self.tell(f"{name}: accuracy")
        self.note(name, **self.jobs[name].outcome() or {})

    def release(self, name: str) -> None:
        job = self.jobs[name]
        assert isinstance(job, RemoteJob)
        job.release()
        super().release(name)

    def leave_out(self, name: str, reason: Exception) -> None:
        """One that failed while another was compared with it is the one to go."""
        if isinstance(reason, PeerFailed):
            self.pool.strike(reason)
            name = reason.peer
        job = self.jobs.get(name)
        if isinstance(job, RemoteJob):
            with contextlib.suppress(Unavailable):
                job.release()
        super().leave_out(name, reason)


def unfit(peer: Peer, case: Case) -> str | None:
    """Why a peer is not to be tried on a case; None if it is."""
    if case.device not in peer.devices:
        return f"does not run on {case.device}"
    if case.dtype not in peer.dtypes:
        return f"has no {case.dtype}"
    if peer.max_steps is not None and case.shape[0] > peer.max_steps:
        return f"T={case.shape[0]}: compiling the unrolled loop takes minutes"
    if case.options.get("dataset_dir") == "":
        return "the files of MNIST are not there: --dataset-dir FOLDER"
    return None


class Watch:
    """How many cores others kept busy since its making.

    That is all but this process and those that are named; what a hypervisor took is included.
    """

    def __init__(self, pids: Iterable[int]) -> None:
        alive = filter(psutil.pid_exists, pids)
        self._own = [psutil.Process(), *map(psutil.Process, alive)]
        self._start, self._before = time.monotonic(), self._foreign()

    def cores(self) -> float:
        seconds = max(time.monotonic() - self._start, 1e-9)
        return max(self._foreign() - self._before, 0.0) / seconds

    def _foreign(self) -> float:
        whole = psutil.cpu_times()._asdict()
        busy = sum(seconds for kind, seconds in whole.items() if kind not in OTHERS)
        return busy - sum(self._seconds(process) for process in self._own)

    @staticmethod
    def _seconds(process: psutil.Process) -> float:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)
