"""Environments of the peers: one virtual environment each, in a cache folder, made on request.

Requirements are pinned and installed without their own dependencies, so no peer can bring another
torch along. An environment that shares our torch sees this interpreter's packages behind its own.
It is marked when it is whole and was seen to load, and is made anew if anything in it changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import site
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import filelock
import platformdirs
import torch

from benchmarks.peers.catalogue import Entry
from benchmarks.peers.process import PeerFailed, PeerProcess
from benchmarks.peers.spec import Environment
from snnkernels._build import BuildError, toolchain

MARK = "installed.json"
LOG = "install.log"
STEP_SECONDS = 900.0
REASON_LINES = 2

Say = Callable[[str], None]


class InstallFailed(Exception):
    """A peer cannot be installed; the message is the reason."""


@dataclass(frozen=True)
class Place:
    """Where environments are, and where packages come from.

    ``wheels`` is a folder of wheels and sdists to use instead of an index; what it has as a wheel
    for this platform is not built from its source. ``limit`` is the number of seconds that one step
    of an installation may take.
    """

    folder: Path = field(default_factory=lambda: platformdirs.user_cache_path("snnkernels-peers"))
    wheels: Path | None = None
    limit: float = STEP_SECONDS

    def environment(self, environment: Environment) -> Path:
        """The folder of an environment, named by what is first in it and a hash of the whole."""
        about = [asdict(environment), platform.python_version(), sys.prefix]
        if environment.shares_torch:
            about.append(torch.__version__)
        key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:10]
        first = (environment.sources or environment.requirements)[0]
        return self.folder / f"{re.sub('[^A-Za-z0-9.]+', '-', first)}-{key}"

    def python(self, entry: Entry) -> Path | None:
        """The interpreter that runs a peer, None if its environment is not there."""
        environment = entry.peer.environment
        if environment is None:
            return Path(sys.executable)
        folder = self.environment(environment)
        return python_of(folder) if (folder / MARK).is_file() else None


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "bin" / "python"


def install(entry: Entry, place: Place, say: Say = lambda text: None) -> None:
    """Make the environment of a peer, unless it is there, and see that the peer loads in it.

    Raises:
        InstallFailed: a package cannot be had or built, or the peer does not load.
    """
    environment = entry.peer.environment
    if environment is None:
        return
    folder = place.environment(environment)
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not (folder / MARK).is_file():
            make(environment, folder, place, say)
        say("loading it")
        versions = probe(entry, folder)
        (folder / MARK).write_text(json.dumps(versions, indent=1) + "\n")


def make(environment: Environment, folder: Path, place: Place, say: Say) -> None:
    """Make an environment in ``folder``, which is emptied before."""
    say("making the environment")
    run([sys.executable, "-m", "venv", "--clear", str(folder)], folder, place.limit)
    if environment.shares_torch:
        share_packages(folder)
    pip = [str(python_of(folder)), "-m", "pip", "install", "--no-deps"]
    pip += ["--disable-pip-version-check", "--no-input", *from_where(place.wheels)]
    for what, requirements in (
        ("build tools", environment.build_requirements),
        ("packages", environment.requirements),
    ):
        if requirements:
            say(f"installing {what}: {', '.join(requirements[:2])}"[:60])
            run([*pip, *map(located, requirements)], folder, place.limit)
    for source in environment.sources:
        if is_built(source, place.wheels):
            say(f"installing {source}")
            run([*pip, located(source)], folder, place.limit)
            continue
        say(f"building {source}")
        built = [*pip, "--no-build-isolation", "--no-cache-dir", "--no-binary", name_of(source)]
        variables = {**build_variables(), **environment.build_variables}
        run([*built, located(source)], folder, place.limit, variables)


def is_built(source: str, wheels: Path | None) -> bool:
    """Whether the folder has a source as a wheel for this Python and kind of machine."""
    if wheels is None:
        return False
    name, _, version = source.partition("==")
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    return any(wheels.glob(f"{stem}-{python}-*_{platform.machine()}.whl"))


def fetch(entry: Entry, folder: Path, say: Say = lambda text: None) -> None:
    """Put the packages of a peer into a folder, for ``--peer-wheels`` on a machine without network.

    Raises:
        InstallFailed: one cannot be had.
    """
    environment = entry.peer.environment
    if environment is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    pip += ["--dest", str(folder)]
    wanted = [*environment.build_requirements, *environment.requirements]
    say(f"fetching {len(wanted)} packages")
    run([*pip, *map(located, wanted)], folder, STEP_SECONDS)
    for source in environment.sources:
        say(f"fetching the source of {source}")
        fetch_source([*pip, "--no-binary", name_of(source), located(source)], folder)


def fetch_source(command: Sequence[str], folder: Path) -> None:
    """pip runs a part of the build to fetch a source; some need our torch and nvcc for that."""
    try:
        run(command, folder, STEP_SECONDS)
    except InstallFailed:
        run([*command, "--no-build-isolation"], folder, STEP_SECONDS, build_variables())


def share_packages(folder: Path) -> None:
    """Let an environment see this interpreter's packages, torch above all, behind its own."""
    (own,) = folder.glob("lib/python*/site-packages")
    parents = [
        *site.getsitepackages(),
        *([site.getusersitepackages()] if site.ENABLE_USER_SITE else []),
    ]
    seen = [path for path in parents if path in sys.path]
    (own / "zz_shared.pth").write_text("\n".join(seen) + "\n")


def from_where(wheels: Path | None) -> list[str]:
    """Options of pip: the usual index, or a folder and no network."""
    return [] if wheels is None else ["--no-index", "--find-links", str(wheels.absolute())]


def located(requirement: str) -> str:
    """A requirement for this machine's torch."""
    major = (torch.version.cuda or "0").partition(".")[0]
    return requirement.replace("{cuda_major}", major)


def name_of(requirement: str) -> str:
    return requirement.partition("==")[0]


def build_variables() -> dict[str, str]:
    """Where nvcc is, for sources that look for CUDA_HOME alone; nothing if there is none."""
    if os.environ.get("CUDA_HOME"):
        return {}
    try:
        nvcc = toolchain.find_nvcc(torch.version.cuda)
    except BuildError:
        return {}
    return {"CUDA_HOME": str(nvcc.root)}


def probe(entry: Entry, folder: Path) -> dict[str, str]:
    """The versions that a peer says it runs with; its torch has to be ours.

    Raises:
        InstallFailed: it does not load, or has another torch.
    """
    try:
        log = folder / LOG
        with PeerProcess(entry.peer, entry.adapter, python_of(folder), log, threads=1) as process:
            versions = dict(process.hello.versions)
    except PeerFailed as error:
        raise InstallFailed(str(error)) from None
    if versions.get("torch", torch.__version__) != torch.__version__:
        raise InstallFailed(f"it runs on torch {versions['torch']}, not on {torch.__version__}")
    return versions


def run(
    command: Sequence[str], folder: Path, limit: float, variables: dict[str, str] | None = None
) -> None:
    """Run a step with its output in the log.

    Raises:
        InstallFailed: it failed or took longer than ``limit`` seconds.
    """
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, **(variables or {})},
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"{command[2]} took longer than {limit:.0f} s") from None
    with (folder / LOG).open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode != 0:
        raise InstallFailed(reason(done.stdout))


def reason(said: str) -> str:
    """What pip's output says went wrong, in a line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"(?i)\b\w*error\b|no matching", line)]
    telling = [line for line in errors if not re.match(r"(?i)error: (sub|meta|failed)", line)]
    chosen = telling or errors or lines or ["it said nothing"]
    return " | ".join(dict.fromkeys(chosen[:REASON_LINES]))


@contextmanager
def named(failures: dict[str, str], entry: Entry) -> Iterator[None]:
    """Note the reason under the peer's name instead of stopping at it."""
    try:
        yield
    except InstallFailed as error:
        failures[entry.peer.name] = str(error)
