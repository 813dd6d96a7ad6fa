"""Where a run took place: machine, devices, versions, commit, load."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import snnkernels

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("csrc", "snnkernels", "benchmarks", "setup.py", "pyproject.toml")


def describe(devices: Sequence[str]) -> dict[str, object]:
    """Everything that a reader needs to judge the figures, ready for JSON."""
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "last_level_cache_bytes": last_level_cache(),
        "load_average": list(os.getloadavg()),
        "gpu": torch.cuda.get_device_name() if "cuda" in devices else None,
        "driver": driver_version() if "cuda" in devices else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "snnkernels": snnkernels.__version__,
        "compiler": compiler(),
        "commit": _output(["git", "rev-parse", "HEAD"]) or None,
        "dirty": dirty(),
        "command": [_without_folder(argument) for argument in sys.argv[1:]],
    }


def compiler() -> str | None:
    """The first line of what the compiler says of itself, and ``CXX`` where that names it."""
    named = shlex.split(os.environ.get("CXX", ""))
    version = _output([*(named or ["g++"]), "--version"]).partition("\n")[0]
    if not version or not named:
        return version or None
    return f"{version} (CXX={' '.join(map(_without_folder, named))})"


@functools.cache
def cpu_name() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


@functools.cache
def last_level_cache() -> int | None:
    """Bytes of the largest cache that the first core sees; None where the system does not say."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        if text.endswith("K"):
            sizes.append(int(text[:-1]) * 1024)
        elif text.endswith("M"):
            sizes.append(int(text[:-1]) * 1024**2)
    return max(sizes, default=None)


def driver_version() -> str | None:
    """The NVIDIA driver's version, from nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _output(query).partition("\n")[0] or None


def dirty() -> bool | None:
    """Whether a source differs from the commit; None outside a git checkout."""
    if not _output(["git", "rev-parse", "--git-dir"]):
        return None
    status = ["git", "status", "--porcelain", "--", *SOURCES, ":!benchmarks/results"]
    return bool(_output(status))


def summary(environment: dict[str, object]) -> str:
    """The environment in a line or two, for a title."""
    parts = [
        f"{environment['cpu']}, {environment['threads']} threads ({environment['cpu_capability']})",
        f"torch {environment['torch']}",
    ]
    if environment["gpu"]:
        parts.insert(1, f"{environment['gpu']}, driver {environment['driver']}")
    commit = environment["commit"]
    if commit:
        parts.append(f"commit {str(commit)[:10]}{'+changes' if environment['dirty'] else ''}")
    return " · ".join(parts)


def _without_folder(argument: str) -> str:
    """An argument as it is, of an absolute path the last part: where it lies is nobody's matter."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _output(command: list[str]) -> str:
    """What a command prints; empty if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
