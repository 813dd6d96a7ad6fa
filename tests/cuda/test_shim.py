"""The CUDA kernels' very bodies on the CPU, under AddressSanitizer and UBSan."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def preloaded() -> str:
    """What must come first into a process: the sanitizer, and the exceptions that it watches."""
    paths = []
    for name in ("libasan.so", "libstdc++.so"):
        query = ["c++", f"-print-file-name={name}"]
        path = subprocess.run(
            query, capture_output=True, text=True, check=True, timeout=600
        ).stdout.strip()
        if not Path(path).is_absolute():
            pytest.skip(f"c++ has no {name}")
        paths.append(path)
    return " ".join(paths)


PARITY = [
    "tests/cuda/shim_cases.py",
    "tests/cuda/shim_compiled.py",
    "tests/cuda/shim_specialized.py",
    "tests/test_parity.py",
    "tests/test_encoding.py",
    "tests/test_spike_storage.py",
]


def run_under_sanitizers(plugin: str, files: list[str], library: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", f"tests.cuda.shim.{plugin}"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *files],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1200,
        env={
            **os.environ,
            "LD_PRELOAD": preloaded(),
            "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "SNNKERNELS_SHIM": str(library),
            "SNNKERNELS_CACHE_DIR": str(library.parent),
            "CI": "1",
        },
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


@pytest.mark.slow
def test_the_kernels_bodies_agree_with_the_reference_and_stay_in_bounds(shim_library):
    run_under_sanitizers("plugin", PARITY, shim_library)


@pytest.mark.slow
def test_they_do_so_where_the_library_asks_for_each_kernel(shim_library):
    run_under_sanitizers("plugin", ["tests/cuda/shim_loaded.py"], shim_library)


@pytest.mark.slow
def test_they_do_so_under_the_cupy_backends_host_code(shim_library):
    run_under_sanitizers("nvrtc_plugin", [*PARITY, "tests/cuda/shim_nvrtc.py"], shim_library)
