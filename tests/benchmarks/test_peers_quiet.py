"""Who else uses the processors while something is timed is noticed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.peers import quiet
from benchmarks.peers.quiet import Watch

SECOND = os.sysconf("SC_CLK_TCK")


def write(proc: Path, process: int, own: float, machine: float, stolen: float = 0.0) -> None:
    """Processor seconds of a process, of the whole machine, and of its hypervisor."""
    (proc / str(process)).mkdir(exist_ok=True)
    used = f"{process} (a) name) R 1 1 1 0 -1 0 0 0 0 0 {int(own * SECOND)} 0 0 0 20"
    (proc / str(process) / "stat").write_text(used)
    (proc / "stat").write_text(
        f"cpu {int(machine * SECOND)} 0 0 999 9 0 0 {int(stolen * SECOND)}\n"
    )


@pytest.mark.parametrize(
    ("own", "machine", "stolen", "cores"),
    [(4.0, 4.0, 0.0, 0.0), (1.0, 4.0, 0.0, 1.5), (1.0, 1.0, 1.0, 0.5), (5.0, 4.0, 0.0, 0.0)],
)
def test_what_is_not_ours_or_is_stolen_is_foreign(
    own, machine, stolen, cores, tmp_path: Path, monkeypatch
):
    now = [10.0]
    monkeypatch.setattr(quiet.time, "monotonic", lambda: now[0])
    write(tmp_path, os.getpid(), own=7, machine=100)
    watch = Watch([], tmp_path)
    now[0] += 2
    write(tmp_path, os.getpid(), own=7 + own, machine=100 + machine, stolen=stolen)
    assert watch.cores() == pytest.approx(cores)


def test_nothing_is_claimed_where_the_system_does_not_tell(tmp_path: Path):
    assert Watch([], tmp_path).cores() is None
