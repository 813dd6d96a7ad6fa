"""Find, build and load the libraries of compiled kernels."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from . import cache
from .archs import ENVIRONMENT_VARIABLES, Arch, format_archs, parse_archs
from .compile import Toolchain, build_library
from .description import (
    DEVICE_TYPES,
    PREBUILT_DIR,
    DeviceType,
    Library,
    cpu_library,
    csrc_dir,
    cuda_library,
    library_file_name,
    sources_digest,
)
from .errors import BuildError, build_error
from .progress import BuildProgress, verbose
from .toolchain import Nvcc, cpu_identity, find_cxx, find_nvcc, torch_info

Origin = Literal["prebuilt", "cache", "jit"]


@dataclass(frozen=True)
class LoadedLibrary:
    """A library of kernels in this process.

    Attributes:
        path: the shared object.
        origin: "prebuilt" (beside the package), "cache" (built before), "jit" (built just now).
        seconds: how long finding, building and loading it took.
    """

    path: Path
    origin: Origin
    seconds: float


@dataclass(frozen=True)
class Plan:
    """All that decides what a build gives: the library, its tools, the key of its cache entry."""

    library: Library
    tools: Toolchain
    sources: str
    target: str
    key: str
    family: str
    capabilities: tuple[tuple[int, int], ...] = ()
    """The GPUs here, if they chose the architectures: any build that runs on them will do."""

    @property
    def what(self) -> str:
        return f"the {self.library.device_type.upper()} kernels"

    @property
    def steps(self) -> int:
        return len(self.library.units) + 1

    @property
    def name(self) -> str:
        return cache.entry_name(self.library.device_type, self.key)


_lock = threading.RLock()
_outcomes: dict[str, LoadedLibrary | BuildError] = {}


def load(device_type: DeviceType) -> LoadedLibrary:
    """Load the kernels for a device: prebuilt, else from the cache, else built now.

    Ends at once when called again, with the same result or the same error. Loading "cuda" loads
    "cpu" first, which holds the operators' schemas.

    Args:
        device_type: "cpu" or "cuda".

    Raises:
        ValueError: `device_type` is another word.
        BuildError: the kernels can be neither found nor built nor loaded.
    """
    _check_device_type(device_type)
    with _lock:
        if device_type not in _outcomes:
            try:
                _outcomes[device_type] = _load(device_type)
            except BuildError as error:
                _outcomes[device_type] = error
        outcome = _outcomes[device_type]
    if isinstance(outcome, BuildError):
        raise outcome.with_traceback(None)
    return outcome


def _check_device_type(device_type: str) -> None:
    if device_type not in DEVICE_TYPES:
        raise ValueError(f'device_type: expected "cpu" or "cuda", got {device_type!r}')


def _load(device_type: DeviceType) -> LoadedLibrary:
    start = time.perf_counter()
    torch_info()
    if device_type == "cuda":
        load("cpu")
    path, problem = prebuilt(device_type)
    if path is not None:
        _load_library(path, device_type)
        return LoadedLibrary(path, "prebuilt", time.perf_counter() - start)
    try:
        plan = plan_build(device_type)
    except BuildError:
        spare = find_without_tools(device_type)
        if spare is None:
            raise
        _load_library(spare.library, device_type)
        return LoadedLibrary(spare.library, "cache", time.perf_counter() - start)
    entry, built = ensure(plan, why=problem)
    try:
        _load_library(entry.library, device_type)
    except BuildError:
        if built:
            raise
        entry, built = ensure(plan, why="the cached library does not load", force=True)
        _load_library(entry.library, device_type)
    return LoadedLibrary(entry.library, "jit" if built else "cache", time.perf_counter() - start)


def check_loads(entry: cache.Entry) -> None:
    """Load an entry's library into this process, unless it is there.

    Raises:
        BuildError: it does not load.
    """
    with _lock:
        if entry.manifest.device_type not in _outcomes:
            _load_library(entry.library, entry.manifest.device_type)


def _load_library(path: Path, device_type: DeviceType) -> None:
    import torch

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise build_error(
            f"the {device_type.upper()} kernels were built but do not load",
            found=f"{path}: {error}",
            expected=f"a library that fits torch {torch.__version__}",
            remedy=f"python -m snnkernels build --device {device_type} --force",
        ) from error


def prebuilt(device_type: DeviceType) -> tuple[Path | None, str]:
    """Return the library built ahead of time beside the package, or None and why it isn't used."""
    path = PREBUILT_DIR / library_file_name(device_type)
    if not path.is_file():
        return None, "first use; they are kept in the cache"
    manifest = cache.read_manifest(path.with_suffix(".json"))
    if manifest is None:
        return None, f"{path} has no manifest"
    if manifest.sources != sources_digest(csrc_dir(), device_type):
        return None, f"{path} was built from other sources"
    if device_type == "cuda":
        problem = _why_not_for_this_gpu(manifest)
        if problem:
            return None, f"{path} {problem}"
    return path, ""


def _why_not_for_this_gpu(manifest: cache.Manifest) -> str:
    import torch

    if torch.version.cuda is None:
        return "needs a torch with CUDA"
    if manifest.cuda.split(".")[0] != torch.version.cuda.split(".")[0]:
        return f"was built for CUDA {manifest.cuda}, torch for {torch.version.cuda}"
    capabilities = _capabilities()
    if not _serves(manifest, capabilities):
        present = ", ".join(f"{major}.{minor}" for major, minor in capabilities)
        return f"is for {manifest.target}, the GPUs here are {present}"
    return ""


def _capabilities() -> tuple[tuple[int, int], ...]:
    """The compute capabilities of the GPUs that this process sees, ascending."""
    import torch

    if not torch.cuda.is_available():
        return ()
    devices = range(torch.cuda.device_count())
    return tuple(sorted({torch.cuda.get_device_capability(index) for index in devices}))


class Outlook(NamedTuple):
    """The backend that a device would get, and why."""

    name: str
    reason: str


def outlook(device_type: DeviceType) -> Outlook:
    """Say what `load` would find for a device, and build and load nothing."""
    _check_device_type(device_type)
    outcome = _outcomes.get(device_type)
    if isinstance(outcome, LoadedLibrary):
        return Outlook("native", f"loaded from {outcome.path} ({outcome.origin})")
    if isinstance(outcome, BuildError):
        return Outlook("torch", str(outcome))
    try:
        path, _ = prebuilt(device_type)
        if path is not None:
            return Outlook("native", f"prebuilt: {path}")
        plan = plan_build(device_type)
    except BuildError as error:
        spare = find_without_tools(device_type)
        if spare is None:
            return Outlook("torch", str(error))
        return Outlook("native", f"in the cache, its compiler is gone: {spare.library}")
    entry = find_entry(plan)
    if entry is not None:
        return Outlook("native", f"in the cache: {entry.library}")
    return Outlook("native", f"builds at first use with {plan.tools}, for {plan.target}")


def plan_build(device_type: DeviceType, *, archs: Sequence[Arch] | None = None) -> Plan:
    """Work out what a build on this machine, for this machine, would be; build nothing.

    Args:
        device_type: "cpu" or "cuda".
        archs: the GPU architectures; None takes them from the environment, else from the GPUs here.

    Raises:
        BuildError: something that a build needs is missing.
    """
    _check_device_type(device_type)
    torch = torch_info()
    csrc = _csrc()
    werror = os.environ.get("SNNKERNELS_WERROR", "") not in ("", "0")
    if device_type == "cpu":
        cxx = find_cxx()
        machine = platform.machine()
        library = cpu_library(csrc, native_flags=cxx.native_flags, machine=machine, werror=werror)
        target = " ".join((machine, *cxx.instruction_sets))
        return make_plan(library, Toolchain(torch, cxx), target)
    nvcc = find_nvcc(torch.cuda)
    cxx = find_cxx()
    named = tuple(archs) if archs is not None else archs_from_environment()
    capabilities = () if named else _capabilities_to_build_for()
    chosen = named or archs_for_capabilities(capabilities, nvcc.archs)
    check_known(chosen, nvcc)
    library = cuda_library(csrc, archs=chosen, werror=werror)
    tools = Toolchain(torch, cxx, nvcc)
    return make_plan(library, tools, format_archs(chosen), capabilities)


def _csrc() -> Path:
    try:
        return csrc_dir()
    except FileNotFoundError as error:
        raise build_error(
            "the kernels' sources are missing",
            found=str(error),
            expected="a csrc folder with ops.cpp",
            remedy="pip install --force-reinstall snnkernels",
        ) from error


def make_plan(
    library: Library,
    tools: Toolchain,
    target: str,
    capabilities: tuple[tuple[int, int], ...] = (),
) -> Plan:
    """Hash all that decides what a build gives into a key; the family leaves out the GPUs."""
    sources = sources_digest(library.csrc, library.device_type)
    nvcc = tools.nvcc
    parts = [
        library.name,
        sources,
        *(re.sub(r"-gencode=\S+ ?", "", flags) for flags in library.flags),
        tools.torch.version,
        str(tools.torch.cuda),
        tools.cxx.version,
        tools.cxx.target,
        f"{nvcc.version} {nvcc.root}" if nvcc else "",
    ]
    family = _hash(parts)
    key = _hash([family, target, *library.flags])
    return Plan(library, tools, sources, target, key, family, capabilities)


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def find_entry(plan: Plan) -> cache.Entry | None:
    """Return the cache's entry for a plan, or another of its family that runs on the GPUs here."""
    device_type = plan.library.device_type
    entry = cache.find(device_type, plan.key)
    if entry is not None or not plan.capabilities:
        return entry
    for other in cache.entries():
        if other.manifest.family == plan.family and _serves(other.manifest, plan.capabilities):
            return other
    return None


def find_without_tools(device_type: DeviceType) -> cache.Entry | None:
    """Return an entry that fits this torch and machine, whatever compiled it.

    For a machine whose compiler is gone, or that shares the cache of one that has it.
    """
    try:
        torch = torch_info()
        sources = sources_digest(csrc_dir(), device_type)
    except (BuildError, FileNotFoundError):
        return None
    cpu = cpu_identity()
    capabilities = _capabilities() if device_type == "cuda" else ()
    for entry in cache.entries():
        made = entry.manifest
        if (made.device_type, made.sources, made.torch) != (device_type, sources, torch.version):
            continue
        if device_type == "cpu" and cpu and made.cpu == cpu:
            return entry
        if capabilities and _serves(made, capabilities):
            return entry
    return None


def _serves(manifest: cache.Manifest, capabilities: Sequence[tuple[int, int]]) -> bool:
    """Whether a CUDA library has code for every one of the given GPUs."""
    archs = parse_archs(manifest.target)
    return all(any(arch.runs_on(own) for arch in archs) for own in capabilities)


def check_known(archs: Sequence[Arch], nvcc: Nvcc) -> None:
    """Refuse an architecture that this nvcc can't compile for.

    Raises:
        BuildError: naming it and those that nvcc knows.
    """
    unknown = [arch for arch in archs if arch.plain_number not in nvcc.archs]
    if unknown and nvcc.archs:
        known = ", ".join(f"{number[:-1]}.{number[-1]}" for number in nvcc.archs)
        raise build_error(
            f"nvcc {nvcc.version} can't compile for GPU architecture {unknown[0]}",
            found=format_archs(archs),
            expected=f"one of {known}",
            remedy="name another architecture, or install another CUDA toolkit",
        )


def _capabilities_to_build_for() -> tuple[tuple[int, int], ...]:
    capabilities = _capabilities()
    if not capabilities:
        raise build_error(
            "no GPU architecture to build the CUDA kernels for",
            found="no GPU, and no list of architectures",
            expected="a GPU, or its architecture by name",
            remedy="export SNNKERNELS_CUDA_ARCH=9.0 (the compute capability of your GPU)",
        )
    return capabilities


def archs_for_capabilities(
    capabilities: Sequence[tuple[int, int]], known: Sequence[str]
) -> tuple[Arch, ...]:
    """Return the architectures for the given GPUs.

    Args:
        capabilities: the GPUs' compute capabilities, ascending, at least one.
        known: what nvcc can compile for ("75", ...); a newer GPU gets the newest of them as PTX.
    """
    newest = max((_capability(number) for number in known), default=capabilities[-1])
    clamped = {(min(own, newest), own > newest) for own in capabilities}
    return tuple(sorted(Arch(*capability, ptx=ptx) for capability, ptx in clamped))


def archs_from_environment() -> tuple[Arch, ...]:
    """Return the architectures that the environment names; none if it names none.

    Raises:
        BuildError: the list can't be read.
    """
    for variable in ENVIRONMENT_VARIABLES:
        text = os.environ.get(variable, "").strip()
        if text and text.lower() != "native":
            try:
                return parse_archs(text, name=variable)
            except ValueError as error:
                raise build_error(
                    "the list of GPU architectures can't be read",
                    found=f"{variable}={text}",
                    expected='architectures such as "9.0" or "8.0;9.0+PTX"',
                    remedy=f"export {variable}=9.0",
                ) from error
    return ()


def _capability(number: str) -> tuple[int, int]:
    return int(number[:-1]), int(number[-1])


def ensure(plan: Plan, *, why: str = "", force: bool = False) -> tuple[cache.Entry, bool]:
    """Return the cache's entry for a plan, building it if it is not there.

    One process builds; others that want the same entry wait for it.

    Args:
        plan: what to build.
        why: why it is built, for the progress line.
        force: build even if the entry is there.

    Returns:
        The entry, and whether it was built by this call.

    Raises:
        BuildError: the build failed, or there is nowhere to build.
    """
    entry = None if force else find_entry(plan)
    if entry is not None:
        return entry, False
    asked = time.time()
    root = cache.writable_dir()
    with cache.locked(root, plan.name, plan.what):
        entry = cache.find(plan.library.device_type, plan.key)
        if entry is not None and (not force or entry.manifest.created > asked):
            return entry, False
        return _build_entry(plan, root, why), True


def _build_entry(plan: Plan, root: Path, why: str) -> cache.Entry:
    logs = root / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{plan.name}.log"
    reason = f"{why or 'asked for'} ({plan.tools}, for {plan.target})"
    with (
        cache.workspace(root, plan.name) as folder,
        BuildProgress(plan.what, reason, plan.steps) as progress,
    ):
        path = build_library(
            plan.library,
            plan.tools,
            folder,
            log=log,
            on_step=progress.step,
            on_output=progress.output if verbose() else None,
        )
        for unit in plan.library.units:
            (folder / unit.object_name).unlink()
        manifest = make_manifest(plan, path, progress.seconds)
        manifest.write(folder / cache.MANIFEST)
        log.replace(folder / cache.LOG)
        return cache.Entry(cache.publish(folder, root, plan.name), manifest)


def make_manifest(plan: Plan, path: Path, seconds: float) -> cache.Manifest:
    """Write down what a library was built from."""
    tools = plan.tools
    return cache.Manifest(
        device_type=plan.library.device_type,
        key=plan.key,
        family=plan.family,
        created=time.time(),
        seconds=round(seconds, 2),
        size=path.stat().st_size,
        sources=plan.sources,
        torch=tools.torch.version,
        compilers=str(tools),
        target=plan.target,
        flags=plan.library.flags,
        cuda=tools.nvcc.version if tools.nvcc else "",
        cpu=cpu_identity(),
    )
