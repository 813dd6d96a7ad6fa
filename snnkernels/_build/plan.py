"""Work out a build: which library, with which tools, for which machine, under which key."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import toolchain
from .archs import ENVIRONMENT_VARIABLES, Arch, format_archs, parse_archs
from .cache import Manifest, entry_name
from .errors import build_error
from .specification import (
    DeviceType,
    NeuronSource,
    Specification,
    check_device_type,
    compiled_neuron,
    cpu_library,
    csrc_dir,
    cuda_library,
    sources_digest,
)
from .toolchain import Nvcc, Toolchain, find_cxx, find_ninja, find_nvcc, torch_info


@dataclass(frozen=True)
class Plan:
    """All that decides what a build gives: the specification, its tools, the key of its entry."""

    spec: Specification
    tools: Toolchain
    sources: str
    target: str
    key: str
    family: str
    capabilities: tuple[tuple[int, int], ...] = ()
    """The GPUs here, if they chose the architectures: any build that runs on them will do."""
    runs_here: bool = True
    """Whether this machine can load it."""

    @property
    def what(self) -> str:
        kernels = f"the {self.spec.device_type.upper()} kernels"
        return f"{kernels} of {self.spec.owner}" if self.spec.symbol else kernels

    @property
    def steps(self) -> int:
        """How many steps are shown; a neuron is built too soon for any."""
        return 0 if self.spec.symbol else len(self.spec.sources) + 1

    @property
    def name(self) -> str:
        return entry_name(self.spec.device_type, self.key)

    @property
    def manifest(self) -> Manifest:
        """What the library is built from, with and for."""
        tools = self.tools
        return Manifest(
            device_type=self.spec.device_type,
            key=self.key,
            family=self.family,
            sources=self.sources,
            torch=tools.torch.version,
            compilers=str(tools),
            target=self.target,
            flags=self.spec.flags,
            cuda=tools.nvcc.version if tools.nvcc else "",
            cpu=toolchain.cpu_identity(),
        )


def plan_build(
    device_type: DeviceType,
    *,
    archs: Sequence[Arch] | None = None,
    neuron: NeuronSource | None = None,
) -> Plan:
    """Work out what a build on this machine, for this machine, would be; build nothing.

    Args:
        device_type: "cpu" or "cuda".
        archs: the GPU architectures; None takes them from the environment, else from the GPUs here.
        neuron: the neuron to compile by itself; None for the library of all that csrc holds.

    Raises:
        BuildError: something that a build needs is missing.
    """
    check_device_type(device_type)
    torch = torch_info()
    csrc = _csrc()
    werror = os.environ.get("SNNKERNELS_WERROR", "") not in ("", "0")
    if device_type == "cpu":
        tools = Toolchain(torch, find_cxx(), find_ninja())
        spec = cpu_library(csrc, target=tools.cxx.native_flags, werror=werror)
        target = " ".join((platform.machine(), *tools.cxx.instruction_sets))
        return make_plan(spec, tools, target, neuron=neuron)
    nvcc = find_nvcc(torch.cuda)
    tools = Toolchain(torch, find_cxx(), find_ninja(), nvcc)
    named = tuple(archs) if archs is not None else archs_from_environment()
    capabilities = () if named else _capabilities_to_build_for()
    chosen = named or archs_for_capabilities(capabilities, nvcc.archs)
    check_known(chosen, nvcc)
    spec = cuda_library(csrc, archs=chosen, werror=werror)
    return make_plan(spec, tools, format_archs(chosen), capabilities=capabilities, neuron=neuron)


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
    spec: Specification,
    tools: Toolchain,
    target: str,
    *,
    capabilities: tuple[tuple[int, int], ...] = (),
    neuron: NeuronSource | None = None,
    runs_here: bool = True,
) -> Plan:
    """Hash all that decides what a build gives into a key; the family leaves out the GPUs."""
    sources = all_sources(spec.csrc, spec.device_type, neuron)
    if neuron is not None:
        spec = compiled_neuron(spec, neuron)
    nvcc = tools.nvcc
    parts = [
        spec.name,
        sources,
        *(re.sub(r"-gencode=\S+ ?", "", flags) for flags in spec.flags),
        tools.torch.version,
        str(tools.torch.cuda),
        tools.cxx.version,
        tools.cxx.target,
        *tools.cxx.command[1:],
        f"{nvcc.version} {nvcc.root} {nvcc.flags}" if nvcc else "",
    ]
    family = _hash(parts)
    key = _hash([family, target, *spec.flags])
    return Plan(spec, tools, sources, target, key, family, capabilities, runs_here)


def all_sources(csrc: Path, device_type: DeviceType, neuron: NeuronSource | None) -> str:
    """Hash the sources of a build: csrc, and the neuron to compile by itself."""
    digest = sources_digest(csrc, device_type)
    return digest if neuron is None else _hash([digest, *neuron.files(device_type).values()])


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


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
    capabilities = toolchain.gpu_capabilities()
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
