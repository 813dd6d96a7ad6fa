"""Build libraries ahead of time, for a wheel: for every CPU, and for GPUs that need not be here."""

from __future__ import annotations

import functools
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import cache, engine, toolchain
from .archs import Arch, format_archs
from .errors import BuildError
from .plan import Plan, archs_from_environment, check_known, make_plan
from .specification import (
    LAUNCH_FLAGS,
    LAUNCH_VARIABLE,
    DeviceType,
    cpu_library,
    csrc_dir,
    cuda_library,
    instruction_sets,
)
from .toolchain import Toolchain, find_cxx, find_ninja, find_nvcc, torch_info

__all__ = ["BuildError", "build_ahead", "default_archs"]

_COMMON_ARCHS = ("75", "80", "86", "89", "90", "100", "120")
"""One for each generation of GPUs in wide use."""


def build_ahead(device_types: Sequence[DeviceType], root: Path) -> list[Path]:
    """Build the libraries for `device_types` into folders of `root`, each with its manifest.

    The CPU has a library for each instruction set; which to load is chosen at run time. The CUDA
    library is for ``SNNKERNELS_CUDA_ARCH`` or ``TORCH_CUDA_ARCH_LIST``, else for the common
    architectures that nvcc knows, the newest as PTX too.

    Raises:
        BuildError: a tool is missing, a build failed, or its result can't be written.
    """
    plans = {name: plan for device in device_types for name, plan in plans_ahead(device).items()}
    root = root.absolute()
    paths = []
    for name, plan in plans.items():
        make = functools.partial(engine.make, plan, why="ahead of time")
        with cache.writing(plan.what, root):
            root.mkdir(parents=True, exist_ok=True)
        cache.remove_leftovers(root, name)
        entry = cache.store(root, name, plan.what, make)
        entry.log.unlink(missing_ok=True)
        paths.append(entry.library)
    shutil.rmtree(root / "logs", ignore_errors=True)
    return paths


def plans_ahead(device_type: DeviceType) -> dict[str, Plan]:
    """Work out the builds for a device, by the names of their folders; build nothing.

    Raises:
        BuildError: a tool is missing, or the launch constants are not the package's own.
    """
    if LAUNCH_FLAGS:
        raise BuildError(
            f"a wheel has the launch constants of the package: unset {LAUNCH_VARIABLE}, which says "
            f"{' '.join(LAUNCH_FLAGS)}"
        )
    torch = torch_info()
    csrc = csrc_dir()
    if device_type == "cpu":
        tools = Toolchain(torch, find_cxx(), find_ninja())
        machine, here = platform.machine(), toolchain.cpu_instruction_sets()
        return {
            f"cpu-{name}": make_plan(
                cpu_library(csrc, target=flags), tools, f"{machine} {name}", runs_here=name in here
            )
            for name, flags in instruction_sets(machine).items()
        }
    nvcc = find_nvcc(torch.cuda)
    archs = archs_from_environment() or default_archs(nvcc.archs)
    check_known(archs, nvcc)
    tools = Toolchain(torch, find_cxx(), find_ninja(), nvcc)
    return {"cuda": make_plan(cuda_library(csrc, archs=archs), tools, format_archs(archs))}


def default_archs(known: Sequence[str]) -> tuple[Arch, ...]:
    """Return the common architectures among those that nvcc knows, the newest with PTX."""
    numbers = [number for number in _COMMON_ARCHS if number in known] or list(known[-1:])
    newest = numbers[-1]
    return tuple(Arch(int(n[:-1]), int(n[-1]), ptx=n == newest) for n in numbers)
