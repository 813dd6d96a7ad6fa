"""Find, build and load the libraries of compiled kernels."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import cache, engine, toolchain
from .archs import parse_archs
from .errors import BuildError, build_error
from .locks import lock_of_process
from .plan import Plan, all_sources, plan_build
from .progress import say
from .specification import (
    LAUNCH_FLAGS,
    PREBUILT_DIR,
    DeviceType,
    NeuronSource,
    check_device_type,
    csrc_dir,
    library_file_name,
    sources_digest,
)
from .toolchain import cpu_identity, torch_info

Origin = Literal["prebuilt", "cache", "jit"]
_FIRST_USE = "first use; they are kept in the cache"


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


_lock = lock_of_process()
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
    check_device_type(device_type)
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


def _load(device_type: DeviceType) -> LoadedLibrary:
    start = time.perf_counter()
    torch_info()
    if device_type == "cuda":
        load("cpu")
    problems: list[str] = []
    for path in _sound_prebuilt(device_type, problems):
        try:
            _load_library(path, device_type)
        except BuildError as error:
            problems.append(f"{path} does not load ({error.__cause__})")
            continue
        if problems:
            say(f"{'; '.join(problems)}: {path} is loaded in its place")
        return LoadedLibrary(path, "prebuilt", time.perf_counter() - start)
    why = "; ".join(problems) or _FIRST_USE
    with _telling(why):
        path, origin = _found_or_built(device_type, why=why)
    return LoadedLibrary(path, origin, time.perf_counter() - start)


@contextlib.contextmanager
def _telling(problem: str) -> Iterator[None]:
    """Let an error tell also why a library built ahead of time is not used."""
    try:
        yield
    except BuildError as error:
        if problem == _FIRST_USE:
            raise
        raise BuildError(f"{error}\n  prebuilt:   {problem}") from error


def _found_or_built(
    device_type: DeviceType, neuron: NeuronSource | None = None, *, why: str
) -> tuple[Path, Origin]:
    """Load a library from the cache, or build it; one that does not load is built once more."""
    try:
        plan = plan_build(device_type, neuron=neuron)
    except BuildError:
        spare = find_without_tools(device_type, neuron)
        if spare is None:
            raise
        _load_library(spare.library, device_type)
        return spare.library, "cache"
    entry, built = ensure(plan, why=why)
    try:
        _load_library(entry.library, device_type)
    except BuildError:
        if built:
            raise
        entry, built = ensure(plan, why="the cached library does not load", force=True)
        _load_library(entry.library, device_type)
    return entry.library, "jit" if built else "cache"


def compiled_neuron_path(device_type: DeviceType, neuron: NeuronSource) -> Path:
    """Return the library of a compiled neuron, from the cache or built now.

    Raises:
        BuildError: it can be neither found nor built nor loaded.
    """
    return _found_or_built(device_type, neuron, why="first use")[0]


def check_loads(entry: cache.Entry, device_type: DeviceType) -> None:
    """Load an entry's library for a device into this process, unless it is there.

    Raises:
        BuildError: it does not load.
    """
    with _lock:
        if device_type not in _outcomes:
            _load_library(entry.library, device_type)


def _load_library(path: Path, device_type: DeviceType) -> None:
    import torch

    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        raise build_error(
            f"the {device_type.upper()} kernels were built but do not load",
            found=f"{path}: {error}",
            expected=f"one that fits torch {torch.__version__}, on a disk that may hold programs",
            remedy=f"python -m snnkernels build --device {device_type} --force, or "
            f"export {cache.ENVIRONMENT_VARIABLE}=/another/folder",
        ) from error


def prebuilt(device_type: DeviceType) -> tuple[Path | None, str]:
    """Return the library built ahead of time beside the package, and why a better one isn't used.

    None where there is none that is whole and runs here.
    """
    problems: list[str] = []
    path = next(_sound_prebuilt(device_type, problems), None)
    return path, "; ".join(problems) or ("" if path else _FIRST_USE)


def _sound_prebuilt(device_type: DeviceType, problems: list[str]) -> Iterator[Path]:
    """The libraries built ahead that are whole and run here, best first; and why not the others."""
    for name in _prebuilt_names(device_type):
        path = PREBUILT_DIR / name / library_file_name(device_type)
        if path.parent.exists():
            problem = _why_not_prebuilt(path, device_type)
            if problem:
                problems.append(f"{path} {problem}")
            else:
                yield path


def _why_not_prebuilt(path: Path, device_type: DeviceType) -> str:
    manifest = cache.read_manifest(path.with_name(cache.MANIFEST))
    if manifest is None:
        return "has no manifest"
    if manifest.sources != sources_digest(csrc_dir(), device_type):
        return "was built from other sources"
    if LAUNCH_FLAGS:
        return f"has other launch constants than {' '.join(LAUNCH_FLAGS)}"
    damage = cache.why_damaged(path, manifest)
    return damage or (_why_not_for_this_gpu(manifest) if device_type == "cuda" else "")


def _prebuilt_names(device_type: DeviceType) -> Sequence[str]:
    """The folders whose library runs here, the best first."""
    if device_type == "cuda":
        return ("cuda",)
    return [f"cpu-{name}" for name in toolchain.cpu_instruction_sets()]


def _why_not_for_this_gpu(manifest: cache.Manifest) -> str:
    import torch

    if torch.version.cuda is None:
        return "needs a torch with CUDA"
    if manifest.cuda.split(".")[0] != torch.version.cuda.split(".")[0]:
        return f"was built for CUDA {manifest.cuda}, torch for {torch.version.cuda}"
    capabilities = toolchain.gpu_capabilities()
    if not _serves(manifest, capabilities):
        present = ", ".join(f"{major}.{minor}" for major, minor in capabilities)
        return f"is for {manifest.target}, the GPUs here are {present}"
    return ""


def outlook(device_type: DeviceType) -> str:
    """Say what `load` would find for a device, and build and load nothing.

    Raises:
        BuildError: that of `load`, as far as it can be told.
    """
    check_device_type(device_type)
    outcome = _outcomes.get(device_type)
    if isinstance(outcome, LoadedLibrary):
        return f"loaded from {outcome.path} ({outcome.origin})"
    if isinstance(outcome, BuildError):
        raise outcome.with_traceback(None)
    path, problem = prebuilt(device_type)
    if path is not None:
        return f"prebuilt: {path}"
    with _telling(problem):
        return _outlook_without_prebuilt(device_type)


def _outlook_without_prebuilt(device_type: DeviceType) -> str:
    try:
        plan = plan_build(device_type)
    except BuildError:
        spare = find_without_tools(device_type)
        if spare is None:
            raise
        return f"in the cache, its compiler is gone: {spare.library}"
    entry = find_entry(plan)
    if entry is not None:
        return f"in the cache: {entry.library}"
    return f"builds at first use with {plan.tools}, for {plan.target}"


def find_entry(plan: Plan) -> cache.Entry | None:
    """Return the cache's entry for a plan, or another of its family that runs on the GPUs here."""
    device_type = plan.spec.device_type
    entry = cache.find(device_type, plan.key)
    if entry is not None or not plan.capabilities:
        return entry
    return cache.newest(
        lambda made: made.family == plan.family and _serves(made, plan.capabilities)
    )


def find_without_tools(
    device_type: DeviceType, neuron: NeuronSource | None = None
) -> cache.Entry | None:
    """Return an entry that fits this torch and machine, whatever compiled it.

    For a machine whose compiler is gone, or that shares the cache of one that has it.
    """
    try:
        torch = torch_info()
        sources = all_sources(csrc_dir(), device_type, neuron)
    except (BuildError, FileNotFoundError):
        return None
    cpu = cpu_identity()
    capabilities = toolchain.gpu_capabilities() if device_type == "cuda" else ()

    def fits(made: cache.Manifest) -> bool:
        if (made.device_type, made.sources, made.torch) != (device_type, sources, torch.version):
            return False
        if device_type == "cpu":
            return bool(cpu) and made.cpu == cpu
        return bool(capabilities) and _serves(made, capabilities)

    return cache.newest(fits)


def _serves(manifest: cache.Manifest, capabilities: Sequence[tuple[int, int]]) -> bool:
    """Whether a CUDA library has code for every one of the given GPUs."""
    archs = parse_archs(manifest.target)
    return all(any(arch.runs_on(own) for arch in archs) for own in capabilities)


def ensure(plan: Plan, *, why: str = "asked for", force: bool = False) -> tuple[cache.Entry, bool]:
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
    make = functools.partial(engine.make, plan, why=why)
    return cache.obtain(plan.spec.device_type, plan.key, plan.what, make, force=force)
