"""Build libraries ahead of time, for a wheel: portable code, whatever CPU or GPU is here."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .archs import Arch, format_archs
from .cache import writing
from .description import DeviceType, cpu_library, csrc_dir, cuda_library
from .errors import BuildError
from .loader import make_manifest
from .plan import Plan, archs_from_environment, check_known, make_plan
from .progress import BuildProgress, verbose
from .runner import Toolchain, build_library, check_arithmetic, check_library
from .toolchain import find_cxx, find_nvcc, torch_info

__all__ = ["BuildError", "build_ahead", "default_archs"]

_COMMON_ARCHS = ("75", "80", "86", "89", "90", "100", "120")
"""One for each generation of GPUs in wide use."""


def build_ahead(device_types: Sequence[DeviceType], folder: Path) -> list[Path]:
    """Build the libraries for `device_types` into `folder`, each with its manifest and log.

    The CPU library holds one variant per instruction set and chooses at run time. The CUDA library
    is for ``SNNKERNELS_CUDA_ARCH`` or ``TORCH_CUDA_ARCH_LIST``, else for the common architectures
    that nvcc knows, the newest as PTX too.

    Raises:
        BuildError: a tool is missing, a build failed, or its result can't be written.
    """
    paths = []
    for plan in map(plan_ahead, device_types):
        with writing(plan.what, folder):
            paths.append(_build(plan, folder))
    return paths


def plan_ahead(device_type: DeviceType) -> Plan:
    """Work out a portable build for a device; build nothing."""
    torch = torch_info()
    csrc = csrc_dir()
    if device_type == "cpu":
        cxx = find_cxx()
        machine = platform.machine()
        library = cpu_library(csrc, native_flags=None, machine=machine)
        return make_plan(library, Toolchain(torch, cxx), f"every {machine} CPU")
    nvcc = find_nvcc(torch.cuda)
    archs = archs_from_environment() or default_archs(nvcc.archs)
    check_known(archs, nvcc)
    library = cuda_library(csrc, archs=archs)
    return make_plan(library, Toolchain(torch, find_cxx(), nvcc), format_archs(archs))


def default_archs(known: Sequence[str]) -> tuple[Arch, ...]:
    """Return the common architectures among those that nvcc knows, the newest with PTX."""
    numbers = [number for number in _COMMON_ARCHS if number in known] or list(known[-1:])
    newest = numbers[-1]
    return tuple(Arch(int(n[:-1]), int(n[-1]), ptx=n == newest) for n in numbers)


def _build(plan: Plan, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    library = plan.library
    target, log = folder / library.file_name, folder / f"{library.name}.log"
    why = f"ahead of time ({plan.tools}, for {plan.target})"
    with (
        tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder) as work,
        BuildProgress(plan.what, why, plan.steps) as progress,
    ):
        check_arithmetic(library, plan.tools, Path(work))
        path = build_library(
            library,
            plan.tools,
            Path(work),
            log=log,
            on_step=progress.step,
            on_output=progress.output if verbose() else None,
        )
        check_library(path, library, plan.tools, log)
        make_manifest(plan, path, progress.seconds).write(target.with_suffix(".json"))
        path.replace(target)
    log.unlink()
    return target
