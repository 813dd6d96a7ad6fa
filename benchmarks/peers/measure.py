"""Measures tasks: prepares each peer in its process, compares it with ours, times all in turns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from benchmarks import traffic
from benchmarks.cases import Case
from benchmarks.contenders import Workload, copy_to_existing, copy_to_fresh
from benchmarks.memory import Memory
from benchmarks.peers import workloads
from benchmarks.peers.catalogue import Entry
from benchmarks.peers.compare import Verdict, judge
from benchmarks.peers.install import Place
from benchmarks.peers.process import Hello, PeerFailed, PeerProcess, PeerUnsupported, RemoteRun
from benchmarks.peers.quiet import Watch
from benchmarks.peers.spec import Neuron, Peer, Task
from benchmarks.timing import Summary, Timed, interleave

Tell = Callable[[str], None]

PATIENCE = 4.0
"""Seconds of samples after which a slow peer takes no further part in a case."""
PAUSE = 0.01
TRIES = 3
QUIET = 0.1
"""Cores that others may keep busy; above it a case is timed again, and the quietest try counts."""
STRIKES = 2
"""Failures after which a peer is not tried again."""


@dataclass(frozen=True)
class Settings:
    """``budget``: seconds of timing a case; ``limit``: seconds that a first call may take."""

    budget: float
    limit: float
    threads: int


@dataclass(frozen=True)
class Found:
    """What was found for one peer in one task; ``skipped`` is the reason if it did not run."""

    time: Summary | None = None
    memory: Memory | None = None
    first_seconds: float | None = None
    provider: str | None = None
    fell_back: bool = False
    verdict: Verdict | None = None
    accuracy: float | None = None
    skipped: str | None = None


@dataclass(frozen=True)
class TaskResult:
    """A task with what was found for each peer, and for copies of the same footprint."""

    task: Task
    found: dict[str, Found] = field(default_factory=dict)
    copies: dict[str, Summary] = field(default_factory=dict)
    foreign_cores: float | None = None
    """Cores that other programs kept busy meanwhile."""

    def to_json(self) -> dict[str, Any]:
        task = self.task.to_json()
        task["options"].pop("dataset_dir", None)
        del task["neuron"]
        return {
            "name": workloads.name(self.task),
            "task": task,
            **_bytes(self.task),
            "foreign_cores": self.foreign_cores,
            "copies": {name: asdict(summary) for name, summary in self.copies.items()},
            "peers": {name: asdict(found) for name, found in self.found.items()},
        }


class Pool(AbstractContextManager["Pool"]):
    """The peers' processes, started when they are first needed and again after a failure."""

    def __init__(self, place: Place, threads: int, logs: Path) -> None:
        self._place, self._threads, self._logs = place, threads, logs
        self._processes: dict[str, PeerProcess] = {}
        self._strikes: dict[str, list[str]] = {}
        self.hellos: dict[str, Hello] = {}

    def process(self, entry: Entry) -> PeerProcess:
        """The process of a peer.

        Raises:
            PeerFailed: it is not installed, does not start, or has failed too often.
        """
        name = entry.peer.name
        strikes = self._strikes.get(name, [])
        if len(strikes) >= STRIKES:
            raise PeerFailed(name, f"given up after {len(strikes)} failures: {strikes[-1]}")
        running = self._processes.get(name)
        if running and running.alive:
            return running
        python = self._place.python(entry)
        if python is None:
            raise PeerFailed(name, f"not installed: --install-peers {name}")
        log = self._logs / f"{name}.log"
        try:
            started = PeerProcess(entry.peer, entry.adapter, python, log, self._threads)
        except PeerFailed as failure:
            self.strike(failure)
            raise
        self._processes[name] = started
        self.hellos[name] = started.hello
        return started

    def strike(self, failure: PeerFailed) -> None:
        """Count a failure against its peer."""
        self._strikes.setdefault(failure.peer, []).append(str(failure))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.close()


def measure_tasks(
    tasks: Sequence[Task],
    entries: Sequence[Entry],
    pool: Pool,
    settings: Settings,
    *,
    tell: Callable[[Task, str], None] = lambda task, text: None,
    time_limit: float | None = None,
) -> Iterator[TaskResult]:
    """Measure tasks one by one; none is begun once ``time_limit`` seconds have passed."""
    start = time.monotonic()
    for task in tasks:
        if time_limit is not None and time.monotonic() - start > time_limit:
            return
        with tempfile.TemporaryDirectory(prefix="snnkernels-peers-") as folder:
            yield _Measuring(task, entries, pool, settings, Path(folder), tell).run()


class _Measuring:
    """One task: its files, its runs and what was found so far."""

    def __init__(
        self,
        task: Task,
        entries: Sequence[Entry],
        pool: Pool,
        settings: Settings,
        folder: Path,
        tell: Callable[[Task, str], None],
    ) -> None:
        self.task, self.pool, self.settings, self.folder = task, pool, settings, folder
        self.entries = {
            entry.peer.name: entry for entry in entries if task.workload in entry.peer.workloads
        }
        self.tell = lambda text: tell(task, text)
        self.found = {name: Found() for name in self.entries}
        self.runs: dict[str, RemoteRun] = {}
        self.files: dict[str, Path] = {}
        self.expected: dict[Neuron, dict[str, Any]] = {}

    def run(self) -> TaskResult:
        if self.task.options.get("dataset_dir") == "":
            for name in self.entries:
                self.note(name, skipped="the files of MNIST are not there: --dataset-dir FOLDER")
            return TaskResult(self.task, self.found)
        self.files = self._write_arrays()
        for name in self.entries:
            self._guarded(name, self._prepare)
        for name in list(self.runs):
            self._guarded(name, self._judge)
        times, foreign = self._time()
        for name in list(self.runs):
            self.note(name, time=times[name])
            self._guarded(name, self._after)
        for name in list(self.runs):
            self._guarded(name, lambda name: self.runs[name].release())
        copied = {name: times[name] for name in times if name not in self.found}
        return TaskResult(self.task, self.found, copied, foreign)

    def note(self, name: str, **changes: Any) -> None:
        self.found[name] = replace(self.found[name], **changes)

    def _guarded(self, name: str, step: Callable[[str], None]) -> None:
        """Do a step for a peer; if it fails there, the peer is left out with the reason."""
        try:
            step(name)
        except PeerUnsupported as reason:
            self._leave_out(name, str(reason))
        except PeerFailed as failure:
            self.pool.strike(failure)
            self._leave_out(name, str(failure))

    def _leave_out(self, name: str, reason: str) -> None:
        self.note(name, skipped=reason, time=None)
        self.runs.pop(name, None)

    def _write_arrays(self) -> dict[str, Path]:
        files = {}
        for name, array in workloads.arrays(self.task).items():
            files[name] = self.folder / f"{name}.npy"
            np.save(files[name], array)
        return files

    def _prepare(self, name: str) -> None:
        peer = self.entries[name].peer
        reason = unfit(peer, self.task)
        if reason:
            raise PeerUnsupported(reason)
        self.tell(f"{name}: first call")
        run = self._remote(name, peer.neuron, name)
        fell_back = peer.provider is not None and run.provider != peer.provider
        self.note(name, first_seconds=run.first_seconds, provider=run.provider, fell_back=fell_back)
        self.runs[name] = run

    def _remote(self, name: str, neuron: Neuron, identity: str) -> RemoteRun:
        task = replace(self.task, neuron=neuron)
        process = self.pool.process(self.entries[name])
        return RemoteRun(process, task, self.files, identity, limit=self.settings.limit)

    def _judge(self, name: str) -> None:
        """Compare a peer with ours, set to the equations that the peer computes."""
        ours = next(iter(self.entries))
        if self.task.workload == "mnist" or name == ours or ours not in self.runs:
            return
        peer = self.entries[name].peer
        self.tell(f"{name}: comparing")
        if peer.neuron not in self.expected:
            reference = self._remote(ours, peer.neuron, f"{ours}-as-{name}")
            self.expected[peer.neuron] = reference.outcome(self.folder)
            reference.release()
        outcome = self.runs[name].outcome(self.folder)
        expected = self.expected[peer.neuron]
        verdict = judge(self.task.workload, self.task.dtype, expected, outcome, peer.differs)
        self.note(name, verdict=verdict)

    def _time(self) -> tuple[dict[str, Summary], float | None]:
        """Time everyone in turns, again if others were busy meanwhile; how busy they were."""
        epoch = self.task.workload == "mnist"
        tries: list[tuple[float, dict[str, Summary]]] = []
        while True:
            self.tell("timing")
            watch = Watch(run.process for run in self.runs.values())
            times = self._time_once(epoch)
            foreign = watch.cores()
            if foreign is None:
                return times, None
            tries.append((foreign, times))
            if foreign <= QUIET or epoch or len(tries) == TRIES:
                least, times = min(tries, key=lambda each: each[0])
                return times, least

    def _time_once(self, epoch: bool) -> dict[str, Summary]:
        """A peer that fails is left out, and the others begin anew."""
        rounds: dict[str, Any] = {"patience": PATIENCE}
        if epoch:  # preparing and the first sample take a part each
            parts = self.task.options["parts"] - 2
            rounds = {"min_rounds": parts, "max_rounds": parts}
        while True:
            contenders: dict[str, Timed] = {**self.runs, **copies(self.task)}
            try:
                return interleave(contenders, self.settings.budget, pause=PAUSE, **rounds)
            except PeerFailed as failure:
                self.pool.strike(failure)
                self._leave_out(failure.peer, str(failure))

    def _after(self, name: str) -> None:
        if self.task.workload == "mnist":
            self.tell(f"{name}: accuracy")
            self.note(name, accuracy=self.runs[name].outcome(self.folder)["accuracy"])
        else:
            self.tell(f"{name}: memory")
            self.note(name, memory=self.runs[name].memory())


def unfit(peer: Peer, task: Task) -> str | None:
    """Why a peer is not to be tried on a task; None if it is."""
    if task.dtype not in peer.dtypes:
        return f"has no {task.dtype}"
    if peer.max_steps is not None and task.shape[0] > peer.max_steps:
        return f"T={task.shape[0]}: compiling the unrolled loop takes minutes"
    return None


def copies(task: Task) -> dict[str, Timed]:
    """Copies of the footprint of a task, where the memory is what limits it."""
    if task.workload != "neuron" or task.shape == workloads.TINY:
        return {}
    workload = Workload(as_case(task), torch.empty(0), None, ())
    return {each.name: each.prepare(workload) for each in (copy_to_existing(), copy_to_fresh())}


def as_case(task: Task) -> Case:
    """A task of neurons alone as a case of the bytes model."""
    low = {"cpu": "bfloat16", "cuda": "float16"}[task.device]
    dtype = low if task.dtype == "autocast" else task.dtype
    return Case("lif", dtype, task.shape, task.mode, task.device)


def _bytes(task: Task) -> Mapping[str, int]:
    if task.workload != "neuron":
        return {}
    case = as_case(task)
    return {
        "input_bytes": case.input_bytes,
        "traffic_bytes": traffic.traffic_bytes(case),
        "copy_bytes": traffic.copy_bytes(case),
    }
