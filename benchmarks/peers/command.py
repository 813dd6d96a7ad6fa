"""``--install-peers``, ``--fetch-peers`` and ``--peers`` of the command line."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from benchmarks import environment
from benchmarks.peers import install, workloads
from benchmarks.peers.catalogue import FIRST, Entry, entries
from benchmarks.peers.install import Place
from benchmarks.peers.measure import Pool, Settings, TaskResult, measure_tasks
from benchmarks.peers.results import Comparison, cold_build_name
from benchmarks.peers.spec import Task
from benchmarks.peers.tables import tables
from benchmarks.report import digits, write_json
from benchmarks.startup import measure_cold_build
from snnkernels._backends.selection import resolve

CORES_PER_INSTALL = 4
FIRST_CALL_SECONDS = {"cpu": 150.0, "cuda": 45.0}


def chosen(names: Sequence[str], devices: Sequence[str]) -> list[Entry]:
    """The named peers that run on one of the devices, all if none is named; ours always first."""
    fitting = [e for e in entries() if set(e.peer.devices) & set(devices)]
    if not names:
        return fitting
    ours = [e for e in fitting if e.adapter.endswith(f".{FIRST}")][:1]
    return ours + [e for e in fitting if e.peer.name in names and e not in ours]


def place_of(options: argparse.Namespace) -> Place:
    """Where the command line says that environments and packages are."""
    changes = {"folder": options.peers_dir, "wheels": options.peer_wheels}
    return Place(**{name: value for name, value in changes.items() if value is not None})


def install_peers(options: argparse.Namespace, console: Console) -> int:
    """Make the environments that are asked for; returns 1 if one could not be made."""
    place = place_of(options)
    return _each(
        chosen(options.install_peers, options.devices),
        lambda entry, say: install.install(entry, place, say),
        "installed",
        console,
    )


def fetch_peers(options: argparse.Namespace, console: Console) -> int:
    """Fill a folder for ``--peer-wheels``; returns 1 if a package could not be had."""
    folder: Path = options.fetch_peers
    return _each(
        chosen((), options.devices),
        lambda entry, say: install.fetch(entry, folder, say),
        "fetched",
        console,
    )


def _each(
    peers: Sequence[Entry],
    act: Callable[[Entry, install.Say], None],
    done: str,
    console: Console,
) -> int:
    """Do something for every peer with an environment, and name those that fail with the reason.

    Where there are many cores some of it is done at once.
    """
    peers = [entry for entry in peers if entry.peer.environment]
    failures: dict[str, str] = {}

    def one(number: int, entry: Entry) -> None:
        name, start = f"{number}/{len(peers)} {entry.peer.title}", time.monotonic()
        status.update(escape(name))
        with install.named(failures, entry):
            act(entry, lambda text: status.update(escape(f"{name}: {text}")))
        reason = failures.get(entry.peer.name)
        seconds = f"{time.monotonic() - start:.0f} s"
        said = f"[red]left out:[/] {escape(reason)}" if reason else f"{done} ({seconds})"
        console.print(f"{escape(name)}: {said}", soft_wrap=True)

    at_once = max(1, (os.cpu_count() or 1) // CORES_PER_INSTALL)
    with console.status("") as status, ThreadPoolExecutor(at_once) as threads:
        for finished in [threads.submit(one, *each) for each in enumerate(peers, 1)]:
            finished.result()
    return 1 if failures else 0


class PeerSession:
    """One comparison with its options, from the processes to the last file."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options, self.console = options, console
        self.entries = chosen(options.peers, options.devices)

    def run(self) -> int:
        """Measure, print, write; returns the exit code."""
        o = self.options
        for device in o.devices:
            resolve("native", device)
        tasks = [
            task
            for device in o.devices
            for task in workloads.selected(o.workloads, device, o.dataset_dir, quick=o.quick)
        ]
        code = 0
        with (
            tempfile.TemporaryDirectory(prefix="snnkernels-logs-") as logs,
            Pool(place_of(o), torch.get_num_threads(), Path(logs)) as pool,
        ):
            comparison = self._comparison(pool)
            try:
                self._measure(tasks, pool, comparison)
                self._measure_builds(comparison)
            except KeyboardInterrupt:
                self.console.print("interrupted; this is what was measured until then")
                code = 130
        self._write(comparison)
        self._show(comparison)
        return code

    def _comparison(self, pool: Pool) -> Comparison:
        names = ("budget", "workloads", "devices", "quick")
        settings = {name: getattr(self.options, name) for name in names}
        about = environment.describe(self.options.devices)
        return Comparison(about, settings, self.entries, pool.hellos)

    def _measure(self, tasks: Sequence[Task], pool: Pool, comparison: Comparison) -> None:
        o = self.options
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TextColumn("{task.description}"))  # fmt: skip
        bar = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )
        row = bar.add_task("", total=len(tasks))

        def tell(task: Task, text: str) -> None:
            bar.update(row, description=escape(f"{workloads.name(task)}: {text}"))

        comparison.not_measured = [
            *(workloads.name(task) for task in tasks),
            *map(cold_build_name, self._builds()),
        ]
        with bar:
            results = measure_tasks(
                tasks,
                self.entries,
                pool,
                self._settings(),
                tell=tell,
                time_limit=o.time_limit,
            )
            for result in results:
                comparison.results.append(result)
                comparison.not_measured.remove(workloads.name(result.task))
                bar.advance(row)
                for line in lines(result):
                    self.console.print(line, markup=False)
                self._write(comparison)

    def _builds(self) -> Sequence[str]:
        """The devices whose cold build is measured."""
        return () if self.options.no_startup else self.options.devices

    def _measure_builds(self, comparison: Comparison) -> None:
        for device in self._builds():
            comparison.builds.append(measure_cold_build(device))
            comparison.not_measured.remove(cold_build_name(device))

    def _settings(self) -> Settings:
        o = self.options
        limits = [FIRST_CALL_SECONDS[device] for device in o.devices]
        return Settings(o.budget, o.peer_limit or max(limits), torch.get_num_threads())

    def _write(self, comparison: Comparison) -> None:
        if self.options.json:
            write_json(comparison, self.options.json)

    def _show(self, comparison: Comparison) -> None:
        found = comparison.to_json()
        self.console.print(environment.summary(comparison.environment), style="bold")
        for table in tables(found):
            shown = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
            for heading in table.headings:
                shown.add_column(heading)
            for cells in table.rows:
                shown.add_row(*map(escape, cells))
            self.console.print(shown)
        if comparison.not_measured:
            self.console.print(f"[yellow]not measured:[/] {', '.join(comparison.not_measured)}")
        if self.options.plot:
            from benchmarks.peers import picture

            picture.save(found, self.options.plot)
        for path in filter(None, (self.options.json, self.options.plot)):
            self.console.print(f"written: {path}", markup=False)


def lines(result: TaskResult) -> list[str]:
    """A task in a few lines, for a log."""
    shown = [workloads.name(result.task)]
    for name, found in result.found.items():
        verdict = f", {found.verdict.text}" if found.verdict else ""
        said = f"left out: {found.skipped}" if found.skipped or not found.time else (
            f"{digits(found.time.median * 1e3)} ms{verdict}"
        )  # fmt: skip
        fell = f" (fell back to {found.provider})" if found.fell_back else ""
        shown.append(f"  {name}{fell}: {said}")
    return shown
