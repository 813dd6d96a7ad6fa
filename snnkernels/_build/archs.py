"""GPU architectures: what the environment asks for, as nvcc flags."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

ENVIRONMENT_VARIABLES = ("SNNKERNELS_CUDA_ARCH", "TORCH_CUDA_ARCH_LIST")

_PATTERN = re.compile(r"(?:sm_|compute_)?(\d{1,2})(?:\.(\d)|(\d))([af]?)(\+PTX)?", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Arch:
    """A GPU architecture, such as 9.0; `ptx` also embeds code that newer GPUs can compile."""

    major: int
    minor: int
    suffix: str = ""
    ptx: bool = False

    @property
    def number(self) -> str:
        """The number as nvcc spells it: "90", "100", "90a"."""
        return f"{self.major}{self.minor}{self.suffix}"

    @property
    def plain_number(self) -> str:
        """The number without a suffix: "90"."""
        return f"{self.major}{self.minor}"

    @property
    def gencode(self) -> tuple[str, ...]:
        """The nvcc flags that compile for it."""
        flags = [f"-gencode=arch=compute_{self.number},code=sm_{self.number}"]
        if self.ptx:
            flags.append(f"-gencode=arch=compute_{self.number},code=compute_{self.number}")
        return tuple(flags)

    def runs_on(self, capability: tuple[int, int]) -> bool:
        """Whether code for this architecture runs on a GPU of the given compute capability."""
        own = (self.major, self.minor)
        if self.suffix:
            return capability == own
        if self.ptx and capability >= own:
            return True
        return capability[0] == self.major and capability >= own

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}{self.suffix}" + ("+PTX" if self.ptx else "")


def parse_archs(text: str, *, name: str = "arch") -> tuple[Arch, ...]:
    """Read a list of architectures: "9.0", "90", "sm_90", "8.0;9.0+PTX", "8.0 9.0", "8.0,9.0".

    Args:
        text: the list.
        name: the argument or variable it came from, for the error.

    Raises:
        ValueError: an item is not an architecture, or there is none.
    """
    archs = []
    for item in re.split(r"[;,\s]+", text.strip()):
        match = _PATTERN.fullmatch(item)
        if match is None:
            raise ValueError(
                f'{name}: expected GPU architectures such as "9.0" or "8.0;9.0+PTX", got {text!r}'
            )
        major, dotted, plain, suffix, ptx = match.groups()
        archs.append(Arch(int(major), int(dotted or plain), suffix.lower(), bool(ptx)))
    return tuple(dict.fromkeys(archs))


def format_archs(archs: Iterable[Arch]) -> str:
    """Write architectures as `parse_archs` reads them."""
    return ";".join(map(str, archs))
