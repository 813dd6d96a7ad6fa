"""What the ``"cupy"`` backend needs on a machine: CuPy, NVRTC, and a driver that is new enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from ..._build.errors import build_error


@dataclass(frozen=True)
class Compiled:
    """A kernel as machine code, and the name that it has there."""

    cubin: bytes
    symbol: str


class CompileError(RuntimeError):
    """NVRTC refused a program; the message is its log."""


@dataclass(frozen=True)
class Nvrtc:
    """NVIDIA's run-time compiler.

    Attributes:
        version: its major and minor version, those of the CUDA toolkit that it belongs to.
        capabilities: the compute capabilities that it compiles for, as 75 or 90, ascending.
    """

    version: tuple[int, int]
    capabilities: tuple[int, ...]

    def __str__(self) -> str:
        return f"NVRTC {self.version[0]}.{self.version[1]}"

    def compile(
        self,
        source: str,
        name: str,
        headers: Mapping[str, str],
        flags: Sequence[str],
        kernel: str,
    ) -> Compiled:
        """Compile one kernel.

        Args:
            source: the program.
            name: what the program is called in the log.
            headers: contents by the very names by which they are included.
            flags: the compiler's, ``-arch=sm_90`` or the like among them.
            kernel: the kernel as a C++ expression, such as ``f<float, 2>``.

        Raises:
            CompileError: the program does not compile.
        """
        from cupy.cuda import nvrtc

        texts = tuple(text.encode() for text in headers.values())
        names = tuple(included.encode() for included in headers)
        program = nvrtc.createProgram(source, name, texts, names)
        try:
            nvrtc.addNameExpression(program, kernel)
            nvrtc.compileProgram(program, tuple(flags))
            return Compiled(nvrtc.getCUBIN(program), nvrtc.getLoweredName(program, kernel))
        except nvrtc.NVRTCError as error:
            raise CompileError(nvrtc.getProgramLog(program).strip() or str(error)) from None
        finally:
            nvrtc.destroyProgram(program)


def require() -> Nvrtc:
    """The NVRTC to compile with, once all that the backend needs is known to be there.

    Raises:
        snnkernels.BuildError: something is missing or does not fit; names the package.
    """
    major = cuda_major()
    check(major)
    return find_nvrtc(major)


def cuda_major() -> int:
    """The major version of torch's CUDA.

    Raises:
        snnkernels.BuildError: torch has none.
    """
    if torch.version.cuda is None:
        raise build_error(
            "the cupy backend can't be used with this torch",
            found=f"torch {torch.__version__}, without CUDA",
            expected="a torch with CUDA",
            remedy="install a CUDA build of torch, then 'snnkernels[cupy12]' or "
            "'snnkernels[cupy13]' by its major version",
        )
    return int(torch.version.cuda.split(".")[0])


def check(major: int) -> None:
    """Make sure that CuPy and the driver serve torch's CUDA.

    Raises:
        snnkernels.BuildError: they don't; names the package.
    """
    runtime = _cupy(major).cuda.runtime
    own = runtime.runtimeGetVersion() // 1000
    if own != major:
        raise build_error(
            "CuPy is for another CUDA than torch",
            found=f"CuPy for CUDA {own}, torch {torch.__version__} for CUDA {torch.version.cuda}",
            expected=cupy_package(major),
            remedy=f"pip uninstall {cupy_package(own)} && pip install {cupy_package(major)}",
        )
    driver = runtime.driverGetVersion()
    if driver // 1000 < major:
        found = f"a driver for CUDA {driver // 1000}.{driver % 1000 // 10}" if driver else "none"
        raise build_error(
            "the NVIDIA driver is too old for CuPy" if driver else "there is no NVIDIA driver",
            found=found,
            expected=f"a driver for CUDA {major} or newer, as torch {torch.__version__} needs",
            remedy=f"update the NVIDIA driver, or install a torch for an older CUDA and "
            f"{cupy_package(driver // 1000) if driver else 'its CuPy'} with it",
        )


@cache
def find_nvrtc(major: int) -> Nvrtc:
    """Find the NVRTC of a CUDA major version: in the nvidia packages, else the system's.

    Raises:
        snnkernels.BuildError: CuPy or NVRTC is missing; names the package.
    """
    _cupy(major)
    try:
        from cupy.cuda import nvrtc

        version = nvrtc.getVersion()
        capabilities = nvrtc.getSupportedArchs()
    except (ImportError, RuntimeError, OSError) as error:
        raise build_error(
            "there is no NVRTC, with which the cupy backend compiles its kernels",
            found=" ".join(str(error).split()) or type(error).__name__,
            expected=f"NVRTC of CUDA {major}",
            remedy=f"pip install {nvrtc_package(major)}",
        ) from error
    if version[0] != major:
        raise build_error(
            "NVRTC is for another CUDA than torch",
            found=f"NVRTC {version[0]}.{version[1]}",
            expected=f"NVRTC of CUDA {major}",
            remedy=f"pip install {nvrtc_package(major)}",
        )
    return Nvrtc(tuple(version), tuple(sorted(capabilities)))


def _cupy(major: int) -> Any:
    try:
        import cupy
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        raise build_error(
            "CuPy isn't installed" if missing else "CuPy can't be imported",
            found="no module named cupy" if missing else " ".join(str(error).split()),
            expected=cupy_package(major),
            remedy=f"pip install {cupy_package(major)}",
        ) from error
    return cupy


def cupy_package(major: int) -> str:
    """The package that holds the CuPy of a CUDA major version."""
    return f"cupy-cuda{major}x"


def nvrtc_package(major: int) -> str:
    """The package that holds the NVRTC of a CUDA major version."""
    return "'nvidia-cuda-nvrtc>=13,<14'" if major == 13 else f"nvidia-cuda-nvrtc-cu{major}"
