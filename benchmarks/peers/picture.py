"""A picture of a comparison: bars for each workload, with the memory's limit drawn in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import environment
from benchmarks.peers.tables import OURS, label, timed_names, tiny, title_of
from benchmarks.peers.workloads import MODES, WORKLOADS
from benchmarks.report import digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Json = dict[str, Any]

OUR_COLOR = "#1f6f8b"
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


def save(found: Json, path: Path) -> None:
    """Draw a comparison; the suffix gives the format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = [panel for panel in _panels(found) if timed_names(panel[1])]
    sizes = [max(_height(cases), 3.0) for _, cases in panels] or [1.0]
    figure, axes = plt.subplots(
        len(sizes),
        1,
        figsize=(10, 1.2 + sum(BAR_INCHES * size + 0.55 for size in sizes)),
        height_ratios=sizes,
        squeeze=False,
        layout="constrained",
    )
    colors = _colors(found)
    for (title, cases), axis in zip(panels, axes[:, 0], strict=False):
        _panel(axis, title, cases, colors)
    _legend(figure, found, colors)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panels(found: Json) -> Iterator[tuple[str, list[Json]]]:
    """A panel for each workload, for neurons alone one for each mode."""
    for workload in WORKLOADS:
        cases = [c for c in found["cases"] if c["task"]["workload"] == workload.name]
        cases = [case for case in cases if not tiny(case)]
        title = f"({workload.letter}) {workload.title}"
        if workload.name != "neuron":
            yield title, cases
            continue
        for mode in MODES:
            yield f"{title}, {mode}", [case for case in cases if case["task"]["mode"] == mode]


def _height(cases: Sequence[Json]) -> float:
    return sum(len(timed_names([case])) + GAP for case in cases)


def _colors(found: Json) -> dict[str, str]:
    others = [name for name in timed_names(found["cases"]) if name != OURS]
    return {OURS: OUR_COLOR, **dict(zip(others, itertools.cycle(COLORS), strict=False))}


def _panel(axis: Axes, title: str, cases: Sequence[Json], colors: dict[str, str]) -> None:
    place, ticks, names = 0.0, [], []
    for case in cases:
        first = place
        for name in timed_names([case]):
            _bar(axis, place, case["peers"][name]["time"], colors[name])
            place += 1
        ticks.append((first + place - 1) / 2)
        names.append(label(case))
        if case["copies"]:
            limit = _limit(case)
            axis.plot([limit, limit], [first - 0.5, place - 0.5], color="black", linewidth=1.4)
        place += GAP
    axis.set_yticks(ticks, names, fontsize=7)
    axis.set_ylim(place - GAP, -0.8)
    _scale(axis, cases)
    axis.set_title(title, fontsize=9, loc="left")
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=7)
    axis.grid(axis="x", alpha=0.3)
    axis.set_axisbelow(True)


def _bar(axis: Axes, place: float, time: Json, color: str) -> None:
    median = time["median"] * 1e3
    axis.barh(place, median, color=color, height=0.85)
    axis.plot([time["q1"] * 1e3, time["q3"] * 1e3], [place, place], color="black", linewidth=0.8)
    axis.annotate(
        digits(median),
        (max(median, time["q3"] * 1e3), place),
        (3, 0),
        textcoords="offset points",
        va="center",
        fontsize=6,
    )


def _scale(axis: Axes, cases: Sequence[Json]) -> None:
    """From zero, or where that would hide the fast ones in powers of ten, from a whole one on."""
    from matplotlib.ticker import NullFormatter

    timed = [case["peers"][name]["time"] for case in cases for name in timed_names([case])]
    medians = [time["median"] * 1e3 for time in timed]
    ends = [time["q3"] * 1e3 for time in timed]
    if max(medians) < LINEAR_RANGE * min(medians):
        axis.set_xlim(0, 1.1 * max(ends))
        return
    least = min(medians + [_limit(case) for case in cases if case["copies"]])
    axis.set_xscale("log")
    axis.set_xlim(10 ** math.floor(math.log10(least)), 2 * max(ends))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _limit(case: Json) -> float:
    """Milliseconds that the case's bytes take at the bandwidth of a copy."""
    copied: float = case["copies"]["copy"]["median"]
    return 1e3 * copied * float(case["traffic_bytes"]) / float(case["copy_bytes"])


def _legend(figure: Any, found: Json, colors: dict[str, str]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=c, label=title_of(found, n)) for n, c in colors.items()]
    handles.append(Line2D([], [], color="black", label=LIMIT))
    title = f"milliseconds · {environment.summary(found['environment'])}"
    figure.legend(
        handles=handles, loc="outside upper center", ncols=3, fontsize=7, title=title,
        title_fontsize=7, frameon=False,
    )  # fmt: skip
