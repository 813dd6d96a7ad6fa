"""Rows as tables: of pandas in between, of rich in a terminal, of Markdown on a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.case import Case
from benchmarks.measure import COPIES, Row, case_of
from benchmarks.results import Results
from benchmarks.workloads import TINY, TITLES, WORKLOADS

MEGABYTE = 1e6
NOTHING = "–"
OURS, DENSE = "native", "dense"
OUR_TITLE = "snnkernels"
PLAIN = "loop"
COMPILE = "compile"
"""The contender whose first call takes long."""
HOST_TIME = "Host time of a call: microseconds"
MEMORY = "peak memory beyond input and output, MB"
KEPT = " (kept for backward beside them)"

Rows = dict[str, Row]
Measured = list[tuple[Case, Rows]]
Cell = Callable[[Case, Rows, str], str | None]


def digits(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    if value < 1e-3:
        return "<0.001"
    before_point = math.floor(math.log10(value)) + 1
    return f"{value:.{max(digits - before_point, 0)}f}"


def by_case(rows: Sequence[Row]) -> Measured:
    """The rows of each case by contender, in the order of measuring."""
    found: dict[Case, Rows] = {}
    for row in rows:
        found.setdefault(case_of(row), {})[row["contender"]] = row
    return list(found.items())


def ratio(rows: Rows, name: str, baseline: str) -> float | None:
    """How many times as fast a contender is as another; None where one was not timed."""
    own, other = (rows.get(each, {}).get("median") for each in (name, baseline))
    return None if own is None or other is None else other / own


def share(case: Case, rows: Rows, name: str, copy: str) -> float | None:
    """Bandwidth of a contender as a fraction of that of a copy; None where one was not timed."""
    times = ratio(rows, name, copy)
    return None if times is None else times * case.traffic_bytes / case.copy_bytes


def has_kept(measured: Measured) -> bool:
    """Whether it was measured what a forward keeps."""
    return any(row.get("saved") is not None for _, rows in measured for row in rows.values())


def is_ours(results: Results, name: str) -> bool:
    """Whether a contender is this package, in whatever setting."""
    return name == OURS or results.title_of(name).startswith(OUR_TITLE)


def timed(rows: Rows) -> Rows:
    """Those that were timed, copies into memory among them."""
    return {name: row for name, row in rows.items() if row.get("median") is not None}


def contenders(rows: Rows) -> Rows:
    """Those that were timed, copies into memory aside."""
    return {name: row for name, row in timed(rows).items() if name not in COPIES}


def timed_names(measured: Measured) -> list[str]:
    """The contenders that were timed in one of the cases, in the order of the run."""
    return list(dict.fromkeys(name for _, rows in measured for name in contenders(rows)))


def tables(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table of a run in which something was measured."""
    titles = TITLES if results.command == "peers" else {}
    groups: dict[str, Measured] = {}
    for case, rows in by_case(results.rows):
        groups.setdefault(HOST_TIME if case.shape == TINY else case.workload, []).append(
            (case, rows)
        )
    host_time = groups.pop(HOST_TIME, [])
    for workload, measured in groups.items():
        first = results.title_of(next(iter(measured[0][1])))
        cells = {
            f"milliseconds (times {first})": _milliseconds,
            "share of the copy bandwidth": _share,
            MEMORY + KEPT if has_kept(measured) else MEMORY: _memory,
            "test accuracy after the epoch": _cell("accuracy", "{:.1%}".format),
        }
        if COMPILE in timed_names(measured):
            cells["first call, seconds"] = _cell("first_seconds", digits)
        for heading, cell in cells.items():
            frame = _matrix(results, measured, cell)
            if not frame.iloc[:, 1:].isin([NOTHING]).all(axis=None):
                yield f"{titles.get(workload, workload)}: {heading}", frame
    if timed_names(host_time):
        yield HOST_TIME, _matrix(results, host_time, _cell("median", lambda s: digits(1e6 * s)))


Headline = tuple[Results, Case, Rows]


def headlines(runs: Sequence[Results]) -> list[Headline]:
    """GPUs first, each machine's first case of each workload, of the latest run that compared it.

    Ours is the first of the rows, and all of them were timed.
    """
    found: dict[tuple[Any, ...], Headline] = {}
    for run in sorted(runs, key=lambda run: run.written):
        gpu = run.environment["gpu"]
        measured = dict(by_case(run.rows))
        for place, workload in enumerate(WORKLOADS.values()):
            case = workload.cases("cuda" if gpu else "cpu")[0]
            rows = contenders(measured.get(case, {}))
            if OURS in rows and not all(is_ours(run, name) for name in rows):
                found[gpu is None, machine_of(run), place] = run, case, {OURS: rows[OURS], **rows}
    return [found[key] for key in sorted(found)]


def machine_of(run: Results) -> str:
    """The GPU, or the CPU with its threads."""
    about = run.environment
    return about["gpu"] or f"{about['cpu']}, {about['threads']} threads"


def overview(found: Sequence[Headline]) -> pd.DataFrame:
    """Headlines: ours, plain PyTorch, and the best of all others."""
    return pd.DataFrame(
        {
            "on": machine_of(run),
            "workload [T, B, ...]": f"{WORKLOADS[case.workload].short} {case.size}",
            "snnkernels, ms": _milliseconds(case, rows, OURS),
            "with torch.nn.Linear": _milliseconds(case, rows, DENSE),
            "plain PyTorch": _milliseconds(case, rows, PLAIN),
            "fastest other": _best(run, case, rows, "median", _milliseconds),
            "snnkernels, MB": _peak(case, rows, OURS),
            "least other": _best(run, case, rows, "peak_extra", _peak),
        }
        for run, case, rows in found
    ).fillna(NOTHING)


def _best(results: Results, case: Case, rows: Rows, column: str, cell: Cell) -> str | None:
    """The least of a column among the other libraries that ran as named, and whose it is."""
    others = {
        name: row[column]
        for name, row in rows.items()
        if row.get(column) is not None and not row.get("fell_back")
        if name != PLAIN and not is_ours(results, name)
    }
    if not others:
        return None
    best = min(others, key=lambda name: others[name])
    return f"{cell(case, rows, best)}, {results.title_of(best)}"


def _peak(case: Case, rows: Rows, name: str) -> str | None:
    size = rows.get(name, {}).get("peak_extra")
    return None if size is None else digits(size / MEGABYTE, 2)


def long_tables(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """What it takes to begin, and every measurement in a line of its own."""
    measured = by_case(results.rows)
    yield "Cold start", _start(results, measured)
    yield "Every measurement", _details(results, measured)


def _matrix(results: Results, measured: Measured, cell: Cell) -> pd.DataFrame:
    """A row for each case, a column for each contender, copies into fresh memory beside ours."""
    names = timed_names(measured)
    frame = pd.DataFrame(
        {
            "case": case.label,
            **{results.title_of(name): cell(case, rows, name) or NOTHING for name in names},
        }
        for case, rows in measured
    )
    if cell is _share and names:
        fresh = [_percent(share(case, rows, names[0], "clone")) for case, rows in measured]
        frame[f"{results.title_of(names[0])}, of a copy into fresh memory"] = fresh
    return frame.fillna(NOTHING)


def _cell(column: str, form: Callable[[Any], str]) -> Cell:
    def cell(case: Case, rows: Rows, name: str) -> str | None:
        value = rows.get(name, {}).get(column)
        return None if value is None else form(value)

    return cell


def _milliseconds(case: Case, rows: Rows, name: str) -> str | None:
    row, first = rows.get(name, {}), next(iter(rows))
    if row.get("median") is None:
        return None
    shown = digits(row["median"] * 1e3) + ("*" if row.get("fell_back") else "")
    times = ratio(rows, first, name)
    return shown if name == first or times is None else f"{shown} ({digits(times, 2)}×)"


def _memory(case: Case, rows: Rows, name: str) -> str | None:
    sizes = [rows.get(name, {}).get(column) for column in ("peak_extra", "saved")]
    shown = [digits(size / MEGABYTE, 2) for size in sizes if size is not None]
    return f"{shown[0]} ({shown[1]})" if len(shown) == 2 else next(iter(shown), None)


def _share(case: Case, rows: Rows, name: str) -> str | None:
    return _percent(share(case, rows, name, "copy"))


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{value:.0%}"


def _start(results: Results, measured: Measured) -> pd.DataFrame:
    """Import after the framework's own, and the longest first call beyond a usual one."""
    lines = []
    for name, about in results.contenders.items():
        calls = [
            (max(rows[name]["first_seconds"] - rows[name]["median"], 0.0), case)
            for case, rows in measured
            if case.workload != "mnist" and "median" in rows.get(name, {})
        ]
        seconds, case = max(calls, key=lambda call: call[0], default=(None, None))
        lines.append(
            {
                "": about["title"],
                "import, s": f"{about['import_seconds']:.2f}",
                "longest first call, s": NOTHING if seconds is None else f"{seconds:.1f}",
                "of": f"{case.workload} {case.label}" if case else NOTHING,
                "versions": ", ".join(f"{k} {v}" for k, v in about["versions"].items()),
            }
        )
    for each in results.startup:
        call = f"{each['seconds']:.1f}"
        lines.append({"": "our kernels", "longest first call, s": call, "of": each["what"]})
    return pd.DataFrame(lines).fillna(NOTHING)


def _details(results: Results, measured: Measured) -> pd.DataFrame:
    lines = []
    for case, rows in measured:
        for name, row in rows.items():
            if name in COPIES:
                continue
            line = {"case": f"{case.workload} {case.label}", "who": results.title_of(name)}
            if row.get("skipped"):
                lines.append({**line, "compared with ours": f"left out: {row['skipped']}"})
                continue
            fell_back = f"fell back to {row['provider']}" if row.get("fell_back") else ""
            lines.append(
                {
                    **line,
                    "median, ms": digits(row["median"] * 1e3),
                    "quartiles": f"{digits(row['q1'] * 1e3)}–{digits(row['q3'] * 1e3)}",
                    "samples": str(row["count"]),
                    "compared with ours": "; ".join(filter(None, [row.get("said"), fell_back])),
                }
            )
    columns = ["case", "who", "median, ms", "quartiles", "samples", "compared with ours"]
    return pd.DataFrame(lines, columns=columns, dtype=object).fillna(NOTHING)


def markdown(frame: pd.DataFrame) -> str:
    """A table for a page."""
    escaped = frame.map(lambda cell: str(cell).replace("|", "\\|"))
    text: str = escaped.to_markdown(index=False, tablefmt="pipe", disable_numparse=True)
    return text


def show(console: Console, title: str, frame: pd.DataFrame) -> None:
    """A table for a terminal."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for place, heading in enumerate(frame.columns):
        table.add_column(heading, justify="right" if place and heading != "contender" else "left")
    for cells in frame.itertuples(index=False):
        table.add_row(*(escape(str(cell)) for cell in cells))
    console.print()
    console.print(table)
