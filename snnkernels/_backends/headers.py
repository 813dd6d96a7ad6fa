"""What the C++ headers declare, read from them: one source for names and launch constants."""

from __future__ import annotations

import re

from .._build import specification


def _header(name: str) -> str:
    lines = (specification.csrc_dir() / "include" / "snnkernels" / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("//"))


LAUNCH: dict[str, int] = specification.launch_constants(specification.csrc_dir())
"""The launch constants of every backend, by their names in ``launch.h``."""

CHUNK: dict[str, int] = {
    "cpu": LAUNCH["SNN_CPU_CHUNK"],
    "cuda": LAUNCH["SNN_CUDA_CHUNK"],
}
"""Steps between two checkpoints of the state, by device type."""


def limits() -> dict[str, int]:
    """How much a call of the scan holds at most, by the constants' names: ``kMaxStates`` etc."""
    headers = _header("neurons.h") + _header("surrogates.h")
    return {name: int(n) for name, n in re.findall(r"constexpr int (kMax\w+) = (\d+);", headers)}


def schemas() -> dict[str, str]:
    """The operators' schemas: name to all of ``name(arguments) -> results``."""
    text = (specification.csrc_dir() / "schemas.h").read_text()
    found = re.findall(r'm\.def\(\s*((?:"[^"]*"\s*)+)\)', text)
    joined = ["".join(re.findall(r'"([^"]*)"', pieces)) for pieces in found]
    return {schema.split("(")[0]: schema for schema in joined}


def neurons() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The neurons that the kernels hold: name to (states, parameters)."""
    found = re.findall(r"X\((\w+), \(([\w, ]*)\), \(([\w, ]*)\)\)", _header("registry.h"))
    return {name: (_names(states), _names(params)) for name, states, params in found}


def surrogates() -> dict[str, tuple[str, ...]]:
    """The surrogates that the kernels hold: name to parameters."""
    found = re.findall(r"X\((\w+), \(([\w, ]*)\)\)", _header("registry.h"))
    return {name: _names(params) for name, params in found}


def number(name: str) -> int:
    """What stands for a name in the operators' arguments: its FNV-1a hash, as in ``call.h``."""
    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = (hashed ^ byte) * 0x100000001B3 % 2**64
    return hashed >> 1


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())


NUMBERS: dict[str, int] = {name: number(name) for name in (*neurons(), *surrogates())}
"""The numbers of the neurons and surrogates that the kernels hold."""
