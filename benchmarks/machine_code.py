"""``machine-code``: what NVRTC makes of the CUDA kernels, and the times that follow from it.

Needs NVRTC and cuobjdump, and no GPU. Instructions are those of the loop over whole chunks, for one
element of one step; bytes are those that have to be read and written. A kernel takes as long as its
bytes or its instructions do, whichever is longer.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from benchmarks import arguments, environment
from benchmarks.results import Results
from benchmarks.tables import digits, show
from snnkernels import _call, neuron, surrogate
from snnkernels._backends import headers
from snnkernels._backends.nvrtc import host, programs, structs, toolkit
from snnkernels._backends.nvrtc.programs import Direction
from snnkernels._build.errors import build_error

CAPABILITY = (9, 0)
SHAPE = (32, 64, 65536)


@dataclass(frozen=True)
class Gpu:
    """What times are predicted for.

    Attributes:
        name: of a device of compute capability 9.0.
        copy: bytes that a copy reads and writes in a second.
        issued: instructions of single threads that it can issue in a second.
    """

    name: str
    copy: float
    issued: float


_LANES, _SCHEDULERS, _MULTIPROCESSORS, _HERTZ = 32, 4, 132, 1.98e9
_ISSUED = _LANES * _SCHEDULERS * _MULTIPROCESSORS * _HERTZ
GPUS = (Gpu("H100 SXM", 3.0e12, _ISSUED), Gpu("H200", 4.3e12, _ISSUED))
"""A copy on the H200 was measured; the H100's has the same part of what its memory should do."""
ISSUE_SHARE = 0.5
"""The part of that rate which kernels bound by instructions reached on an H200, in bfloat16
(sweep-h200.json)."""

NODES: dict[str, neuron.BaseNode] = {
    "LIF, ATan": neuron.LIFNode(surrogate_function=surrogate.ATan()),
    "LIF, Sigmoid": neuron.LIFNode(surrogate_function=surrogate.Sigmoid()),
    "LIF with tau 3, ATan": neuron.LIFNode(tau=3.0, surrogate_function=surrogate.ATan()),
    "ParametricLIF, ATan": neuron.ParametricLIFNode(surrogate_function=surrogate.ATan()),
    "IF, ATan": neuron.IFNode(surrogate_function=surrogate.ATan()),
    "CubaLIF, ATan": neuron.CubaLIFNode(surrogate_function=surrogate.ATan()),
    "ALIF, ATan": neuron.ALIFNode(surrogate_function=surrogate.ATan()),
}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")

_CODE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?) *;", re.MULTILINE)
_JUMP = re.compile(r"\bBRA(?:\.\w+)* (0x[0-9a-f]+)")
_USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)")


@dataclass(frozen=True)
class MachineCode:
    """A kernel as the GPU gets it.

    Attributes:
        loop: how many instructions its longest loop has.
        registers: to a thread.
        local: bytes of a thread's own memory: spilled registers among them.
    """

    loop: int
    registers: int
    local: int


def nvrtc() -> toolkit.Nvrtc:
    """The one that is installed; torch may have no CUDA here.

    Raises:
        snnkernels.BuildError: there is none.
    """
    try:
        bindings = version("cuda-bindings")
    except PackageNotFoundError:
        bindings = "13"
    return toolkit.find_nvrtc(int(bindings.split(".")[0]))


def disassembler() -> str | None:
    """cuobjdump: the CUDA toolkit's, or the one that Triton brings."""
    found = shutil.which("cuobjdump")
    triton = find_spec("triton")
    if found or triton is None or triton.origin is None:
        return found
    program = Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    return str(program) if program.exists() else None


def listing(cubin: bytes) -> str:
    """The instructions of a kernel, and what it uses.

    Raises:
        snnkernels.BuildError: there is no cuobjdump.
    """
    program = disassembler()
    if program is None:
        raise build_error(
            "there is no cuobjdump to read machine code with",
            found="none on PATH, and no triton",
            expected="NVIDIA's cuobjdump",
            remedy="pip install triton, or put the CUDA toolkit's bin folder on PATH",
        )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [program, "-sass", "-res-usage", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def longest_loop(text: str) -> list[str]:
    """The instructions of the longest loop of a listing."""
    code = {int(at, 16): instruction for at, instruction in _CODE.findall(text)}
    instructions, places = list(code.values()), {at: place for place, at in enumerate(code)}
    loops = [
        instructions[places[int(jump[1], 16)] : places[at] + 1]
        for at, instruction in code.items()
        if (jump := _JUMP.search(instruction)) and int(jump[1], 16) < at
    ]
    return max(loops, key=len, default=[])


def machine_code(cubin: bytes) -> MachineCode:
    """Count a kernel's instructions.

    Raises:
        snnkernels.BuildError: there is no cuobjdump.
    """
    text = listing(cubin)
    usage = _USAGE.search(text)
    assert usage is not None, text
    registers, stack, local = map(int, usage.groups())
    return MachineCode(len(longest_loop(text)), registers, stack + local)


def moved_bytes(direction: Direction, dtype: torch.dtype, states: int) -> float:
    """Bytes of an element and step, in training: sequences, and a share of the checkpoint."""
    sequences = 2 if direction == "forward" else 3
    checkpoint = torch.float32.itemsize * states / headers.CHUNK["cuda"]
    return sequences * dtype.itemsize + checkpoint


def count(node: neuron.BaseNode, direction: Direction, dtype: torch.dtype) -> dict[str, Any]:
    """Compile the plain kernel of a node's full width, and count."""
    values = {name: getattr(node, name) for name in node.equations.params}
    x = torch.empty(1, 1, 1)
    call = _call.call_of(node.equations, x, (), values, node.surrogate_function, "native")
    source = _call.specialized_source(call)
    width = structs.full_width(direction, dtype.itemsize, source.tables != 0)
    element = host.ELEMENT_NUMBERS[dtype]
    program = programs.scan_program(source, direction, element, width, True)
    start = time.perf_counter()
    compiled = programs.compile_program(program, nvrtc(), CAPABILITY)
    seconds = time.perf_counter() - start
    code = machine_code(compiled.cubin)
    return {
        "width": width,
        "instructions": code.loop / (width * headers.CHUNK["cuda"]),
        **asdict(code),
        "bytes": moved_bytes(direction, dtype, source.states),
        "compile_seconds": seconds,
    }


def predicted(row: dict[str, Any], gpu: Gpu) -> tuple[float, str]:
    """Seconds for ``SHAPE``, and what they are spent on."""
    elements = prod(SHAPE)
    memory = row["bytes"] * elements / gpu.copy
    arithmetic = row["instructions"] * elements / (ISSUE_SHARE * gpu.issued)
    return max((memory, "memory"), (arithmetic, "instructions"))


def rows() -> Iterator[dict[str, Any]]:
    """Every kernel that is counted."""
    for direction in DIRECTIONS:
        for name, node in NODES.items():
            if direction == "forward" and name == "LIF, Sigmoid":
                continue  # a forward kernel gives spikes, whatever the surrogate
            for dtype in DTYPES:
                row: dict[str, Any] = {"kernel": name, "direction": direction}
                row["dtype"] = str(dtype).removeprefix("torch.")
                row |= count(node, direction, dtype)
                row["predicted"] = {gpu.name: predicted(row, gpu)[0] for gpu in GPUS}
                row["bound"] = predicted(row, GPUS[-1])[1]
                yield row


def table(found: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows as people read them."""
    return pd.DataFrame(
        [
            {
                "kernel": f"{row['kernel']}, {row['direction']}",
                "dtype": row["dtype"],
                "lanes to a thread": str(row["width"]),
                "instructions": f"{row['instructions']:.1f}",
                "bytes": f"{row['bytes']:.3g}",
                "registers": f"{row['registers']}"
                + (f" ({row['local']} bytes in memory)" if row["local"] else ""),
                **{f"{name}, µs": digits(1e6 * s) for name, s in row["predicted"].items()},
                "bound by": row["bound"],
            }
            for row in found
        ]
    )


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.add_argument("--json", type=arguments.file, metavar="FILE", help="all of it, as JSON")


def run(options: argparse.Namespace, console: Console) -> int:
    """The command."""
    results = Results("machine-code", environment.describe("cpu"))
    results.environment["nvrtc"] = str(nvrtc())
    results.rows += rows()
    show(console, heading(results), table(results.rows))
    if options.json:
        results.write(options.json)
        console.print(f"written: {options.json}", markup=False)
    return 0


def heading(results: Results) -> str:
    """What the table has."""
    arch, shape = ".".join(map(str, CAPABILITY)), list(SHAPE)
    return (
        f"{results.environment['nvrtc']} for {arch}, an element and step; "
        f"predicted for {shape} in training"
    )
