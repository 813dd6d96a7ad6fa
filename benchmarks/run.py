"""What every command does around its measurements: a bar, a file after each case, tables."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psutil
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import arguments, environment, picture, tables
from benchmarks.case import Case
from benchmarks.measure import COPIES, Measurement, Row, Tell, case_of, problems
from benchmarks.results import Results
from benchmarks.startup import StartupFailed
from benchmarks.suites import CONTENDERS, Suite

BUSY = 0.5
BUDGET, QUICK = 2.5, 0.6
"""Seconds of timing of a case, and with ``--quick``."""
Measure = Callable[[Case, Tell], list[Row]]


def add_suite(suite: Suite, parser: argparse.ArgumentParser) -> None:
    """What the command of a suite can be asked for."""
    suite.arguments(parser)
    arguments.add_device(parser)
    arguments.add_measuring(parser)


def run_suite(suite: Suite, options: argparse.Namespace, console: Console) -> int:
    """The command of a suite."""
    results = new_results(options)
    ended = measure_suite(results, suite, options, console)
    code = finish(results, options, console)
    return ended or code


def measure_suite(
    results: Results, suite: Suite, options: argparse.Namespace, console: Console
) -> int:
    """Measure a suite's cases in this process; the exit code, as of ``attempt``."""
    warn_if_busy(console)
    results.contenders = {name: {"title": peer.title} for name, peer in CONTENDERS.items()}

    def measure(case: Case, tell: Tell) -> list[Row]:
        contenders = suite.contenders(case, options)
        budget, timed = budget_of(options), suite.timed(options)
        measuring = Measurement(case, contenders, budget, tell, spikes=suite.spikes, timed=timed)
        return measuring.run()

    return run_cases(results, suite.cases(options), measure, options, console)


def budget_of(options: argparse.Namespace) -> float:
    quick = getattr(options, "quick", False)
    return float(options.budget or (QUICK if quick else BUDGET))


def new_results(options: argparse.Namespace) -> Results:
    """Of a run that begins now."""
    left = ("command", "act", "json", "plot")
    settings = {name: value for name, value in vars(options).items() if name not in left}
    return Results(options.command, environment.describe(options.device), settings)


def warn_if_busy(console: Console) -> None:
    load, cores = psutil.getloadavg()[0], psutil.cpu_count() or 1
    if load > BUSY * cores:
        console.print(
            f"[yellow]this machine is busy (load average {load:.1f} on {cores} cores): "
            "times will be longer and less steady than they should be[/]"
        )


def run_cases(
    results: Results,
    cases: Sequence[Case],
    measure: Measure,
    options: argparse.Namespace,
    console: Console,
) -> int:
    """Measure cases one by one and write what is found after each; as of ``attempt``.

    None is begun once the time limit has passed.
    """
    start = time.monotonic()
    results.not_measured += map(str, cases)

    def measure_all() -> None:
        for case in cases:
            if options.time_limit and time.monotonic() - start > options.time_limit:
                break
            rows = measure(case, lambda stage, case=case: tell(f"{case}: {stage}"))  # type: ignore[misc]
            results.rows += rows
            results.not_measured.remove(str(case))
            advance(f"{case}: {one_line(rows)}")
            if options.json:
                results.write(options.json)

    with _progress(console, len(cases)) as (tell, advance):
        return attempt(console, measure_all)


def attempt(console: Console, measure: Callable[[], object]) -> int:
    """Measure, whose end keeps what was found: 0, 1 after a failure, 130 if interrupted."""
    try:
        measure()
    except KeyboardInterrupt:
        console.print("interrupted; this is what was measured until then")
        return 130
    except StartupFailed as error:
        console.print(f"[red]error:[/] {escape(str(error))}")
        return 1
    return 0


def one_line(rows: Sequence[Row]) -> str:
    """A case in one line, for a log."""
    parts = []
    for row in rows:
        if row["contender"] in COPIES:
            continue
        said = f"{tables.digits(1e3 * row['median'])} ms" if "median" in row else row["skipped"]
        parts.append(f"{row['contender']} {said}")
    return "; ".join(parts)


@contextmanager
def _progress(console: Console, total: int) -> Iterator[tuple[Tell, Tell]]:
    """A bar in a terminal, one line a case elsewhere."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)
        done = 0

        def tell(what: str) -> None:
            bar.update(task, description=escape(what))

        def advance(line: str) -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if bar.disable:
                console.print(f"{done}/{total} {line}", markup=False)

        yield tell, advance


def finish(results: Results, options: argparse.Namespace, console: Console) -> int:
    """Print what was found, write the files; 1 if results were wrong."""
    console.print(environment.summary(results.environment), style="bold")
    for title, frame in tables.tables(results):
        tables.show(console, title, frame)
    for row in results.rows:
        if row.get("skipped"):
            said = f"left out of {case_of(row)}: {row['contender']}, {row['skipped']}"
            console.print(said, markup=False)
        elif row.get("said", "").startswith("not compared"):
            console.print(f"{case_of(row)}: {row['contender']} {row['said']}", markup=False)
    write(results, options, console)
    wrong = list(problems(results.rows))
    for problem in wrong:
        console.print(f"[red]check failed:[/] {escape(problem)}")
    return 1 if wrong else 0


def write(results: Results, options: argparse.Namespace, console: Console) -> None:
    """Say what was not measured, and write JSON and picture."""
    if results.not_measured:
        console.print(f"[yellow]not measured:[/] {len(results.not_measured)}")
        for name in results.not_measured:
            console.print(f"  {name}", markup=False)
    if options.json:
        results.write(options.json)
    if options.plot:
        picture.save(results, options.plot, results.rows)
    for path in filter(None, (options.json, options.plot)):
        console.print(f"written: {path}", markup=False)
