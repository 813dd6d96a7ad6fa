"""A picture of a run: time, ratio to the reference, share of the copy bandwidth, one row a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import environment
from benchmarks.report import Report
from benchmarks.runner import CaseResult, Figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROW_INCHES = 0.3
REFERENCE = "#8a8a8a"
BAR = {"fused": "#1f6f8b", "other": "#b5651d", "reference": REFERENCE}


def save(report: Report, path: Path) -> None:
    """Draw the report into a file; the suffix gives the format.

    Raises:
        ValueError: matplotlib has no such format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [
        (result, name)
        for result in sorted(
            report.results, key=lambda r: (r.case.device, r.case.mode != "training")
        )
        for name in result.contestants()
        if result.measurements[name].time
    ]
    height = 1.8 + ROW_INCHES * max(len(rows), 3)
    figure, (times, ratios, shares) = plt.subplots(
        1, 3, sharey=True, figsize=(15, height), width_ratios=(1.1, 1, 1), layout="constrained"
    )
    _times(times, rows)
    _ratios(ratios, rows)
    _shares(shares, rows)
    times.set_yticks(range(len(rows)), [_label(*row) for row in rows], fontsize=9)
    times.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    for axis in (times, ratios, shares):
        _separate(axis, rows)
        axis.grid(axis="x", alpha=0.3)
        axis.set_axisbelow(True)
        axis.tick_params(axis="y", length=0)
    figure.suptitle(environment.summary(report.environment), fontsize=10)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _label(result: CaseResult, name: str) -> str:
    suffix = "" if name == "native" else f" · {name}"
    return f"{result.case.device} {result.case.mode} · {result.case.layer}{suffix}"


def _separate(axis: Axes, rows: Sequence[tuple[CaseResult, str]]) -> None:
    kinds = [(result.case.device, result.case.mode) for result, _ in rows]
    for index, (before, after) in enumerate(zip(kinds, kinds[1:], strict=False)):
        if before != after:
            axis.axhline(index + 0.5, color="black", linewidth=0.8)


def _times(axis: Axes, rows: Sequence[tuple[CaseResult, str]]) -> None:
    for index, (result, name) in enumerate(rows):
        measured = result.measurements[name]
        pairs = [(measured.time, BAR[measured.role])]
        reference = result.reference()
        if reference and reference.time:
            pairs.append((reference.time, REFERENCE))
        for summary, color in pairs:
            if summary:
                axis.plot([summary.q1 * 1e3, summary.q3 * 1e3], [index, index], color=color, lw=2)
                axis.plot(summary.median * 1e3, index, "o", color=color, markersize=5)
    axis.set_xscale("log")
    axis.set_xlabel("milliseconds (median, interquartile range)")
    axis.plot([], [], "o", color=BAR["fused"], label="fused")
    if any(result.measurements[name].role == "other" for result, name in rows):
        axis.plot([], [], "o", color=BAR["other"], label="other")
    axis.plot([], [], "o", color=REFERENCE, label="reference")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)


def _ratios(axis: Axes, rows: Sequence[tuple[CaseResult, str]]) -> None:
    values = [figures.ratio or 0.0 for figures in _all_figures(rows)]
    _bars(axis, rows, values, [f"{value:.1f}x" if value else "" for value in values], values)
    axis.axvline(1.0, color="black", linewidth=0.8)
    axis.set_xlabel("times as fast as the reference")


def _shares(axis: Axes, rows: Sequence[tuple[CaseResult, str]]) -> None:
    values = [100 * (figures.share_of_copy or 0.0) for figures in _all_figures(rows)]
    clones = [100 * (figures.share_of_clone or 0.0) for figures in _all_figures(rows)]
    limit = 1.2 * max(100.0, *values)
    seen = [clone if clone < limit else 0.0 for clone in clones]
    ends = [max(pair) for pair in zip(values, seen, strict=True)]
    _bars(axis, rows, values, [f"{value:.0f} %" for value in values], ends)
    for index, clone in enumerate(clones):
        if clone:
            inside = clone < limit
            place, marker = (clone, "|") if inside else (0.99 * limit, ">")
            axis.plot(place, index, marker, color="black", markersize=9 if inside else 4)
    axis.set_xlim(0, limit)
    axis.plot([], [], "|", color="black", label="against a copy into fresh memory")
    axis.axvline(100, color="black", linewidth=0.8, linestyle="--", label="copy, 100 %")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    axis.set_xlabel("share of the copy bandwidth, %")


def _all_figures(rows: Sequence[tuple[CaseResult, str]]) -> list[Figures]:
    return [figures for result, name in rows if (figures := result.figures(name))]


def _bars(
    axis: Axes,
    rows: Sequence[tuple[CaseResult, str]],
    values: Sequence[float],
    labels: Sequence[str],
    ends: Sequence[float],
) -> None:
    """Bars with a label behind each, clear of whatever else is drawn up to ``ends``."""
    colors = [BAR[result.measurements[name].role] for result, name in rows]
    axis.barh(range(len(rows)), values, color=colors, height=0.7)
    for index, (end, label) in enumerate(zip(ends, labels, strict=True)):
        axis.annotate(
            label, (end, index), (4, 0), textcoords="offset points", va="center", fontsize=8
        )
    axis.margins(x=0.15)
