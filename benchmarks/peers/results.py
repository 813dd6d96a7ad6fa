"""What a comparison found, as JSON; and several files of one machine taken together."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import Entry
from benchmarks.peers.measure import TaskResult
from benchmarks.peers.process import Hello
from benchmarks.startup import ColdBuild

SCHEMA = 1
KIND = "peers"
ONE_MACHINE = ("cpu", "gpu", "cores", "threads", "python", "torch", "commit", "dirty")
"""What has to agree for two files to be parts of one comparison."""


@dataclass
class Comparison:
    """Everything that a run with peers found."""

    environment: dict[str, object]
    settings: dict[str, object]
    entries: list[Entry]
    hellos: Mapping[str, Hello]
    results: list[TaskResult] = field(default_factory=list)
    builds: list[ColdBuild] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "written": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "environment": self.environment,
            "settings": self.settings,
            "peers": {entry.peer.name: self._about(entry) for entry in self.entries},
            "cases": [result.to_json() for result in self.results],
            "startup": [asdict(build) for build in self.builds],
            "not_measured": self.not_measured,
        }

    def _about(self, entry: Entry) -> dict[str, Any]:
        hello = self.hellos.get(entry.peer.name)
        return {
            "title": entry.peer.title,
            "differs": entry.peer.differs,
            "settings": asdict(entry.peer.neuron),
            "versions": dict(hello.versions) if hello else {},
            "import_seconds": hello.import_seconds if hello else None,
        }


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The comparisons in some files; files that are parts of one comparison become one.

    Raises:
        ValueError: a file is no result of this benchmark's comparison with peers.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for path in sorted(paths):
        found = _load(path)
        key = tuple(found["environment"][name] for name in ONE_MACHINE)
        if key in merged:
            _add(merged[key], found, path.name)
        else:
            merged[key] = {**found, "files": [path.name]}
    return list(merged.values())


def is_comparison(path: Path) -> bool:
    """Whether a file holds a comparison with peers."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _load(path: Path) -> dict[str, Any]:
    if not is_comparison(path):
        raise ValueError(f"{path} is no JSON of python -m benchmarks --peers")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["schema"] != SCHEMA:
        raise ValueError(f"{path}: got schema {found['schema']}, expected {SCHEMA}")
    return found


def _add(whole: dict[str, Any], part: dict[str, Any], name: str) -> None:
    """Put the cases of a part into the whole, in the place of older ones of the same name."""
    cases = {case["name"]: case for case in (*whole["cases"], *part["cases"])}
    whole["cases"] = list(cases.values())
    for peer, about in part["peers"].items():
        known = whole["peers"].get(peer)
        if known is None or known["import_seconds"] is None:
            whole["peers"][peer] = about
    whole["startup"] = whole["startup"] or part["startup"]
    missing = (*whole["not_measured"], *part["not_measured"])
    whole["not_measured"] = [each for each in dict.fromkeys(missing) if each not in cases]
    whole["files"].append(name)
