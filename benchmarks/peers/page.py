"""``python -m benchmarks report``: the tables and pictures of docs/performance.md, from JSON."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.markdown import replace_between, table
from benchmarks.peers import results
from benchmarks.peers.tables import tables

RESULTS = environment.ROOT / "benchmarks" / "results"
PAGE = environment.ROOT / "docs" / "performance.md"
IMAGES = "images"
BEGIN = "<!-- begin: written by python -m benchmarks report -->"


def main(argv: Sequence[str]) -> int:
    """Write the page and its pictures; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks report",
        description="Tables and pictures of docs/performance.md, from the JSON of --peers.",
    )
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="default: those in benchmarks/results/ that hold a comparison with peers",
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="default docs/performance.md")
    options = parser.parse_args(argv)
    try:
        comparisons = results.read(options.files or committed())
        text = with_tables(options.page.read_text(encoding="utf-8"), comparisons)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    options.page.write_text(text, encoding="utf-8")
    draw(comparisons, options.page.parent / IMAGES)
    print(f"written: {options.page}")
    return 0


def committed() -> list[Path]:
    """The comparisons in benchmarks/results/."""
    return [path for path in sorted(RESULTS.glob("*.json")) if results.is_comparison(path)]


def draw(comparisons: Sequence[dict[str, Any]], folder: Path) -> None:
    """A picture of each comparison."""
    from benchmarks.peers import picture

    folder.mkdir(exist_ok=True)
    for found in comparisons:
        picture.save(found, folder / image_name(found))


def with_tables(page: str, comparisons: Sequence[dict[str, Any]]) -> str:
    """A page with what stands between its markers replaced.

    Raises:
        ValueError: the page does not have the two markers.
    """
    return replace_between(page, BEGIN, markdown(comparisons))


def markdown(comparisons: Sequence[dict[str, Any]]) -> str:
    """All comparisons as Markdown."""
    if not comparisons:
        return "Nothing has been measured yet.\n"
    return "\n".join(line for found in comparisons for line in _section(found))


def image_name(found: dict[str, Any]) -> str:
    return f"{found['picture'][1]}.png"


def _section(found: dict[str, Any]) -> Iterator[str]:
    about = found["environment"]
    device = about["gpu"] or about["cpu"]
    yield f"## {device}, {about['threads']} CPU threads"
    yield ""
    yield f"{environment.summary(about)}; Python {about['python']}; measured {found['written']}."
    yield f"Files: {', '.join(f'`benchmarks/results/{name}`' for name in found['files'])}."
    yield ""
    yield f"![Time of each workload]({IMAGES}/{image_name(found)})"
    yield ""
    busy = [(case["foreign_cores"] or 0.0, case["name"]) for case in found["cases"]]
    if busy:
        cores, name = max(busy)
        yield f"Other programs kept at most {cores:.2f} cores busy meanwhile (in {name})."
        yield ""
    for each in tables(found):
        yield f"### {each.title}"
        yield ""
        yield from table(each.headings, each.rows)
        yield ""
    if found["not_measured"]:
        yield f"Not measured, for want of time: {'; '.join(found['not_measured'])}."
        yield ""
