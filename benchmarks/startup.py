"""``startup``: what a user waits for before the first call, the import and the first build.

Both run in processes of their own. The import is timed after torch's, several times, median taken.
The build starts from an empty cache folder; a package with prebuilt kernels has none to do, which
``origin`` says.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from rich.console import Console

from benchmarks import arguments
from benchmarks.environment import ROOT
from snnkernels._build import cache

IMPORT = "import snnkernels after torch"
IMPORT_REPEATS = 5

_IMPORT = """
import time, torch
start = time.perf_counter()
import snnkernels
print(time.perf_counter() - start)
"""
_BUILD = """
import sys, time, torch
from snnkernels import _build
start = time.perf_counter()
library = _build.load(sys.argv[1])
print(time.perf_counter() - start, library.origin)
"""


class StartupFailed(RuntimeError):
    """A process that should have imported or built the package failed; holds what it said."""


def build_name(device: str) -> str:
    return f"cold build and load, {device}"


def measure_import() -> dict[str, Any]:
    """What ``import snnkernels`` adds to ``import torch``, after one run that is not counted."""
    runs = [float(_python(_IMPORT)) for _ in range(IMPORT_REPEATS + 1)]
    return {"what": IMPORT, "seconds": statistics.median(runs[1:]), "origin": ""}


def measure_cold_build(device: str) -> dict[str, Any]:
    """Build the kernels of a device type into an empty cache folder and load them."""
    with tempfile.TemporaryDirectory(prefix="snnkernels-cold-") as folder:
        said = _python(_BUILD, device, **{cache.ENVIRONMENT_VARIABLE: folder})
    seconds, origin = said.splitlines()[-1].split()
    return {"what": build_name(device), "seconds": float(seconds), "origin": origin}


def measure(device: str) -> list[dict[str, Any]]:
    """Both."""
    return [measure_import(), measure_cold_build(device)]


def _python(code: str, *arguments: str, **variables: str) -> str:
    command, environment = [sys.executable, "-c", code, *arguments], {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    if done.returncode != 0:
        raise StartupFailed(done.stderr.strip() or f"exit code {done.returncode}")
    return done.stdout.strip()


def add(parser: argparse.ArgumentParser) -> None:
    arguments.add_device(parser)


def run(options: argparse.Namespace, console: Console) -> int:
    """The command: prints both."""
    for each in measure(options.device):
        how = f" ({each['origin']})" if each["origin"] else ""
        console.print(f"{each['what']}: {each['seconds']:.3g} s{how}")
    return 0
