"""What a run found: rows, and all that a reader needs to judge them, as JSON and as a table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, case_of

SCHEMA = 2
ONE_MACHINE = ("cpu", "gpu", "cores", "threads", "python", "torch", "commit", "dirty")
"""What has to agree for two files to be parts of one run."""


@dataclass
class Results:
    """Everything that a run found.

    Attributes:
        command: which of the commands of ``python -m benchmarks`` ran.
        environment: machine, versions, commit.
        settings: what the command line asked for.
        rows: a row for each contender in each case, in the order of measuring.
        contenders: title, versions and import time of those that are more than a name.
        startup: what importing and building took.
        targets: figures against what they should be.
        not_measured: what there was no time for.
        written: when the file was written.
        files: those that it was read from.
    """

    command: str
    environment: dict[str, Any]
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    contenders: dict[str, dict[str, Any]] = field(default_factory=dict)
    startup: list[dict[str, Any]] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)
    written: str = ""
    files: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the JSON; an existing file is replaced only by a whole one."""
        self.written = datetime.now(timezone.utc).isoformat(timespec="seconds")
        found = asdict(self)
        del found["files"]
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps({"schema": SCHEMA, **found}, indent=1) + "\n")
        os.replace(partial, path)

    def title_of(self, contender: str) -> str:
        title: str = self.contenders.get(contender, {}).get("title", contender)
        return title


def read(path: Path) -> Results:
    """What a file holds.

    Raises:
        ValueError: it is none that this benchmark wrote, or of another schema.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        schema = found.pop("schema")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ValueError(f"{path} is no JSON of python -m benchmarks") from None
    if schema != SCHEMA:
        raise ValueError(f"{path}: got schema {schema}, expected {SCHEMA}")
    return Results(**found, files=[path.name])


def together(parts: Iterable[Results]) -> list[Results]:
    """Results of which those that are parts of one comparison with peers are one.

    A part's cases take the place of those of parts that were written before it: only what took
    turns stands in one line.
    """
    merged: dict[tuple[Any, ...], Results] = {}
    for part in sorted(parts, key=lambda each: each.written):
        own = () if part.command == "peers" else tuple(part.files)
        key = (part.command, own, *map(part.environment.get, ONE_MACHINE))
        before = merged.get(key)
        if before:
            seen = {case_of(row) for row in part.rows}
            part.rows = [row for row in before.rows if case_of(row) not in seen] + part.rows
            started = {each["what"]: each for each in (*before.startup, *part.startup)}
            part.startup = list(started.values())
            part.contenders = {**before.contenders, **part.contenders}
            done = {*(str(case_of(row)) for row in part.rows), *(s["what"] for s in part.startup)}
            missing = dict.fromkeys([*before.not_measured, *part.not_measured])
            part.not_measured = [name for name in missing if name not in done]
            part.files = [*before.files, *part.files]
        merged[key] = part
    return list(merged.values())
