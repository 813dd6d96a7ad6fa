"""Makes ``benchmarks`` importable however pytest is started; its commands on tiny shapes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.__main__ import main


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads that wait for a core of a busy machine would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Found = tuple[int, dict[str, Any]]


@pytest.fixture
def measured(tmp_path: Path) -> Callable[..., Found]:
    """Runs a command on the CPU with next to no time, for its exit code and its JSON."""

    def run(*command: str) -> Found:
        path = tmp_path / "found.json"
        code = main([*command, "--device", "cpu", "--budget", "0.001", "--json", str(path)])
        return code, json.loads(path.read_text())

    return run
