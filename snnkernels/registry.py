"""What the C++ headers declare, read from them: one source for names and launch constants."""

from __future__ import annotations

import re

from .build import description


def _header(name: str) -> str:
    lines = (description.csrc_dir() / "include" / "snnkernels" / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("//"))


def _chunks() -> dict[str, int]:
    found = re.findall(r"#define SNN_(CPU|CUDA)_CHUNK (\d+)", _header("launch.h"))
    return {device.lower(): int(value) for device, value in found}


CHUNK: dict[str, int] = _chunks()
"""Steps between two checkpoints of the state, by device type."""


def neurons() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The neurons that the kernels hold: name to (states, parameters)."""
    found = re.findall(r"X\((\w+), \(([\w, ]*)\), \(([\w, ]*)\)\)", _header("registry.h"))
    return {name: (_names(states), _names(params)) for name, states, params in found}


def surrogates() -> dict[str, tuple[str, ...]]:
    """The surrogates that the kernels hold: name to parameters."""
    found = re.findall(r"X\((\w+), \(([\w, ]*)\)\)", _header("registry.h"))
    return {name: _names(params) for name, params in found}


def _names(listed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in listed.split(",") if name.strip())
