"""A picture of what was measured: bars for each case, with the memory's limit drawn in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment
from benchmarks.case import Case
from benchmarks.measure import COPIES, Row
from benchmarks.results import Results
from benchmarks.tables import OURS, Headline, by_case, contenders, digits, is_ours, timed
from benchmarks.workloads import TITLES, WORKLOADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUR_COLOR = "#1f6f8b"
OTHERS_COLOR = "#b9bec4"
"""Where names stand beside the bars."""
COLORS = (
    *("#b5651d", "#8a8a8a", "#6a994e", "#a44a7c", "#d1a000", "#5b5ea6", "#c0392b", "#4aa3a2"),
    *("#9fb8e8", "#e08fb3", "#7f5539", "#b7c65a", "#4d4d4d", "#f0a868"),
)
"""For all others, in the order in which they appear."""
BAR_INCHES = 0.17
GAP = 1.0
LINEAR_RANGE = 30.0
"""How many times the fastest median the slowest may be for a scale that begins at zero."""
LIMIT = "what the memory allows: the bytes at the bandwidth of a copy"

Timed = tuple[Case, dict[str, Row]]


def overview(found: Sequence[Headline], path: Path) -> None:
    """Draw headlines of one machine side by side, all contenders below each other."""
    plt = _pyplot()
    names = contenders_of(found)
    figure, axes = plt.subplots(
        1, len(found), figsize=(2.4 * len(found), 0.9 + 0.22 * len(names)), layout="constrained",
        sharey=True, squeeze=False,
    )  # fmt: skip
    for (run, case, rows), axis in zip(found, axes[0], strict=True):
        for name, row in rows.items():
            color = OUR_COLOR if is_ours(run, name) else OTHERS_COLOR
            _bar(axis, names.index(run.title_of(name)), row, color)
        _scale(axis, list(rows.values()), [], room=1.4)
        powers = ", in powers of ten" if axis.get_xscale() == "log" else ""
        _dress(axis, f"{WORKLOADS[case.workload].short}{powers}\n{case.size}")
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    about = dict.fromkeys(environment.summary(run.environment) for run, _, _ in found)
    figure.supxlabel(f"training, milliseconds · {'; '.join(about)}", fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def contenders_of(found: Sequence[Headline]) -> list[str]:
    """The titles of all contenders, ours before the others."""
    seen = {run.title_of(n): is_ours(run, n) for run, _, rows in found for n in rows}
    return sorted(seen, key=lambda title: not seen[title])


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _dress(axis: Axes, title: str) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def save(results: Results, path: Path, rows: Sequence[Row]) -> None:
    """Draw some rows of a run; the suffix gives the format."""
    plt = _pyplot()
    cases = [(case, timed(found)) for case, found in by_case(rows)]
    titles = TITLES if results.command == "peers" else {}
    panels = _panels([each for each in cases if each[1]], titles)
    sizes = [max(_height(each), 3.0) for each in panels.values()] or [1.0]
    figure, axes = plt.subplots(
        len(sizes),
        1,
        figsize=(10, 1.2 + sum(BAR_INCHES * size + 0.55 for size in sizes)),
        height_ratios=sizes,
        squeeze=False,
        layout="constrained",
    )
    names = dict.fromkeys(name for each in panels.values() for _, found in each for name in found)
    others = [name for name in names if name not in (OURS, *COPIES)]
    colors = {OURS: OUR_COLOR, **dict(zip(others, itertools.cycle(COLORS), strict=False))}
    for (title, each), axis in zip(panels.items(), axes[:, 0], strict=False):
        _panel(axis, title, each, colors)
    _legend(figure, results, {name: colors[name] for name in colors if name in names})
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panels(cases: Sequence[Timed], titles: Mapping[str, str]) -> dict[str, list[Timed]]:
    """A panel for each workload, for neurons alone one for each mode."""
    panels: dict[str, list[Timed]] = {}
    for case, rows in cases:
        title = titles.get(case.workload, case.workload)
        alone = f", {case.mode}" if case.workload == "neuron" else ""
        panels.setdefault(f"{title}{alone}", []).append((case, rows))
    return panels


def _height(cases: Sequence[Timed]) -> float:
    return sum(len(contenders(rows)) + GAP for _, rows in cases)


def _panel(axis: Axes, title: str, cases: Sequence[Timed], colors: Mapping[str, str]) -> None:
    place, ticks, limits = 0.0, [], []
    for case, rows in cases:
        first = place
        for name in contenders(rows):
            _bar(axis, place, rows[name], colors[name])
            place += 1
        ticks.append((first + place - 1) / 2)
        if "copy" in rows:
            limits.append(1e3 * rows["copy"]["median"] * case.traffic_bytes / case.copy_bytes)
            axis.plot([limits[-1]] * 2, [first - 0.5, place - 0.5], color="black", linewidth=1.4)
        place += GAP
    axis.set_yticks(ticks, [case.label for case, _ in cases], fontsize=7)
    axis.set_ylim(place - GAP, -0.8)
    _scale(axis, [row for _, rows in cases for row in map(rows.get, contenders(rows))], limits)
    _dress(axis, title)


def _bar(axis: Axes, place: float, row: Row, color: str) -> None:
    median, q1, q3 = (1e3 * row[column] for column in ("median", "q1", "q3"))
    axis.barh(place, median, color=color, height=0.85)
    axis.plot([q1, q3], [place, place], color="black", linewidth=0.8)
    axis.annotate(
        digits(median),
        (max(median, q3), place),
        (3, 0),
        textcoords="offset points",
        va="center",
        fontsize=6,
    )


def _scale(axis: Axes, rows: Sequence[Any], limits: Sequence[float], room: float = 1.1) -> None:
    """From zero, or where that would hide the fast ones in powers of ten, from a whole one on.

    ``room`` is how far the axis goes beyond the longest bar, for its number: as a factor, in powers
    of ten its eighth power.
    """
    from matplotlib.ticker import NullFormatter

    medians = [1e3 * row["median"] for row in rows]
    most = max(1e3 * row["q3"] for row in rows)
    if max(medians) < LINEAR_RANGE * min(medians):
        axis.set_xlim(0, room * most)
        return
    axis.set_xscale("log")
    axis.set_xlim(10 ** math.floor(math.log10(min([*medians, *limits]))), room**8 * most)
    axis.xaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, results: Results, colors: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=c, label=results.title_of(n)) for n, c in colors.items()]
    if any(row["contender"] in COPIES for row in results.rows):
        handles.append(Line2D([], [], color="black", label=LIMIT))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=3,
        fontsize=7,
        title=f"milliseconds · {environment.summary(results.environment)}",
        title_fontsize=7,
        frameon=False,
    )
