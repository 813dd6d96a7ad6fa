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


def cold_build_name(device: str) -> str:
    """The cold build of a device's kernels among what was not measured."""
    return f"cold build for {device}"


def read(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The comparisons in some files; files that are parts of one comparison become one.

    A part's cases take the place of those of parts that were written before it; the picture has the
    name of the file with the most of them.

    Raises:
        ValueError: a file is no result of this benchmark's comparison with peers.
    """
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    loaded = [(path, _load(path)) for path in paths]
    for path, found in sorted(loaded, key=lambda each: (each[1]["written"], each[0])):
        key = tuple(found["environment"][name] for name in ONE_MACHINE)
        part = {**found, "files": [path.name], "picture": (len(found["cases"]), path.stem)}
        merged[key] = _together(merged[key], part) if key in merged else part
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


def _together(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Two comparisons as one, where both have something that of the later part."""
    cases = {case["name"]: case for case in (*whole["cases"], *part["cases"])}
    builds = {build["device"]: build for build in (*whole["startup"], *part["startup"])}
    measured = {*cases, *map(cold_build_name, builds)}
    missing = dict.fromkeys((*whole["not_measured"], *part["not_measured"]))
    imported = {n: p for n, p in part["peers"].items() if p["import_seconds"] is not None}
    return {
        **part,
        "cases": list(cases.values()),
        "startup": list(builds.values()),
        "peers": {**part["peers"], **whole["peers"], **imported},
        "not_measured": [each for each in missing if each not in measured],
        "files": [*whole["files"], *part["files"]],
        "picture": max(whole["picture"], part["picture"]),
    }
