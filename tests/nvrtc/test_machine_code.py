"""What NVRTC makes of the kernels: how many instructions, and none that rounds otherwise."""

import json
import os
import re

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import machine_code
from benchmarks.machine_code import (
    DTYPES,
    GPUS,
    NODES,
    count,
    disassembler,
    longest_loop,
    predicted,
)
from snnkernels.neuron import CubaLIFNode, IFNode, LIFNode, ParametricLIFNode

FORWARD_AIM, BACKWARD_AIM = 14, 26
AIMS = [
    *(("LIF, ATan", "forward", dtype, FORWARD_AIM) for dtype in DTYPES),
    *(
        (name, "backward", dtype, BACKWARD_AIM)
        for name in ("LIF, ATan", "LIF, Sigmoid")
        for dtype in DTYPES
    ),
]


@pytest.fixture(autouse=True)
def _tools(nvrtc):
    if disassembler() is None:
        missing = pytest.fail if torch.version.cuda and os.environ.get("CI") else pytest.skip
        missing("needs cuobjdump, which triton brings")
    if nvrtc.version < (13, 0):
        pytest.skip(f"the counts are those of NVRTC 13, got {nvrtc}")


@pytest.mark.parametrize(("name", "direction", "dtype", "aim"), AIMS)
def test_a_kernel_is_lean(name, direction, dtype, aim):
    row = count(NODES[name], direction, dtype)
    assert 5 < row["instructions"] <= aim


@pytest.mark.parametrize("direction", machine_code.DIRECTIONS)
@pytest.mark.parametrize("name", NODES)
def test_no_kernel_spills_into_memory(name, direction):
    for dtype in DTYPES:
        row = count(NODES[name], direction, dtype)
        assert row["local"] == 0
        assert 0 < row["registers"] <= 128


@pytest.mark.parametrize("v_reset", [0.0, -0.5, None], ids=["zero", "hard", "soft"])
@pytest.mark.parametrize("cls", [IFNode, LIFNode, ParametricLIFNode, CubaLIFNode])
def test_a_forward_step_fuses_no_sum_into_a_product(cls, v_reset, monkeypatch):
    """But for the reset to zero, whose sum is with zero, behind an exact product."""
    listings = []
    listing = machine_code.listing
    monkeypatch.setattr(
        machine_code, "listing", lambda cubin: listings.append(listing(cubin)) or listings[-1]
    )
    for dtype in DTYPES:
        count(cls(v_reset=v_reset), "forward", dtype)
    for text in listings:
        fused = [i for i in longest_loop(text) if re.search(r"\b[FD]FMA\b", i)]
        assert bool(fused) == (v_reset == 0.0)
        assert all(i.endswith(", RZ") for i in fused)


def test_a_kernel_takes_as_long_as_its_bytes_or_its_instructions():
    h200 = GPUS[-1]
    elements = 32 * 64 * 65536
    assert predicted({"bytes": 8.0, "instructions": 1.0}, h200) == (
        pytest.approx(8 * elements / 4.3e12),
        "memory",
    )
    seconds, bound = predicted({"bytes": 8.0, "instructions": 100.0}, h200)
    assert bound == "instructions" and seconds > 8 * elements / 4.3e12


def test_the_command_writes_every_kernel(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine_code, "NODES", {"LIF, ATan": NODES["LIF, ATan"]})
    file = tmp_path / "machine-code.json"
    assert command.main(["machine-code", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [(row["direction"], row["dtype"]) for row in rows] == [
        (direction, str(dtype).removeprefix("torch."))
        for direction in machine_code.DIRECTIONS
        for dtype in DTYPES
    ]
    assert "LIF, ATan, backward" in capsys.readouterr().out
