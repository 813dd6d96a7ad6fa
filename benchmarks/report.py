"""Results for people (tables in the terminal) and for programs (JSON)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks import environment
from benchmarks.runner import CaseResult, Measurement
from benchmarks.startup import Startup
from benchmarks.targets import Target
from benchmarks.timing import Summary

SCHEMA = 1
TITLES = {"training": "training: forward + backward", "inference": "inference: forward"}
MEGABYTE = 1e6


@dataclass
class Report:
    """Everything that a run found."""

    environment: dict[str, object]
    settings: dict[str, object]
    results: list[CaseResult] = field(default_factory=list)
    startup: Startup = field(default_factory=Startup)
    targets: list[Target] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        return {
            "schema": SCHEMA,
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "environment": self.environment,
            "settings": self.settings,
            "startup": self.startup.to_json(),
            "cases": [result.to_json() for result in self.results],
            "targets": [target.to_json() for target in self.targets],
            "not_measured": self.not_measured,
        }


def write_json(report: Report, path: Path) -> None:
    """Write the report; an existing file is replaced only by a whole one."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    os.replace(partial, path)


def show(report: Report, console: Console) -> None:
    """Print the tables, start-up times and targets."""
    console.print(environment.summary(report.environment), style="bold")
    for table in tables(report.results):
        console.print()
        console.print(table)
    if report.results:
        console.print(LEGEND, style="dim")
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


def tables(results: Sequence[CaseResult]) -> Iterator[Table]:
    """One table for each device and mode."""
    ordered = sorted(results, key=lambda r: (r.case.device, r.case.mode != "training"))
    for (device, mode), group in groupby(ordered, key=lambda r: (r.case.device, r.case.mode)):
        rows = list(group)
        yield _table(f"{device} · {TITLES[mode]}", rows, training=mode == "training")


def _table(title: str, results: Sequence[CaseResult], *, training: bool) -> Table:
    compiled = any(m.compile_seconds is not None for r in results for m in r.measurements.values())
    table = _plain_table(title)
    table.add_column("case", no_wrap=True)
    several = len({name for r in results for name in r.contestants()}) > 1
    if several:
        table.add_column("contender", no_wrap=True)
    headings = ["ms", "reference ms", "ratio", "of copy", "of clone", "extra MB"]
    headings += ["saved/x"] if training else []
    headings += ["compile s"] if compiled else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for name in result.contestants():
            cells = _cells(result, name, training)
            cells += [_compile_seconds(result.measurements[name])] if compiled else []
            named = [name] if several else []
            table.add_row(escape(result.case.layer), *named, *cells)
    return table


def _plain_table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _cells(result: CaseResult, name: str, training: bool) -> list[str]:
    measured = result.measurements[name]
    figures = result.figures(name)
    if measured.time is None or figures is None:
        return [f"[yellow]{escape(str(measured.skipped))}[/]"]
    reference = result.reference() if measured.role != "reference" else None
    cells = [
        _milliseconds(measured.time),
        _milliseconds(reference.time) if reference else "",
        "" if figures.ratio is None else f"{figures.ratio:.1f}x",
        _percent(figures.share_of_copy),
        _percent(figures.share_of_clone),
        _pair(_extra(measured), _extra(reference)),
    ]
    if training:
        theirs = _saved(result) if reference else None
        cells.append(_pair(_times(figures.saved_per_input), _times(theirs)))
    return cells


def _saved(result: CaseResult) -> float | None:
    names = result.named("reference")
    figures = result.figures(names[0]) if names else None
    return figures.saved_per_input if figures else None


def _milliseconds(summary: Summary | None) -> str:
    if summary is None:
        return ""
    return f"{_digits(summary.median * 1e3)} ({_digits(summary.iqr * 1e3, 2)})"


def _digits(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    if value < 1e-3:
        return f"{value:.4f}"
    before_point = math.floor(math.log10(value)) + 1
    return f"{value:.{max(digits - before_point, 0)}f}"


def _extra(measured: Measurement | None) -> str:
    if measured is None or measured.memory is None:
        return ""
    return _digits(measured.memory.peak_extra / MEGABYTE, 2)


def _times(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _pair(ours: str, theirs: str) -> str:
    return f"{ours} : {theirs}" if ours and theirs else ours


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _compile_seconds(measured: Measurement) -> str:
    return "" if measured.compile_seconds is None else f"{measured.compile_seconds:.1f}"


def one_line(result: CaseResult) -> str:
    """A case in one line, for a log."""
    parts = []
    for name in result.contestants():
        measured, figures = result.measurements[name], result.figures(name)
        if measured.time is None or figures is None:
            parts.append(f"{name} {measured.skipped}")
        else:
            ratio = "" if figures.ratio is None else f", {figures.ratio:.1f}x the reference"
            parts.append(f"{name} {_digits(measured.time.median * 1e3)} ms{ratio}")
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
