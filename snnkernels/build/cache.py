"""The per-user cache of built kernels: where it is, what is in it, and how an entry comes to be.

An entry is a folder named by device and key, with the library, its build log and a manifest. It is
built in a folder beside it and renamed into place, so that an entry is whole or absent.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .description import DEVICE_TYPES, DeviceType, library_file_name
from .errors import build_error
from .progress import say

ENVIRONMENT_VARIABLE = "SNNKERNELS_CACHE_DIR"
TIMEOUT_VARIABLE = "SNNKERNELS_BUILD_TIMEOUT"
DEFAULT_TIMEOUT = 1800.0
MANIFEST = "build.json"
LOG = "build.log"

Kind = Literal[DeviceType, "nvrtc"]
"""What an entry holds: the library of a device, or one kernel by NVRTC."""
KINDS: tuple[Kind, ...] = (*DEVICE_TYPES, "nvrtc")

_warned = False


@dataclass(frozen=True)
class Manifest:
    """What a library was built from, with and for.

    Attributes:
        device_type: "cpu" or "cuda", or "nvrtc" for one kernel by that compiler.
        key: the hash that names the entry.
        family: the hash without the GPU architectures.
        created: when it was built, seconds since the epoch.
        seconds: how long that took.
        size: the library's size in bytes.
        sources: the hash of the sources.
        torch: the version of the torch it was built against.
        compilers: the compilers' names and versions.
        target: the CPU's instruction sets or the GPU architectures.
        flags: the flags of the units, each with its object's name.
        cuda: the version of nvcc; empty for a CPU library.
        cpu: a hash of the CPU it was built on; empty if that is unknown.
        symbol: the kernel's name in the machine code, if there is but one.
    """

    device_type: Kind
    key: str
    family: str
    created: float
    seconds: float
    size: int
    sources: str
    torch: str
    compilers: str
    target: str
    flags: tuple[str, ...]
    cuda: str = ""
    cpu: str = ""
    symbol: str = ""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None where there is none or it is not one of ours."""
    try:
        fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Manifest(**{**fields, "flags": tuple(fields["flags"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


@dataclass(frozen=True)
class Entry:
    """A whole library or kernel in the cache."""

    folder: Path
    manifest: Manifest

    @property
    def library(self) -> Path:
        kind = self.manifest.device_type
        return self.folder / ("kernel.cubin" if kind == "nvrtc" else library_file_name(kind))

    @property
    def log(self) -> Path:
        return self.folder / LOG


def user_dir() -> Path:
    """Return the cache folder: ``$SNNKERNELS_CACHE_DIR``, else one in the user's own cache."""
    named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return platformdirs.user_cache_path("snnkernels", appauthor=False)


def temporary_dir() -> Path:
    """Return the folder that stands in where the cache can't be written."""
    user = getattr(os, "getuid", lambda: "user")()
    return Path(tempfile.gettempdir()) / f"snnkernels-{user}"


def writable_dir() -> Path:
    """Return a folder to build in: the cache, else a temporary one, with one warning.

    Raises:
        BuildError: neither can be written.
    """
    wanted = user_dir()
    problem = _why_not_writable(wanted)
    if problem is None:
        return wanted
    spare = temporary_dir()
    spare_problem = _why_not_writable(spare) or _why_not_ours(spare)
    if spare_problem is None:
        _warn_once(
            f"the cache folder {wanted} can't be written ({problem}), so kernels are kept in "
            f"{spare}, which may not last. Set {ENVIRONMENT_VARIABLE} to one that you can write."
        )
        return spare
    raise build_error(
        "there is no folder to build the kernels in",
        found=f"{wanted}: {problem}; {spare}: {spare_problem}",
        expected="a folder that this user can write",
        remedy=f"export {ENVIRONMENT_VARIABLE}=/a/folder/you/can/write",
    )


def _warn_once(text: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(text, RuntimeWarning, stacklevel=2)


def _why_not_writable(folder: Path) -> str | None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)


def _why_not_ours(folder: Path) -> str | None:
    """A folder in a shared place must be this user's alone: its libraries will be loaded."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or stat.S_IMODE(status.st_mode) & 0o022:
        return "others can write it"
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return "it belongs to another user"
    return None


def entry_name(device_type: Kind, key: str) -> str:
    """Return the name of an entry's folder."""
    return f"{device_type}-{key[:20]}"


def find(device_type: Kind, key: str) -> Entry | None:
    """Return the entry for a key if it is whole, from the cache or the temporary stand-in."""
    places = [user_dir()]
    spare = temporary_dir()
    with contextlib.suppress(OSError):
        if _why_not_ours(spare) is None:
            places.append(spare)
    for place in places:
        entry = _entry_at(place / entry_name(device_type, key))
        if entry is not None and entry.manifest.key == key:
            return entry
    return None


def entries() -> list[Entry]:
    """Return every whole entry of the cache, newest first."""
    with contextlib.suppress(OSError):
        folders = [path for path in user_dir().iterdir() if path.name.startswith(KINDS)]
        found = [entry for entry in map(_entry_at, folders) if entry is not None]
        return sorted(found, key=lambda entry: -entry.manifest.created)
    return []


def _entry_at(folder: Path) -> Entry | None:
    manifest = read_manifest(folder / MANIFEST)
    if manifest is None:
        return None
    entry = Entry(folder, manifest)
    try:
        whole = entry.library.stat().st_size == manifest.size
    except OSError:
        return None
    return entry if whole else None


@contextlib.contextmanager
def workspace(root: Path, name: str) -> Iterator[Path]:
    """Give a fresh folder beside the entry `name`, and remove it however the work ends.

    The caller holds the entry's lock, so what an interrupted build left under that name is removed.
    """
    prefix = f".tmp-{name}-"
    for left in root.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, root: Path, name: str) -> Path:
    """Move a finished folder to its place in one step; what stood there before is removed."""
    target = root / name
    if target.exists():
        with workspace(root, f"old-{name}") as graveyard:
            target.rename(graveyard / name)
            folder.rename(target)
    else:
        folder.rename(target)
    return target


def timeout_seconds() -> float:
    """Return how long to wait for another process's build: ``$SNNKERNELS_BUILD_TIMEOUT`` seconds.

    Raises:
        ValueError: the variable is not a number of seconds above zero.
    """
    text = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_TIMEOUT
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{TIMEOUT_VARIABLE}: expected seconds above zero, got {text!r}")
    return seconds


@contextlib.contextmanager
def locked(root: Path, name: str, what: str) -> Iterator[None]:
    """Hold the entry's lock: one process builds, the others wait and say for whom.

    The operating system holds the lock, so it ends with the process that took it; a file left
    behind locks nothing.

    Raises:
        BuildError: the wait took longer than the timeout, or the file system has no locks.
    """
    import filelock

    timeout = timeout_seconds()
    locks = root / "locks"
    lock = filelock.FileLock(locks / f"{name}.lock")
    owner = locks / f"{name}.owner"
    try:
        locks.mkdir(exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            say(f"process {os.getpid()} waits for {_owner(owner)}, which is building {what}")
            lock.acquire(timeout=timeout)
    except filelock.Timeout:
        raise build_error(
            f"gave up after {timeout:g} s waiting for another process to build {what}",
            found=f"{_owner(owner)} still holds {lock.lock_file}",
            expected=f"a build that ends within {timeout:g} s",
            remedy=f"end that process, or raise {TIMEOUT_VARIABLE} (seconds)",
        ) from None
    except (OSError, NotImplementedError) as error:
        raise build_error(
            f"could not lock the cache to build {what}",
            found=f"{lock.lock_file}: {error}",
            expected="a file system with file locks",
            remedy=f"export {ENVIRONMENT_VARIABLE}=/a/folder/on/a/local/disk",
        ) from error
    try:
        owner.write_text(f"process {os.getpid()} (since {time.strftime('%H:%M:%S')})")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text() or "another process"
    except OSError:
        return "another process"
