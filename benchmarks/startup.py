"""What a user waits for before the first call: the import, and the first build of the kernels.

Both run in processes of their own. The import is timed after torch's, several times, median taken.
The build starts from an empty cache folder; a package with prebuilt kernels has none to do, which
``origin`` says.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass

from benchmarks.environment import ROOT
from benchmarks.timing import Summary, summarize
from snnkernels._build import cache

IMPORT_REPEATS = 5

_IMPORT = """
import time, torch
start = time.perf_counter()
import snnkernels
print(time.perf_counter() - start)
"""
_BUILD = """
import json, sys, time, torch
from snnkernels import _build
start = time.perf_counter()
library = _build.load(sys.argv[1])
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "origin": library.origin}))
"""


class StartupFailed(RuntimeError):
    """A process that should have imported or built the package failed; holds what it said."""


@dataclass(frozen=True)
class ColdBuild:
    """Seconds from an empty cache to loaded kernels, and where they came from ("jit" if built)."""

    device: str
    seconds: float
    origin: str


@dataclass(frozen=True)
class Startup:
    """Import and build times; None for what was not measured."""

    import_time: Summary | None = None
    builds: tuple[ColdBuild, ...] = ()

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def measure_import(repeats: int = IMPORT_REPEATS) -> Summary:
    """What ``import snnkernels`` adds to ``import torch``, after one run that is not counted."""
    runs = [float(_python(_IMPORT)) for _ in range(repeats + 1)]
    return summarize([[seconds] for seconds in runs[1:]])


def measure_cold_build(device: str) -> ColdBuild:
    """Build the kernels of a device type into an empty cache folder and load them."""
    with tempfile.TemporaryDirectory(prefix="snnkernels-cold-") as folder:
        said = _python(_BUILD, device, environment={cache.ENVIRONMENT_VARIABLE: folder})
    found = json.loads(said.splitlines()[-1])
    return ColdBuild(device=device, seconds=found["seconds"], origin=found["origin"])


def _python(code: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    if done.returncode != 0:
        raise StartupFailed(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout.strip()
