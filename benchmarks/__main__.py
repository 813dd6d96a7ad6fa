"""``python -m benchmarks``: fused kernels against the reference, in time and memory."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import arguments, environment, gpu_round, pairs, sweep, targets
from benchmarks.cases import Axes, Case, select
from benchmarks.check import CheckFailed
from benchmarks.contenders import line_up
from benchmarks.peers import page
from benchmarks.peers.command import PeerSession, fetch_peers, install_peers
from benchmarks.report import Report, one_line, show, write_json
from benchmarks.runner import CaseResult, Settings, run_cases
from benchmarks.startup import Startup, StartupFailed, measure_cold_build, measure_import
from snnkernels._backends.selection import resolve
from snnkernels._build import BuildError

PLAIN_WIDTH = 150
BUSY = 0.5


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 after a failed check or build, 130 if interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["report"]:
        return page.main(argv[1:])
    if argv[:1] == ["sweep"]:
        return sweep.main(argv[1:])
    options = arguments.parse(argv)
    if options.gpu_round:
        return gpu_round.run(
            options.device or "cuda",
            options.results or gpu_round.RESULTS,
            peers=gpu_round.Peers(options.peer_wheels, options.peers_dir),
            seconds=options.round_seconds or gpu_round.ROUND_SECONDS,
        )
    if options.threads:
        torch.set_num_threads(options.threads)
    console = make_console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options, console)
    except (BuildError, StartupFailed) as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        return 1


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Ends a run as ctrl-C does, with what was measured until then."""
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, console: Console) -> int:
    if options.fetch_peers:
        return fetch_peers(options, console)
    if options.install_peers is not None:
        return install_peers(options, console)
    if options.peers is not None:
        return PeerSession(options, console).run()
    return Session(options, console).run()


def make_console() -> Console:
    """The terminal; a fixed width that fits the tables where output goes elsewhere."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=PLAIN_WIDTH)


class Session:
    """One run of the benchmark with its options, from the first build to the last file."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options = options
        self.console = console
        self.report = Report(environment.describe(options.devices), self._settings_json())
        self.problems: list[str] = []

    def run(self) -> int:
        """Measure, print, write; returns the exit code."""
        self._warn_if_busy()
        self._load_kernels()
        code = 0
        try:
            self._measure_cases()
            self._measure_pairs()
            self._measure_startup()
        except CheckFailed as failure:
            self.problems.append(str(failure))
        except KeyboardInterrupt:
            self.console.print("interrupted; this is what was measured until then")
            code = 130
        self.report.targets = targets.evaluate(
            self.report.results, self.report.startup, self.report.pairs
        )
        self._finish()
        for problem in self.problems:
            self.console.print(f"[red]check failed:[/] {escape(problem)}")
        return 1 if self.problems else code

    def _settings_json(self) -> dict[str, object]:
        names = ("budget", "surrogate", "check", "compile", "full", "quick", "backends", "devices")
        return {name: getattr(self.options, name) for name in names}

    def _warn_if_busy(self) -> None:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        if load > BUSY * cores:
            self.console.print(
                f"[yellow]this machine is busy (load average {load:.1f} on {cores} cores): "
                "times will be longer and less steady than they should be[/]"
            )

    def _load_kernels(self) -> None:
        if "native" in self.options.backends:
            for device in self.options.devices:
                resolve("native", device)

    def _cases(self) -> list[Case]:
        o = self.options
        axes = Axes(o.neurons, o.dtypes, o.shapes, o.modes)
        return select(o.devices, o.surrogate, axes, full=o.full, quick=o.quick, targets=o.targets)

    def _measure_cases(self) -> None:
        o = self.options
        contenders = line_up(
            o.backends, compile_reference=o.compile, compile_max_steps=o.compile_max_steps
        )
        settings = Settings(budget=o.budget, check=o.check, keep_going=o.keep_going)
        cases = self._cases()
        self.report.not_measured = [str(case) for case in cases]
        with self._progress(len(cases)) as (begin, tell, finish):
            results = run_cases(
                cases, contenders, settings, begin=begin, tell=tell, time_limit=o.time_limit
            )
            for result in results:
                self.report.results.append(result)
                self.report.not_measured.remove(str(result.case))
                self.problems += result.problems()
                finish(result)
                self._write_json()

    @contextmanager
    def _progress(
        self, total: int
    ) -> Iterator[
        tuple[Callable[[Case], None], Callable[[str], None], Callable[[CaseResult], None]]
    ]:
        """A bar in a terminal, one line a case elsewhere."""
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        bar = Progress(
            *columns, console=self.console, transient=True, disable=not self.console.is_terminal
        )
        task = bar.add_task("", total=total)
        current = ""

        def begin(case: Case) -> None:
            nonlocal current
            current = str(case)

        def tell(what: str) -> None:
            bar.update(task, description=escape(f"{current}: {what}"))

        def finish(result: CaseResult) -> None:
            bar.advance(task)
            if bar.disable:
                count = f"{len(self.report.results)}/{total}"
                self.console.print(f"{count} {one_line(result)}", markup=False)

        with bar:
            yield begin, tell, finish

    def _measure_pairs(self) -> None:
        """Of the cases that were measured; another few seconds."""
        if "native" not in self.options.backends:
            return
        native, *_ = line_up(["native"])
        with self.console.status("timing pairs"):
            for pair in pairs.among([result.case for result in self.report.results]):
                self.report.pairs.append(pairs.measure(pair, native, self.options.budget))

    def _measure_startup(self) -> None:
        if self.options.no_startup:
            return
        with self.console.status("measuring import and cold build"):
            imported = measure_import()
            devices = self.options.devices if "native" in self.options.backends else []
            builds = tuple(measure_cold_build(device) for device in devices)
        self.report.startup = Startup(imported, builds)

    def _write_json(self) -> None:
        if self.options.json:
            write_json(self.report, self.options.json)

    def _finish(self) -> None:
        show(self.report, self.console)
        self._write_json()
        if self.options.plot and self.report.results:
            from benchmarks import plot

            plot.save(self.report, self.options.plot)
        for path in filter(None, (self.options.json, self.options.plot)):
            self.console.print(f"written: {path}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
