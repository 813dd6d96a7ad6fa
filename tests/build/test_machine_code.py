"""What the compiler makes of the CPU's kernels."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from snnkernels._build import ahead, runner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="code for AVX2"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump"),
]


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[Path]:
    """The units of one instruction set."""
    folder = tmp_path_factory.mktemp("objects")
    plan = ahead.plan_ahead("cpu")
    units = [unit for unit in plan.library.units if unit.variant == "avx2"]
    for unit in units:
        command = runner.compile_command(unit, plan.library, plan.tools, folder)
        subprocess.run(command.words, check=True)
    return [folder / unit.object_name for unit in units]


def listing(*command: object) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def test_code_for_one_instruction_set_stays_in_its_own_namespace(objects):
    # The linker keeps one of several equal inline functions: were one shared between instruction
    # sets, the baseline could run the AVX-512 copy. DW.ref is no code: a pointer that every unit
    # with a destructor has to the one routine that unwinds the stack.
    assert objects
    for file in objects:
        lines = listing("nm", "--defined-only", file).splitlines()
        weak = [line for line in lines if line.split(" ")[1] in "WVu"]
        shared = [line for line in weak if "4avx2" not in line]
        assert [line for line in shared if "DW.ref.__gxx_personality_v0" not in line] == []


def test_the_walk_back_fetches_the_rows_that_it_will_need(objects):
    """A compiler that takes a function for one without effects drops what it fetches ahead."""
    (file,) = (file for file in objects if file.name.startswith("kernels_scan_float"))
    parts = re.split(r"\n[0-9a-f]+ <(.*)>:\n", listing("objdump", "-d", "--no-show-raw-insn", file))
    functions = dict(zip(parts[1::2], parts[2::2], strict=True))
    walks = {f: code for f, code in functions.items() if "scan_block" in f and "BackwardI" in f}
    assert len(walks) >= 16
    for name, code in walks.items():
        assert "\tprefetch" in code, name
