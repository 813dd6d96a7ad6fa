"""A small stand-in for the kernels' sources and compilers that misbehave on request."""

import contextlib
import os
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snnkernels._build import NeuronSource, cache, loader, specification

REPOSITORY = Path(__file__).resolve().parents[2]


def write_program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(script))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state != "Z"
    return False


def wait_for(started: Path, process: subprocess.Popen[str]) -> None:
    """Wait until something has been written to a file that a process, or its child, begins."""
    while not (started.exists() and started.read_text().strip()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def assert_ended(started: Path) -> None:
    """Make sure that the processes whose numbers a file holds end about now."""
    processes = [int(number) for number in started.read_text().split()]
    assert processes
    end = time.monotonic() + 10
    while any(map(runs, processes)):
        assert time.monotonic() < end, "still running"
        time.sleep(0.02)


@pytest.fixture
def csrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources that build in a blink, in place of the real ones, with an empty cache."""
    folder = tmp_path / "checkout" / "csrc"
    sources = {
        "ops.cpp": '#include "twice.h"\nint four() { return twice(2); }\n',
        "cpu/twice.cpp": '#include "twice.h"\nint two() { return twice(1); }\n',
        "include/twice.h": "inline int twice(int x) { return 2 * x; }\n",
        "cuda/twice.cu": "__global__ void twice(int* x) { *x *= 2; }\n",
    }
    for name, text in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    package = folder.parent / "snnkernels"
    monkeypatch.setattr(specification, "PACKAGE_DIR", package)
    monkeypatch.setattr(loader, "PREBUILT_DIR", package / "_lib")
    monkeypatch.setattr(loader, "_outcomes", {})
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setenv("SNNKERNELS_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("CXX", "CUDACXX", "CUDA_HOME", "CUDA_PATH", "SNNKERNELS_CUDA_ARCH"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TORCH_CUDA_ARCH_LIST", "SNNKERNELS_WERROR", "SNNKERNELS_VERBOSE", "MAX_JOBS"):
        monkeypatch.delenv(name, raising=False)
    return folder


TOY = NeuronSource("Toy", "", "int", "int", states=1, params=2, outputs=1, tables=0)


@pytest.fixture
def toy(csrc: Path) -> NeuronSource:
    """A neuron compiled by itself that builds in a blink."""
    (csrc / "cpu" / "convert.cpp").write_text("int convert() { return 1; }\n")
    (csrc / "cpu" / "compiled_scan.h").write_text(
        '#define SNN_COMPILED_NEURON(...) extern "C" __attribute__((visibility("default"))) '
        "void* snn_compiled_neuron() { return nullptr; }\n"
    )
    return TOY


@pytest.fixture
def counting_cxx(csrc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Make $CXX a compiler that is slow and counts its compiles; return the count."""
    count = tmp_path / "compiles"
    count.write_text("")
    program = write_program(
        tmp_path / "bin" / "slow-c++",
        f"""
        case "$*" in *" -c "*) sleep 0.5; echo x >> {count};; esac
        exec c++ "$@"
        """,
    )
    monkeypatch.setenv("CXX", str(program))
    return lambda: len(count.read_text().split())


@pytest.fixture
def in_process(csrc: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Run Python code in another process that sees the stand-in sources, other packages first."""

    def start(code: str, *packages: Path) -> subprocess.Popen[str]:
        prelude = f"""
            from pathlib import Path
            from snnkernels._build import cache, specification, loader, plan
            specification.PACKAGE_DIR = Path({str(csrc.parent / "snnkernels")!r})
            loader.PREBUILT_DIR = specification.PACKAGE_DIR / "_lib"
        """
        return subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*packages, REPOSITORY)))},
        )

    return start
