"""The one error of building and loading kernels, and the shape of its message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

MEANWHILE = "the plain-PyTorch reference is used, unless the backend was asked for by name"


class BuildError(RuntimeError):
    """Kernels could not be built or loaded; the message says why and what mends it."""


def build_error(
    what: str,
    *,
    found: str,
    expected: str,
    remedy: str,
    log: Path | None = None,
    excerpt: Sequence[str] = (),
) -> BuildError:
    """Make a `BuildError` whose message answers the questions a reader has, in a fixed order.

    Args:
        what: what failed, as a sentence without a full stop.
        found: what is there.
        expected: what was needed.
        remedy: the command or setting that mends it.
        log: the saved build log, if something ran.
        excerpt: the telling lines of that log.
    """
    rows = [
        ("found", found),
        ("expected", expected),
        ("to mend it", remedy),
        ("meanwhile", MEANWHILE),
    ]
    if log is not None:
        rows.append(("log", str(log)))
    lines = [what, *(f"  {name + ':':<12}{text}" for name, text in rows)]
    if excerpt:
        lines += ["  first error:", *(f"    {line}" for line in excerpt)]
    return BuildError("\n".join(lines))
