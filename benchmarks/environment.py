"""Where a run took place: machine, devices, versions, commit, load."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

import snnkernels

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SOURCES = ("csrc", "snnkernels", "benchmarks", "setup.py", "pyproject.toml")


def describe(device: str) -> dict[str, Any]:
    """Everything that a reader needs to judge the figures, ready for JSON."""
    status = ["git", "status", "--porcelain", "--", *SOURCES, ":!benchmarks/results"]
    commit = _output(["git", "rev-parse", "HEAD"])
    return {
        "machine": platform.machine(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "last_level_cache_bytes": last_level_cache(),
        "load_average": list(psutil.getloadavg()),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "driver": _driver_version() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "snnkernels": snnkernels.__version__,
        "compiler": compiler(),
        "commit": commit or None,
        "dirty": bool(_output(status)) if commit else None,
        "command": [_without_folder(argument) for argument in sys.argv[1:]],
    }


def compiler() -> str | None:
    """The first line of what the compiler says of itself, and ``CXX`` where that names it."""
    named = shlex.split(os.environ.get("CXX", ""))
    version = _output([*(named or ["g++"]), "--version"]).partition("\n")[0]
    if not version or not named:
        return version or None
    return f"{version} (CXX={' '.join(map(_without_folder, named))})"


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or "unknown")


def last_level_cache() -> int | None:
    """Bytes of the largest cache that the first core sees; None where the system does not say."""
    sizes = [path.read_text().strip() for path in
             Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]  # fmt: skip
    units = {"K": 1024, "M": 1024**2}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size[-1] in units),
               default=None)  # fmt: skip


def summary(environment: dict[str, Any]) -> str:
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


def _driver_version() -> str | None:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return _output(query).partition("\n")[0] or None


def _without_folder(argument: str) -> str:
    """An argument as it is, of an absolute path the last part: where it lies is nobody's matter."""
    return Path(argument).name if Path(argument).is_absolute() else argument


def _output(command: list[str]) -> str:
    """What a command prints; empty if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
