"""Packages of the peers: pip puts them into a folder each, in the user's cache.

Requirements are pinned and installed without their own dependencies, so no peer can bring another
torch along; a peer's process finds its folder before this interpreter's packages. Without network,
pip's own variables say where packages are (PIP_NO_INDEX, PIP_FIND_LINKS).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import filelock
import platformdirs
import torch

from benchmarks.peers.spec import Peer
from snnkernels._build import BuildError, toolchain

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
BUILD_TOOLS = "build"
"""The requirements of whoever builds a peer from source."""
MARK = "installed"
LIMIT = 900.0
"""Seconds that pip may take for one peer."""
TAIL_LINES = 12


class InstallFailed(Exception):
    """A package cannot be had or built; the message is the end of what pip said."""


def packages(peer: Peer) -> Path | None:
    """The folder of a peer's packages, whether it is there or not; None if it needs none."""
    return _folder(peer.requirements, peer.build) if peer.requirements else None


def installed(peer: Peer) -> bool:
    folder = packages(peer)
    return folder is None or (folder / MARK).is_file()


def install(peer: Peer) -> None:
    """Fill the folder of a peer, unless that is done.

    Raises:
        InstallFailed: a package cannot be had or built.
    """
    if peer.requirements:
        tools = _filled(BUILD_TOOLS, {}, {})
        _filled(peer.requirements, peer.build, {**_build_variables(tools), **peer.build})


def _folder(requirements: str, build: Mapping[str, str]) -> Path:
    """Named by the requirements and a hash of what decides its content."""
    text = (REQUIREMENTS / f"{requirements}.txt").read_text(encoding="utf-8")
    about = (text, str(sorted(build.items())), platform.python_version(), torch.__version__)
    key = hashlib.sha256("\0".join(about).encode()).hexdigest()[:10]
    return platformdirs.user_cache_path("snnkernels-peers") / f"{requirements}-{key}"


def _build_variables(tools: Path) -> dict[str, str]:
    """Where build tools are, and nvcc for sources that look for CUDA_HOME alone."""
    programs = os.pathsep.join([str(tools / "bin"), os.environ.get("PATH", os.defpath)])
    variables = {"PYTHONPATH": str(tools), "PATH": programs}
    if not os.environ.get("CUDA_HOME"):
        with contextlib.suppress(BuildError):
            variables["CUDA_HOME"] = str(toolchain.find_nvcc(torch.version.cuda).root)
    return variables


def _filled(requirements: str, build: Mapping[str, str], variables: Mapping[str, str]) -> Path:
    """The folder of some requirements, which pip fills unless that is done."""
    folder = _folder(requirements, build)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / MARK).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _pip(requirements, folder, variables)
            (folder / MARK).touch()
    return folder


def _pip(requirements: str, folder: Path, variables: Mapping[str, str]) -> None:
    options = (
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "--no-input",
        "--no-cache-dir",
    )  # where a wheel may be that was built against another torch
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder)]
    try:
        subprocess.run(
            [*command, "-r", str(REQUIREMENTS / f"{requirements}.txt")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **variables},
            timeout=LIMIT,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"pip took longer than {LIMIT:.0f} s") from None
    except subprocess.CalledProcessError as error:
        raise InstallFailed("\n".join(error.stdout.splitlines()[-TAIL_LINES:])) from None
