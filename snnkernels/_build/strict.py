"""Flags that would change what the kernels compute: refused, since they promise PyTorch's bits."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HOST = (
    r"-Ofast",
    r"-ffast-math",
    r"-funsafe-math-optimizations",
    r"-ffinite-math-only",
    r"-fno-signed-zeros",
    r"-fno-honor-\w+",
    r"-freciprocal-math",
    r"-fassociative-math",
    r"-fapprox-func",
    r"-fsingle-precision-constant",
    r"-ffp-contract=(?!off\b)[\w-]+",
    r"-ffp-model=(?!strict\b|precise\b)\w+",
    r"-fp-model[ =](?!strict\b|precise\b|source\b)\w+",
    r"-fdenormal-fp-math(?:-f32)?=(?!ieee\b)[\w,-]+",
    r"-mdaz-ftz",
    r"-mrecip(?:=\S*)?",
    r"-mfpmath=(?!sse\b)\w+",
    r"-mpc(?:32|64)",
)
# As nvcc takes them, and as it hands them on to cicc.
_DEVICE = (
    r"--?use_fast_math",
    r"-fast-math",
    r"--?ftz[ =](?:true|1)",
    r"--?prec[-_]div[ =](?:false|0)",
    r"--?prec[-_]sqrt[ =](?:false|0)",
    r"--?fmad[ =](?:true|1)",
)
_REFUSED = re.compile(rf"(?<![^\s,='\"])(?:{'|'.join(_HOST + _DEVICE)})(?![^\s,'\"])")

_MACROS = {
    "__FAST_MATH__": "",
    "__FINITE_MATH_ONLY__": "0",
    "__RECIPROCAL_MATH__": "",
    "__ASSOCIATIVE_MATH__": "",
    "__NO_SIGNED_ZEROS__": "",
    "__FLT_EVAL_METHOD__": "0",
}
"""What compilers predefine under such flags, and the value that is harmless."""


def refused_flag(text: str) -> str:
    """Return the first flag of a command line that changes arithmetic; empty if there is none."""
    found = _REFUSED.search(text)
    return found[0] if found else ""


def why_not_strict(macros: Mapping[str, str]) -> str:
    """Say which predefined macro tells that arithmetic is changed, however that came about."""
    for name, harmless in _MACROS.items():
        if macros.get(name, harmless) != harmless:
            return f"it computes with other rules than IEEE 754's: it defines {name}"
    return ""
