"""Results for people (tables in the terminal) and for programs (JSON)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement as Measured
from rich.table import Table

from benchmarks import environment
from benchmarks.pairs import PairResult
from benchmarks.runner import CaseResult
from benchmarks.startup import Startup
from benchmarks.targets import Target
from benchmarks.timing import Summary

SCHEMA = 1
TITLES = {"training": "training: forward + backward", "inference": "inference: forward"}
MEGABYTE = 1e6
UNBOUNDED = 10_000


@dataclass
class Report:
    """Everything that a run found."""

    environment: dict[str, object]
    settings: dict[str, object]
    results: list[CaseResult] = field(default_factory=list)
    pairs: list[PairResult] = field(default_factory=list)
    startup: Startup = field(default_factory=Startup)
    targets: list[Target] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "environment": self.environment,
            "settings": self.settings,
            "startup": self.startup.to_json(),
            "cases": [result.to_json() for result in self.results],
            "pairs": [result.to_json() for result in self.pairs],
            "targets": [target.to_json() for target in self.targets],
            "not_measured": self.not_measured,
        }


class Writable(Protocol):
    """A report that knows its JSON."""

    def to_json(self) -> dict[str, Any]: ...


def write_json(report: Writable, path: Path) -> None:
    """Write the report; an existing file is replaced only by a whole one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    os.replace(partial, path)


def show(report: Report, console: Console) -> None:
    """Print the tables, start-up times and targets."""
    console.print(environment.summary(report.environment), style="bold")
    for table in tables(report.results, console):
        console.print()
        console.print(table)
    if report.results:
        console.print(LEGEND, style="dim")
    for line in skipped_lines(report.results):
        console.print(line, markup=False)
    for line in startup_lines(report.startup):
        console.print(line)
    measured = [target for target in report.targets if target.met is not None]
    if measured:
        console.print()
        console.print(targets_table(measured))
    if report.not_measured:
        console.print(f"[yellow]not measured:[/] {len(report.not_measured)}")
        for name in report.not_measured:
            console.print(f"  {name}", markup=False)


LEGEND = (
    "Times: median (interquartile range) in ms. of copy, of clone: bandwidth as a share of a copy "
    "of the same footprint into existing and into fresh memory (training 5, inference 2 accesses "
    "per element-step; a copy counts bytes read and written).\n"
    "extra: peak memory beyond input and output, ours and the reference's. saved/x: bytes kept for "
    "backward beside x, over those of x, ours and the reference's."
)


@dataclass(frozen=True)
class Column:
    """A heading and what stands below it for a contender in a case."""

    heading: str
    cell: Callable[[CaseResult, str], str]


def tables(results: Sequence[CaseResult], console: Console) -> Iterator[Table]:
    """One table for each device and mode, or two, time and memory, if one would be too wide."""
    ordered = sorted(results, key=lambda r: (r.case.device, r.case.mode != "training"))
    for (device, mode), group in groupby(ordered, key=lambda r: (r.case.device, r.case.mode)):
        rows = list(group)
        title = f"{device} · {TITLES[mode]}"
        time, memory = _time_columns(rows), _memory_columns(mode)
        whole = _table(title, rows, [*time, *memory])
        if _width(whole, console) <= console.width:
            yield whole
        else:
            yield _table(f"{title} · time", rows, time)
            yield _table(f"{title} · memory", rows, memory)


def _width(table: Table, console: Console) -> int:
    """Columns of the terminal that a table wants."""
    unbounded = console.options.update(max_width=UNBOUNDED)
    return Measured.get(console, unbounded, table).maximum


def skipped_lines(results: Sequence[CaseResult]) -> Iterator[str]:
    """Which contender did not run in which case, and why."""
    for result in results:
        for name, measured in result.measurements.items():
            if measured.skipped:
                yield f"{name} left out of {result.case}: {measured.skipped}"


def _time_columns(results: Sequence[CaseResult]) -> list[Column]:
    columns = [
        Column("ms", lambda r, name: _milliseconds(r.measurements[name].time)),
        Column("reference ms", _reference_milliseconds),
        Column("ratio", _figure("ratio", "{:.1f}x")),
        Column("of copy", _figure("share_of_copy", "{:.0%}")),
        Column("of clone", _figure("share_of_clone", "{:.0%}")),
    ]
    if any(m.compile_seconds is not None for r in results for m in r.measurements.values()):
        columns.append(Column("compile s", _compile_seconds))
    return columns


def _memory_columns(mode: str) -> list[Column]:
    columns = [Column("extra MB", _beside_reference(_extra))]
    if mode == "training":
        columns.append(Column("saved/x", _beside_reference(_figure("saved_per_input", "{:.2f}"))))
    return columns


def _table(title: str, results: Sequence[CaseResult], columns: Sequence[Column]) -> Table:
    table = _plain_table(title)
    several = len({name for r in results for name in r.contestants()}) > 1
    for heading in ["case", "contender"] if several else ["case"]:
        table.add_column(heading, no_wrap=heading != "case")
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for result in results:
        for name in result.contestants():
            named = [name] if several else []
            cells = [column.cell(result, name) for column in columns]
            table.add_row(escape(result.case.layer), *named, *cells)
    return table


def _plain_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _figure(attribute: str, form: str) -> Callable[[CaseResult, str], str]:
    """The cell of one of the derived figures, empty where there is none."""

    def cell(result: CaseResult, name: str) -> str:
        value = getattr(result.figures(name), attribute, None)
        return "" if value is None else form.format(value)

    return cell


def _beside_reference(cell: Callable[[CaseResult, str], str]) -> Callable[[CaseResult, str], str]:
    """A cell with the contender's value and, behind a colon, the reference's."""

    def both(result: CaseResult, name: str) -> str:
        others = [other for other in result.named("reference") if other != name]
        found = [text for text in (cell(result, each) for each in (name, *others)) if text]
        return " : ".join(found) if cell(result, name) else ""

    return both


def _reference_milliseconds(result: CaseResult, name: str) -> str:
    measured, reference = result.measurements[name], result.reference()
    if reference is None or measured.time is None or measured.role == "reference":
        return ""
    return _milliseconds(reference.time)


def _milliseconds(summary: Summary | None) -> str:
    if summary is None:
        return ""
    return f"{digits(summary.median * 1e3)} ({digits(summary.iqr * 1e3, 2)})"


def digits(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    if value < 1e-3:
        return "<0.001"
    before_point = math.floor(math.log10(value)) + 1
    return f"{value:.{max(digits - before_point, 0)}f}"


def _extra(result: CaseResult, name: str) -> str:
    memory = result.measurements[name].memory
    return "" if memory is None else digits(memory.peak_extra / MEGABYTE, 2)


def _compile_seconds(result: CaseResult, name: str) -> str:
    seconds = result.measurements[name].compile_seconds
    return "" if seconds is None else f"{seconds:.1f}"


def one_line(result: CaseResult) -> str:
    """A case in one line, for a log."""
    parts = []
    for name in result.contestants():
        measured, figures = result.measurements[name], result.figures(name)
        if measured.time is None or figures is None:
            parts.append(f"{name} {measured.skipped}")
        else:
            ratio = "" if figures.ratio is None else f", {figures.ratio:.1f}x the reference"
            parts.append(f"{name} {digits(measured.time.median * 1e3)} ms{ratio}")
    return f"{result.case}: {'; '.join(parts)}"


def startup_lines(startup: Startup) -> Iterator[str]:
    """Import and build times in words."""
    if startup.import_time:
        summary = startup.import_time
        yield (
            f"import snnkernels adds {summary.median:.3f} s to import torch "
            f"(median of {summary.count}, interquartile range {summary.iqr:.3f} s)"
        )
    for build in startup.builds:
        how = "" if build.origin == "jit" else f" ({build.origin}: nothing had to be built)"
        yield f"cold build and load, {build.device}: {build.seconds:.1f} s{how}"


def targets_table(targets: Sequence[Target]) -> Table:
    """Targets with what was found, and whether they are met."""
    table = _plain_table("targets (cpu, lif, ATan, float32, training; set for 2 cores)")
    for heading in ("what", "wanted", "found", ""):
        table.add_column(heading)
    words = {True: "[green]met[/]", False: "[red]missed[/]", None: "[dim]–[/]"}
    for target in targets:
        texts = [escape(text) for text in (target.what, target.wanted, target.found)]
        table.add_row(*texts, words[target.met])
    return table
