"""The per-user cache of built kernels: where it is, what is in it, and how an entry comes to be.

An entry is a folder named by device and key, with the library, its build log and a manifest. It is
built in a folder beside it, brought to the disk and renamed into place, so that it is whole or
absent. The manifest has the library's hash: what was damaged later counts as absent too. What
others than this user can write is refused, since it will be loaded.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from .errors import build_error
from .process import TIMEOUT_VARIABLE, timeout_seconds
from .progress import say
from .specification import DEVICE_TYPES, DeviceType, library_file_name

ENVIRONMENT_VARIABLE = "SNNKERNELS_CACHE_DIR"
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
        sources: the hash of the sources.
        torch: the version of the torch it was built against.
        compilers: the compilers' names and versions.
        target: the CPU's instruction sets or the GPU architectures.
        flags: all flags, by what they are for.
        cuda: the version of nvcc; empty for a CPU library.
        cpu: a hash of the CPU it was built on; empty if that is unknown.
        symbol: the kernel's name in the machine code, if there is but one.
        created: when it was built, seconds since the epoch.
        seconds: how long that took.
        size: the library's size in bytes.
        digest: the hash of the library.
    """

    device_type: Kind
    key: str
    family: str
    sources: str
    torch: str
    compilers: str
    target: str
    flags: tuple[str, ...]
    cuda: str = ""
    cpu: str = ""
    symbol: str = ""
    created: float = 0.0
    seconds: float = 0.0
    size: int = 0
    digest: str = ""

    def of(self, library: Path, seconds: float) -> Manifest:
        """Return the same with what is known of the library that has just been built."""
        return replace(
            self,
            created=time.time(),
            seconds=round(seconds, 3),
            size=library.stat().st_size,
            digest=digest(library),
        )

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None where there is none or it is not one of ours."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = found.keys() == {field.name for field in fields(Manifest)}
        return Manifest(**{**found, "flags": tuple(found["flags"])}) if complete else None
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def digest(path: Path) -> str:
    """Hash a file's content; once in a process, unless it has changed since.

    Raises:
        OSError: it can't be read.
    """
    status = path.stat()
    return _digest(path, (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))


@functools.cache
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest()


def why_damaged(library: Path, manifest: Manifest) -> str:
    """Compare a library with its manifest; empty where it is what was built."""
    try:
        whole = digest(library) == manifest.digest
    except OSError as error:
        return f"can't be read ({error.strerror})"
    return "" if whole else "is damaged: its content is not what was built"


@dataclass(frozen=True)
class Entry:
    """A library or kernel in the cache, of the size that its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def library(self) -> Path:
        return self.folder / library_name(self.manifest.device_type)

    @property
    def log(self) -> Path:
        return self.folder / LOG


def library_name(kind: Kind) -> str:
    """Return the name of the file in an entry that is loaded."""
    return "kernel.cubin" if kind == "nvrtc" else library_file_name(kind)


def user_dir() -> Path:
    """Return the cache folder: ``$SNNKERNELS_CACHE_DIR``, else one in the user's own cache."""
    named = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if named:
        return Path(os.path.expanduser(named)).absolute()
    import platformdirs

    return platformdirs.user_cache_path("snnkernels", appauthor=False)


def temporary_dir() -> Path:
    """Return the folder that stands in where the cache can't be written."""
    user = getattr(os, "getuid", lambda: "user")()
    try:
        shared = tempfile.gettempdir()
    except OSError:  # none can be written; one can still be read
        shared = "/tmp"
    return Path(shared) / f"snnkernels-{user}"


def writable_dir() -> Path:
    """Return a folder to build in: the cache, else a temporary one, with one warning.

    Raises:
        BuildError: neither can be written, or others can write the cache.
    """
    wanted = user_dir()
    problem = _why_not_writable(wanted)
    _refuse_others(wanted)
    if problem is None:
        return wanted
    spare = temporary_dir()
    spare_problem = _why_not_writable(spare) or why_not_ours(spare)
    if spare_problem is None:
        warn_once(
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


def warn_once(text: str) -> None:
    """Warn of the cache, once in a process."""
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


_ANOTHERS, _WRITABLE = "it belongs to another user", "others can write it"
_REMEDIES = {
    _ANOTHERS: "run as the user whose cache it is, or ",
    _WRITABLE: "chmod go-w what others can write, if all that is there is yours, or ",
}


def why_not_ours(path: Path) -> str | None:
    """What is loaded must be this user's, or root's, alone to write; None too if it isn't there.

    Others may write a folder above it if that is sticky, as /tmp is: they can't replace it there.
    """
    if not hasattr(os, "getuid"):
        return None
    try:
        status = path.lstat()
        parents = {*path.resolve().parents, *path.absolute().parents}  # of a link, and its target
        above = [(folder, folder.stat()) for folder in sorted(parents)]
        own = path.stat()
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        return None
    if not {status.st_uid, own.st_uid} <= {os.getuid(), 0}:
        return _ANOTHERS
    if own.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return _WRITABLE
    for folder, found in above:
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return f"others can replace it, since all can write {folder}, which is not sticky"
    return None


def _refuse_others(path: Path) -> None:
    """Refuse what others can write.

    Raises:
        BuildError: naming it, and how to change that.
    """
    problem = why_not_ours(path)
    if problem is not None:
        remedy = _REMEDIES.get(problem, "chmod o-w the folder that all can write, or ")
        raise build_error(
            "the kernels in the cache can't be trusted",
            found=f"{path}: {problem}",
            expected="a folder that this user alone can write",
            remedy=f"{remedy}export {ENVIRONMENT_VARIABLE}=/another/folder",
        )


def entry_name(device_type: Kind, key: str) -> str:
    """Return the name of an entry's folder."""
    return f"{device_type}-{key[:20]}"


def find(device_type: Kind, key: str) -> Entry | None:
    """Return the entry for a key if it is whole, from the cache or the temporary stand-in.

    Raises:
        BuildError: others can write the cache, or the entry.
    """
    for place in _places():
        entry = _entry_at(place / entry_name(device_type, key))
        if entry is not None and entry.manifest.key == key and _is_sound(entry):
            return entry
    return None


def newest(fits: Callable[[Manifest], bool]) -> Entry | None:
    """Return the newest whole entry of the cache whose manifest fits.

    Raises:
        BuildError: others can write the cache, or that entry.
    """
    _refuse_others(user_dir())
    return next((e for e in entries() if fits(e.manifest) and _is_sound(e)), None)


def entries() -> list[Entry]:
    """Return every entry of the cache that has the right size, newest first; to be looked at."""
    with contextlib.suppress(OSError):
        folders = [path for path in user_dir().iterdir() if path.name.startswith(KINDS)]
        found = [entry for entry in map(_entry_at, folders) if entry is not None]
        return sorted(found, key=lambda entry: -entry.manifest.created)
    return []


def _places() -> list[Path]:
    """The folders that may hold entries: the cache, and the stand-in if there is one."""
    _refuse_others(user_dir())
    spare = temporary_dir()
    return [user_dir(), *([spare] if why_not_ours(spare) is None else [])]


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


def _is_sound(entry: Entry) -> bool:
    for path in (entry.folder, entry.folder / MANIFEST, entry.library):
        _refuse_others(path)
    return not why_damaged(entry.library, entry.manifest)


def obtain(
    device_type: Kind,
    key: str,
    what: str,
    make: Callable[[Path, Path], Manifest],
    *,
    force: bool = False,
) -> tuple[Entry, bool]:
    """Return the entry for a key, made now if it is not there.

    One process makes it; others that want the same entry wait for it.

    Args:
        device_type: what it holds.
        key: the hash that names it.
        what: what it holds, for people.
        make: as ``store`` takes it.
        force: make it even if it is there, unless another process has just done so.

    Returns:
        The entry, and whether it was made by this call.

    Raises:
        BuildError: `make` raised it, or the entry can't be kept.
    """
    before = find(device_type, key)
    if before is not None and not force:
        return before, False
    root, name = writable_dir(), entry_name(device_type, key)
    with locked(root, name, what):
        entry = find(device_type, key)
        if entry is not None and entry != before:
            return entry, False
        remove_leftovers(root, name)
        return store(root, name, what, make), True


def store(root: Path, name: str, what: str, make: Callable[[Path, Path], Manifest]) -> Entry:
    """Make an entry in a folder beside its place, and put it there when it is whole.

    Args:
        root: the folder of all entries.
        name: the entry's.
        what: what it holds, for people.
        make: called with a fresh folder and the root: writes the library into the one, and returns
            its manifest, but for what is known of the library alone.

    Raises:
        BuildError: `make` raised it, or the entry can't be kept.
    """
    with writing(what, root), workspace(root, name) as folder:
        start = time.perf_counter()
        manifest = make(folder, root)
        seconds = time.perf_counter() - start
        manifest = manifest.of(folder / library_name(manifest.device_type), seconds)
        manifest.write(folder / MANIFEST)
        _settle(folder, root)
        return Entry(publish(folder, root, name), manifest)


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Name what could not be written, and where.

    Raises:
        BuildError: for any OSError meanwhile.
    """
    try:
        yield
    except OSError as error:
        raise build_error(
            f"{what} can't be written",
            found=f"{error} (in {folder})",
            expected="a folder with room, which nobody removes during a build",
            remedy=f"free space there, or name another folder ({ENVIRONMENT_VARIABLE} is that of "
            "the cache)",
        ) from error


def _settle(folder: Path, root: Path) -> None:
    """Let those who read the root read a finished folder, let nobody else write it, and sync it."""
    readers = stat.S_IMODE(root.stat().st_mode)
    folder.chmod(stat.S_IRWXU | readers & 0o755)
    for path in folder.iterdir():
        path.chmod((stat.S_IMODE(path.stat().st_mode) | readers & 0o444) & 0o755)
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can.

    Raises:
        OSError: it can't be brought there.
    """
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(name: str) -> str:
    """The beginning of the names of an entry's workspaces."""
    return f".tmp-{name}-"


def remove_leftovers(root: Path, name: str) -> None:
    """Remove what a build of an entry left that was killed; none may be under way."""
    for folder in root.glob(f"{_temporary(name)}*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def workspace(root: Path, name: str) -> Iterator[Path]:
    """Give a fresh folder beside the entry `name`, and remove it however the work ends."""
    folder = Path(tempfile.mkdtemp(prefix=_temporary(name), dir=root))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, root: Path, name: str) -> Path:
    """Move a finished folder to its place in one step; what stood there before is removed."""
    target = root / name
    if target.exists():
        with workspace(root, f"{name}-old") as graveyard:
            target.rename(graveyard / name)
            folder.rename(target)
    else:
        folder.rename(target)
    sync(root)
    return target


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
            expected="a file system with file locks, and room",
            remedy=f"export {ENVIRONMENT_VARIABLE}=/a/folder/on/a/local/disk",
        ) from error
    try:
        with contextlib.suppress(OSError):  # what others are told; a build that fails says more
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
