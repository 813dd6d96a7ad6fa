"""Tables of a comparison, made from its JSON alone: the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import traffic
from benchmarks.peers.workloads import TINY, WORKLOADS
from benchmarks.report import digits

OURS = "native"
MEGABYTE = 1e6
Json = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """Headings and rows of text; the first column is the row's name."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def tables(found: Json) -> Iterator[Table]:
    """Every table of a comparison in which something was measured."""
    for workload in WORKLOADS:
        cases = [case for case in found["cases"] if case["task"]["workload"] == workload.name]
        title = f"({workload.letter}) {workload.title}"
        usual = [case for case in cases if not tiny(case)]
        if timed_names(usual):
            yield _matrix(found, f"{title}: milliseconds (times ours)", usual, _milliseconds)
            if any(case["copies"] for case in usual):
                yield _shares(found, f"{title}: share of the copy bandwidth", usual)
            if any(peer["memory"] for case in usual for peer in case["peers"].values()):
                yield _matrix(found, f"{title}: {MEMORY}", usual, _memory)
            if any(peer["accuracy"] is not None for c in usual for peer in c["peers"].values()):
                yield _matrix(found, f"{title}: test accuracy after the epoch", usual, _accuracy)
        small = [case for case in cases if tiny(case)]
        if timed_names(small):
            yield _matrix(found, "Host time of a call: microseconds", small, _microseconds)
    yield _start(found)
    yield _details(found)


MEMORY = "peak memory beyond input and output, MB (kept for backward beside the input)"


def tiny(case: Json) -> bool:
    """Whether a case is there for the host's time alone."""
    return tuple(case["task"]["shape"]) == TINY


def label(case: Json) -> str:
    """What tells a case from the others of its workload."""
    task = case["task"]
    shape = "[" + ", ".join(map(str, task["shape"])) + "]"
    return " ".join(filter(None, [shape, task["dtype"], task["mode"], task["layout"]]))


def timed_names(cases: Sequence[Json]) -> list[str]:
    """The peers that were timed in one of the cases, in the order of the run."""
    names = [name for case in cases for name, peer in case["peers"].items() if peer["time"]]
    return list(dict.fromkeys(names))


def title_of(found: Json, name: str) -> str:
    about = found["peers"].get(name)
    return about["title"] if about else name


def _matrix(
    found: Json, title: str, cases: Sequence[Json], cell: Callable[[Json, str], str]
) -> Table:
    names = timed_names(cases)
    rows = [[label(case), *(cell(case, name) for name in names)] for case in cases]
    return Table(title, ["case", *(title_of(found, name) for name in names)], rows)


def _median(case: Json, name: str) -> float | None:
    peer = case["peers"].get(name)
    return peer["time"]["median"] if peer and peer["time"] else None


def _milliseconds(case: Json, name: str) -> str:
    median, ours = _median(case, name), _median(case, OURS)
    if median is None:
        return "–"
    shown = digits(median * 1e3)
    marked = "*" if case["peers"][name]["fell_back"] else ""
    if name == OURS or ours is None:
        return shown + marked
    return f"{shown}{marked} ({digits(median / ours, 2)}×)"


def _microseconds(case: Json, name: str) -> str:
    median = _median(case, name)
    return "–" if median is None else digits(median * 1e6)


def _memory(case: Json, name: str) -> str:
    memory = (case["peers"].get(name) or {}).get("memory")
    if not memory:
        return "–"
    extra = digits(memory["peak_extra"] / MEGABYTE, 2)
    saved = memory["saved"]
    return extra if saved is None else f"{extra} ({digits(saved / MEGABYTE, 2)})"


def _accuracy(case: Json, name: str) -> str:
    accuracy = (case["peers"].get(name) or {}).get("accuracy")
    return "–" if accuracy is None else f"{accuracy:.1%}"


def _shares(found: Json, title: str, cases: Sequence[Json]) -> Table:
    cases = [case for case in cases if case["copies"]]
    names = timed_names(cases)
    rows = []
    for case in cases:
        shares = [_share(case, name, "copy") for name in names]
        rows.append([label(case), *shares, _share(case, OURS, "clone")])
    titles = [title_of(found, name) for name in names]
    return Table(title, ["case", *titles, "ours, of a copy into fresh memory"], rows)


def _share(case: Json, name: str, copy: str) -> str:
    median = _median(case, name)
    if median is None:
        return "–"
    copied = case["copies"][copy]["median"]
    share = traffic.share(case["traffic_bytes"], median, case["copy_bytes"], copied)
    return f"{share:.0%}"


def _start(found: Json) -> Table:
    """Import after the framework's own, and the longest first call beyond a usual one."""
    rows = []
    ran = {name: about for name, about in found["peers"].items() if about["versions"]}
    for name, about in ran.items():
        longest = max(_first_calls(found, name), default=None)
        case, seconds = (longest[1], f"{longest[0]:.1f}") if longest else ("–", "–")
        imported = f"{about['import_seconds']:.2f}"
        rows.append([about["title"], imported, seconds, case, ", ".join(versions(about))])
    for build in found["startup"]:
        how = "built" if build["origin"] == "jit" else build["origin"]
        rows.append([f"our kernels for {build['device']}, {how}", "–", f"{build['seconds']:.1f}",
                     "cold build and load", ""])  # fmt: skip
    headings = ["", "import, s", "longest first call, s", "of", "versions"]
    return Table("Cold start", headings, rows)


def _first_calls(found: Json, name: str) -> Iterator[tuple[float, str]]:
    for case in found["cases"]:
        peer = case["peers"].get(name)
        if peer and peer["time"] and case["task"]["workload"] != "mnist":
            beyond = max(peer["first_seconds"] - peer["time"]["median"], 0.0)
            yield beyond, f"{case['task']['workload']} {label(case)}"


def versions(about: Json) -> list[str]:
    """A peer's versions in words."""
    return [f"{name} {version}" for name, version in about["versions"].items()]


def _details(found: Json) -> Table:
    rows = []
    for case in found["cases"]:
        for name, peer in case["peers"].items():
            cells = [f"{case['task']['workload']} {label(case)}", title_of(found, name)]
            if peer["skipped"]:
                rows.append([*cells, "–", "–", "–", f"left out: {peer['skipped']}"])
                continue
            time = peer["time"]
            spread = f"{digits(time['q1'] * 1e3)}–{digits(time['q3'] * 1e3)}"
            rows.append(
                [*cells, digits(time["median"] * 1e3), spread, str(time["count"]), _said(peer)]
            )
    headings = ["case", "who", "median, ms", "quartiles", "samples", "compared with ours"]
    return Table("Every measurement", headings, rows)


def _said(peer: Json) -> str:
    parts = [peer["verdict"]["text"] if peer["verdict"] else ""]
    if peer["fell_back"]:
        parts.append(f"fell back to {peer['provider']}")
    return "; ".join(filter(None, parts))
