"""What the compiler makes of the CPU's kernels."""

import platform
import re
import shutil
import subprocess

import pytest

from snnkernels import _build

pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="code for x86"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump"),
]


def test_the_walk_back_fetches_the_rows_that_it_will_need():
    """A compiler that takes a function for one without effects drops what it fetches ahead."""
    library = str(_build.load("cpu").path)
    command = ["objdump", "-d", "--no-show-raw-insn", library]
    listing = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=600
    ).stdout
    parts = re.split(r"\n[0-9a-f]+ <(.*)>:\n", listing)
    functions = dict(zip(parts[1::2], parts[2::2], strict=True))
    float32 = {f: code for f, code in functions.items() if "fEEvRKNS_8Backward" in f}
    walks = {f: code for f, code in float32.items() if "scan_block" in f}
    assert len(walks) >= 16
    for name, code in walks.items():
        assert "\tprefetch" in code, name
