"""What kernels by NVRTC need on a machine.

cuda-bindings and NVRTC compile; the native library launches, or CuPy with a driver that is new
enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import torch

from ..._build.errors import build_error

_Answer = tuple[Any, ...]
"""What a call through cuda-bindings gives: the result's code, and the values behind it."""


@dataclass(frozen=True)
class Compiled:
    """A kernel as machine code, and the name that it has there."""

    cubin: bytes
    symbol: str


class CompileError(RuntimeError):
    """NVRTC refused a program; the message is its log, or the error's name where it wrote none."""


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
        nvrtc = _bindings(self.version[0])
        texts = [text.encode() for text in headers.values()]
        names = [included.encode() for included in headers]
        options = [flag.encode() for flag in flags]
        expression = kernel.encode()
        program = _checked(
            nvrtc.nvrtcCreateProgram(source.encode(), name.encode(), len(texts), texts, names)
        )
        try:
            _checked(nvrtc.nvrtcAddNameExpression(program, expression))
            _checked(nvrtc.nvrtcCompileProgram(program, len(options), options))
            cubin = _content(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
            symbol = _checked(nvrtc.nvrtcGetLoweredName(program, expression))
            return Compiled(cubin, symbol.decode())
        except CompileError as error:
            log = _content(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            text = log.rstrip(b"\0").decode(errors="replace").strip()
            raise CompileError(text or str(error)) from None
        finally:
            _checked(nvrtc.nvrtcDestroyProgram(program))


def _checked(answer: _Answer) -> Any:
    """What a call of NVRTC gave: nothing, one value, or several.

    Raises:
        CompileError: the result is an error; the message is its name.
    """
    code, *values = answer
    if code != 0:
        raise CompileError(code.name)
    return values[0] if len(values) == 1 else tuple(values)


def _content(
    size_of: Callable[[Any], _Answer], read: Callable[[Any, bytearray], _Answer], program: Any
) -> bytes:
    """What NVRTC made of a program, whose size is asked for first."""
    content = bytearray(_checked(size_of(program)))
    _checked(read(program, content))
    return bytes(content)


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
            "NVRTC's kernels can't be used with this torch",
            found=f"torch {torch.__version__}, without CUDA",
            expected="a torch with CUDA",
            remedy="install a CUDA build of torch; for the cupy backend also 'snnkernels[cupy12]' "
            "or 'snnkernels[cupy13]' by its major version",
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
        snnkernels.BuildError: cuda-bindings or NVRTC is missing; names the package.
    """
    nvrtc = _bindings(major)
    try:
        version = _checked(nvrtc.nvrtcVersion())
        capabilities = _checked(nvrtc.nvrtcGetSupportedArchs())
    except (RuntimeError, OSError) as error:
        raise build_error(
            "there is no NVRTC, which compiles kernels for GPUs as they are needed",
            found=(str(error) or type(error).__name__).splitlines()[0],
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
    return Nvrtc(version, tuple(sorted(capabilities)))


def load_kernel(compiled: Compiled) -> int:
    """The driver's handle (a CUkernel) of a kernel, which serves every context.

    Raises:
        CompileError: the driver does not take it; the message is the error's name.
    """
    driver = import_module("cuda.bindings.driver")
    library = _checked(driver.cuLibraryLoadData(compiled.cubin, [], [], 0, [], [], 0))
    return int(_checked(driver.cuLibraryGetKernel(library, compiled.symbol.encode())))


def _cupy(major: int) -> Any:
    return _imported("cupy", "CuPy", cupy_package(major))


def _bindings(major: int) -> Any:
    return _imported("cuda.bindings.nvrtc", "cuda-bindings", bindings_package(major))


def _imported(module: str, title: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        absent = f"{module}.".startswith(f"{error.name}.")
        missing = isinstance(error, ModuleNotFoundError) and absent
        raise build_error(
            f"{title} isn't installed" if missing else f"{title} can't be imported",
            found=f"no module named {module}" if missing else " ".join(str(error).split()),
            expected=package.strip("'"),
            remedy=f"pip install {package}",
        ) from error


def cupy_package(major: int) -> str:
    """The package that holds the CuPy of a CUDA major version."""
    return f"cupy-cuda{major}x"


def bindings_package(major: int) -> str:
    """The package that calls the NVRTC of a CUDA major version; 12.9.0 did not find pip's."""
    return f"'cuda-bindings>={'12.9.1' if major == 12 else major},<{major + 1}'"


def nvrtc_package(major: int) -> str:
    """The package that holds the NVRTC of a CUDA major version."""
    return "'nvidia-cuda-nvrtc>=13,<14'" if major == 13 else f"nvidia-cuda-nvrtc-cu{major}"
