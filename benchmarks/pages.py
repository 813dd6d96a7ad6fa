"""``report``: the tables and pictures of the documents, from JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmarks import machine_code, mnist, picture, tables, workloads
from benchmarks.environment import RESULTS, ROOT, summary
from benchmarks.measure import case_of
from benchmarks.results import Results, read, together

IMAGES = "docs/images"
OVERVIEW = "training.png"
BEGIN = "<!-- begin: written by python -m benchmarks report -->"
END = "<!-- end -->"


Write = Callable[[Sequence[Results], Path], Iterable[str]]
"""From the runs of a command and the folder of pictures to the lines of a page."""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="default: all in benchmarks/results/; pages show what these have, and nothing else",
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="where the pages are (default: this checkout)"
    )


def run(options: argparse.Namespace, console: Console) -> int:
    """Write every page that a file belongs to, and its pictures; 1 if one cannot be read."""
    try:
        found = together(map(read, options.files or sorted(RESULTS.glob("*.json"))))
        pages = {page: (options.root / page).read_text(encoding="utf-8") for page in PAGES}
        for text in pages.values():  # before anything is drawn
            replace_between(text, "")
        texts = {page: _page(page, text, found, options.root) for page, text in pages.items()}
    except (OSError, ValueError) as error:
        console.print(f"[red]error:[/] {error}")
        return 1
    for page, text in texts.items():
        if text:
            (options.root / page).write_text(text, encoding="utf-8")
            console.print(f"written: {options.root / page}", markup=False)
    return 0


def _page(page: str, text: str, found: Sequence[Results], root: Path) -> str:
    """The page's new text, empty where there is nothing to say."""
    commands, write = PAGES[page]
    own = [run for command in commands for run in found if run.command == command]
    images = root / IMAGES
    images.mkdir(exist_ok=True)
    written = "\n".join(write(own, images))
    return written and replace_between(text, written)


def replace_between(page: str, text: str) -> str:
    """A page with ``text`` between its markers.

    Raises:
        ValueError: the page does not have them.
    """
    before, found, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no {BEGIN} with {END} behind it")
    return f"{before}{BEGIN}\n\n{text.rstrip()}\n\n{END}{after}"


def _each(write: Callable[[Results, Path], Iterator[str]]) -> Write:
    """A page on which every run has a section."""
    return lambda runs, images: (line for run in runs for line in write(run, images))


def _tables(runs: Sequence[Results], images: Path) -> Iterator[str]:
    """The tables of runs, below the machine that several of them have."""
    about = ""
    for run in runs:
        if about != summary(run.environment):
            about = summary(run.environment)
            yield from (f"{about}.", "")
        for title, frame in tables.tables(run):
            yield from (f"{title}:", "", tables.markdown(frame), "")


def _readme(runs: Sequence[Results], images: Path) -> Iterator[str]:
    """Headlines of every machine; the picture is of a GPU as soon as there is one."""
    found = tables.headlines(runs)
    if not found:
        return
    first = found[0][0]
    same = [each for each in found if tables.machine_of(each[0]) == tables.machine_of(first)]
    picture.overview(same, images / OVERVIEW)
    yield tables.markdown(tables.overview(found))
    yield ""
    about = dict.fromkeys(summary(run.environment) for run, _, _ in found)
    least = min(row["count"] for _, _, rows in found for row in rows.values())
    yield f"Medians (calls of a contender: {least} at least); {'; '.join(about)}."
    if not first.environment["gpu"]:
        yield "On a GPU nothing has been compared yet."


def _performance(found: Results, images: Path) -> Iterator[str]:
    about, name = found.environment, f"{Path(found.files[-1]).stem}.png"
    rows = [row for row in found.rows if case_of(row).shape != workloads.TINY]
    picture.save(found, images / name, rows)
    yield f"## {about['gpu'] or about['cpu']}, {about['threads']} CPU threads"
    yield ""
    yield f"{summary(about)}; Python {about['python']}; measured {found.written}."
    yield f"Files: {', '.join(f'`benchmarks/results/{each}`' for each in found.files)}."
    yield ""
    yield f"![Time of each workload](images/{name})"
    yield ""
    busy = [(row["foreign_cores"], case_of(row).label) for row in found.rows
            if row.get("foreign_cores")]  # fmt: skip
    if busy:
        cores, where = max(busy)
        yield f"Other programs kept at most {cores:.2f} cores busy meanwhile (in {where})."
        yield ""
    for title, frame in (*tables.tables(found), *tables.long_tables(found)):
        yield from (f"### {title}", "", tables.markdown(frame), "")
    if found.not_measured:
        yield f"Not measured, for want of time: {'; '.join(found.not_measured)}."


def _mnist(found: Results, images: Path) -> Iterator[str]:
    frame, name = pd.DataFrame(found.rows), f"{Path(found.files[-1]).stem}.png"
    mnist.draw(frame, images / name)
    percent = mnist.accuracies(frame).map(lambda value: f"{value:.2f}" if value == value else "")
    yield f"{summary(found.environment)}."
    yield ""
    yield f"![Accuracy](images/{name})"
    yield ""
    yield tables.markdown(mnist.runs_table(frame))
    yield ""
    yield "Test accuracy after each epoch, in percent:"
    yield ""
    yield tables.markdown(percent.reset_index())


def _machine_code(found: Results, images: Path) -> Iterator[str]:
    yield f"{machine_code.heading(found)}; commit {str(found.environment['commit'])[:10]}:"
    yield ""
    yield tables.markdown(machine_code.table(found.rows))


PAGES: dict[str, tuple[tuple[str, ...], Write]] = {
    "README.md": (("peers",), _readme),
    "docs/performance.md": (("peers",), _each(_performance)),
    "docs/gpu.md": (("machine-code",), _each(_machine_code)),
    "docs/layers.md": (("encoding", "products"), _tables),
    "docs/memory.md": (("storage",), _tables),
    "docs/your-own-neuron.md": (("compiled",), _tables),
    "docs/mnist.md": (("mnist",), _each(_mnist)),
}
"""The commands whose results a page shows, and what writes it."""
