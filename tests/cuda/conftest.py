"""The CUDA kernels' bodies built for the host, under the sanitizers."""

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import filelock
import pytest
import torch

from snnkernels._build import specification

REPOSITORY = Path(__file__).resolve().parents[2]
SHIM = Path(__file__).parent / "shim"
FLAGS = [
    *("-std=c++17", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-Wall", "-Wextra", "-Werror"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
]
ELEMENTS = {
    "float64": ("double", "double"),
    "float32": ("float", "float"),
    "float16": ("__half", "float"),
    "bfloat16": ("__nv_bfloat16", "float"),
}


def compiler() -> list[str]:
    """The compiler with all flags that do not depend on the source."""
    csrc = specification.csrc_dir()
    include = Path(torch.__file__).parent / "include"
    common = ["c++", *FLAGS, f"-DTORCH_TARGET_VERSION={specification.TORCH_TARGET_VERSION}"]
    common += [f"-I{path}" for path in (SHIM, csrc, csrc / "include")]
    return [*common, "-isystem", str(include)]


def _commands(folder: Path) -> list[list[str]]:
    common = [*compiler(), "-c"]
    commands = [
        [
            *common,
            str(SHIM / "kernels.cpp"),
            f"-DSHIM_ELEMENT={element}",
            f"-DSHIM_ARITHMETIC={arithmetic}",
            f"-o{folder / name}.o",
        ]
        for name, (element, arithmetic) in ELEMENTS.items()
    ]
    for name in ("driver", "spikes"):
        commands.append([*common, str(SHIM / f"{name}.cpp"), f"-o{folder / name}.o"])
    return commands


def _link(folder: Path, library: Path) -> list[str]:
    lib = Path(torch.__file__).parent / "lib"
    objects = [str(path) for path in sorted(folder.glob("*.o"))]
    libraries = [f"-L{lib}", "-ltorch_cpu", "-ltorch", "-lc10"]
    return ["c++", *FLAGS, "-shared", *objects, *libraries, f"-o{library}"]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"


def _digest() -> str:
    csrc = specification.csrc_dir()
    digest = hashlib.sha256(torch.__version__.encode() + Path(__file__).read_bytes())
    digest.update(specification.sources_digest(csrc, "cuda").encode())
    for path in sorted(SHIM.glob("*.[hcp]*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:20]


@pytest.fixture(scope="session")
def shim_library(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared object for `shim.plugin`, kept beside pytest's cache until a source changes."""
    library = Path(pytestconfig.cache.mkdir("cuda_shim")) / f"{_digest()}.so"
    with filelock.FileLock(library.with_suffix(".lock")):
        if not library.exists():
            folder = tmp_path_factory.mktemp("shim")
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                list(pool.map(_run, _commands(folder)))
            _run(_link(folder, folder / library.name))
            (folder / library.name).replace(library)
    return library
