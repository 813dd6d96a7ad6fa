"""Print the registers and spills of every CUDA kernel, as ptxas told them to a build log.

Usage: python scripts/ptxas_table.py BUILD_LOG. Exits with 1 if a float32 kernel spills.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<arch>\w+)'\n"
    r"(?P<facts>(?:(?!.*Compiling entry function).*\n)*?.*Used (?P<registers>\d+) registers)"
)
_SPILL = re.compile(r"(\d+) bytes spill (?:stores|loads)")


@dataclass(frozen=True)
class Usage:
    """What one kernel needs on one architecture: registers, and bytes spilled."""

    registers: int
    spilled: int

    def __str__(self) -> str:
        return f"{self.registers}" + (f" (spills {self.spilled})" if self.spilled else "")


def read(log: str) -> dict[str, dict[str, Usage]]:
    """Return each kernel's usage by architecture."""
    usage: dict[str, dict[str, Usage]] = defaultdict(dict)
    for match in _KERNEL.finditer(log):
        spilled = sum(map(int, _SPILL.findall(match["facts"])))
        usage[match["name"]][match["arch"]] = Usage(int(match["registers"]), spilled)
    return dict(usage)


def readable(names: list[str]) -> dict[str, str]:
    """Demangle the kernels' names and drop their arguments."""
    program = shutil.which("c++filt")
    if program is None or not names:
        return {name: name for name in names}
    done = subprocess.run([program], input="\n".join(names), capture_output=True, text=True)
    plain = (_without_arguments(line) for line in done.stdout.splitlines())
    return dict(zip(names, plain, strict=True))


def _without_arguments(name: str) -> str:
    depth = 0
    for index, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0 and not name.startswith("(anonymous", index):
            name = name[:index]
            break
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "")
    return re.sub(r"\(\w[\w ]*\)", "", name).replace("snn::", "")


def main() -> int:
    """Print the table of the log named on the command line."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    usage = read(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if not usage:
        print(f"{sys.argv[1]}: no kernels in this log", file=sys.stderr)
        return 1
    titles = readable(list(usage))
    archs = sorted(
        {arch for kernel in usage.values() for arch in kernel}, key=lambda a: (len(a), a)
    )
    width = max(map(len, titles.values()))
    print("registers and spilled bytes by architecture")
    print(f"{'kernel':<{width}}  " + "  ".join(f"{'sm_' + arch:>18}" for arch in archs))
    for name in sorted(usage, key=titles.__getitem__):
        cells = (str(usage[name].get(arch, "")) for arch in archs)
        print(f"{titles[name]:<{width}}  " + "  ".join(f"{cell:>18}" for cell in cells))
    spilling = [
        titles[name]
        for name, kernel in usage.items()
        if re.search(r"\bfloat\b", titles[name]) and any(use.spilled for use in kernel.values())
    ]
    print(f"{len(usage)} kernels, {len(spilling)} float32 kernels spill")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
