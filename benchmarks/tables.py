"""Rows as tables: of pandas in between, of rich in a terminal, of Markdown on a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.case import Case
from benchmarks.measure import COPIES, Row, case_of
from benchmarks.results import Results
from benchmarks.workloads import TINY, TITLES

MEGABYTE = 1e6
NOTHING = "–"
COMPILE = "compile"
"""The contender whose first call takes long."""
MEMORY = "peak memory beyond input and output, MB (kept for backward beside them)"

Rows = dict[str, Row]
Measured = list[tuple[Case, Rows]]
Cell = Callable[[Case, Rows, str], str]


def digits(value: float, digits: int = 3) -> str:
    """Three significant digits without an exponent."""
    if value == 0:
        return "0"
    if value < 1e-3:
        return "<0.001"
    before_point = math.floor(math.log10(value)) + 1
    return f"{value:.{max(digits - before_point, 0)}f}"


def megabytes(value: float | None) -> str:
    return NOTHING if value is None else digits(value / MEGABYTE, 2)


def by_case(rows: list[Row]) -> Iterator[tuple[Case, dict[str, Row]]]:
    """The rows of each case by contender, in the order of measuring."""
    found: dict[Case, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(case_of(row), {})[row["contender"]] = row
    yield from found.items()


def ratio(rows: dict[str, Row], name: str, baseline: str) -> float | None:
    """How many times as fast a contender is as another; None where one was not timed."""
    own, other = (rows.get(each, {}).get("median") for each in (name, baseline))
    return None if own is None or other is None else other / own


def share(case: Case, rows: dict[str, Row], name: str, copy: str) -> float | None:
    """Bandwidth of a contender as a fraction of that of a copy; None where one was not timed."""
    times = ratio(rows, name, copy)
    return None if times is None else times * case.traffic_bytes / case.copy_bytes


def tables(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table of a run in which something was measured."""
    measured = list(by_case(results.rows))
    titles = TITLES if results.command == "peers" else {}
    for workload in dict.fromkeys(case.workload for case, _ in measured):
        usual = [e for e in measured if e[0].workload == workload and e[0].shape != TINY]
        if not timed_names(usual):
            continue
        title, ours = titles.get(workload, workload), next(iter(usual[0][1]))
        yield (
            f"{title}: milliseconds (times {results.title_of(ours)})",
            matrix(results, usual, _milliseconds),
        )
        if any("copy" in rows for _, rows in usual):
            shares = matrix(results, usual, _share("copy"))
            fresh = [_share("clone")(case, rows, ours) for case, rows in usual]
            heading = f"{results.title_of(ours)}, of a copy into fresh memory"
            yield f"{title}: share of the copy bandwidth", shares.assign(**{heading: fresh})
        if _any(usual, "peak_extra"):
            yield f"{title}: {MEMORY}", matrix(results, usual, _memory)
        if COMPILE in timed_names(usual):
            yield f"{title}: first call, seconds", matrix(results, usual, _first_call)
        if _any(usual, "accuracy"):
            yield f"{title}: test accuracy after the epoch", matrix(results, usual, _accuracy)
    small = [each for each in measured if each[0].shape == TINY]
    if timed_names(small):
        yield "Host time of a call: microseconds", matrix(results, small, _microseconds)


def long_tables(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """What it takes to begin, and every measurement in a line of its own."""
    measured = list(by_case(results.rows))
    yield "Cold start", _start(results, measured)
    yield "Every measurement", _details(results, measured)


def timed_names(measured: Measured) -> list[str]:
    """The peers that were timed in one of the cases, in the order of the run."""
    names = [n for _, rows in measured for n, row in rows.items() if _seconds(row) is not None]
    return [name for name in dict.fromkeys(names) if name not in COPIES]


def matrix(results: Results, measured: Measured, cell: Cell) -> pd.DataFrame:
    """A row for each case, a column for each peer."""
    names = timed_names(measured)
    return pd.DataFrame(
        {
            "case": case.label,
            **{results.title_of(name): cell(case, rows, name) for name in names},
        }
        for case, rows in measured
    )


def _any(measured: Measured, column: str) -> bool:
    return any(row.get(column) is not None for _, rows in measured for row in rows.values())


def _seconds(row: Row) -> float | None:
    return None if row.get("skipped") else row.get("median")


def _median(rows: Rows, name: str) -> float | None:
    return _seconds(rows.get(name, {}))


def _milliseconds(case: Case, rows: Rows, name: str) -> str:
    median, first = _median(rows, name), next(iter(rows))
    if median is None:
        return NOTHING
    shown = digits(median * 1e3) + ("*" if rows[name].get("fell_back") else "")
    times = ratio(rows, first, name)
    return shown if name == first or times is None else f"{shown} ({digits(times, 2)}×)"


def _microseconds(case: Case, rows: Rows, name: str) -> str:
    median = _median(rows, name)
    return NOTHING if median is None else digits(median * 1e6)


def _first_call(case: Case, rows: Rows, name: str) -> str:
    seconds = rows.get(name, {}).get("first_seconds")
    return NOTHING if seconds is None else digits(seconds)


def _memory(case: Case, rows: Rows, name: str) -> str:
    row = rows.get(name, {})
    extra, saved = megabytes(row.get("peak_extra")), row.get("saved")
    return extra if saved is None else f"{extra} ({megabytes(saved)})"


def _accuracy(case: Case, rows: Rows, name: str) -> str:
    accuracy = rows.get(name, {}).get("accuracy")
    return NOTHING if accuracy is None else f"{accuracy:.1%}"


def _share(copy: str) -> Cell:
    def cell(case: Case, rows: Rows, name: str) -> str:
        found = share(case, rows, name, copy)
        return NOTHING if found is None else f"{found:.0%}"

    return cell


def _start(results: Results, measured: Measured) -> pd.DataFrame:
    """Import after the framework's own, and the longest first call beyond a usual one."""
    lines = []
    for name, about in results.contenders.items():
        calls = [
            (max(rows[name]["first_seconds"] - rows[name]["median"], 0.0), case)
            for case, rows in measured
            if case.workload != "mnist" and _median(rows, name) is not None
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
    return pd.DataFrame(lines, columns=columns).fillna(NOTHING)


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
