"""What the commands that write the documents' tables share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

END = "<!-- end -->"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield _row(headings)
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield _row([cell.replace("|", "\\|") for cell in row])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def replace_between(page: str, begin: str, text: str) -> str:
    """A page with ``text`` between the line ``begin`` and the end marker behind it.

    Raises:
        ValueError: the page does not have the two markers.
    """
    before, found, rest = page.partition(begin)
    _, end, after = rest.partition(END)
    if not found or not end:
        raise ValueError(f"the page has no {begin} with {END} behind it")
    return f"{before}{begin}\n\n{text}\n{END}{after}"
