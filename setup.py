"""Package the Python code with the kernels' sources; build kernels ahead of time on request.

``pip install .`` makes a pure wheel: the kernels build at first use. ``SNNKERNELS_BUILD=cpu`` (or
``cuda``, or ``cpu,cuda``) with ``pip install --no-build-isolation .`` puts compiled libraries in.
"""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

from setuptools import Distribution, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LIBRARIES = Path("snnkernels", "_lib")


def devices_to_build() -> list[str]:
    """Return the devices named by ``SNNKERNELS_BUILD``; none if it is unset."""
    text = os.environ.get("SNNKERNELS_BUILD", "")
    devices = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = sorted(set(devices) - {"cpu", "cuda"})
    if unknown:
        sys.exit(f"SNNKERNELS_BUILD: expected cpu, cuda or cpu,cuda, got {text!r}")
    return devices


def ahead() -> ModuleType:
    """Import ``snnkernels._build.ahead`` without importing ``snnkernels``, which needs torch."""
    name = "_snnkernels_build"
    folder = ROOT / "snnkernels" / "_build"
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)
    return importlib.import_module(f"{name}.ahead")


class BuildPy(build_py):
    """Also builds the requested kernels, into the wheel or, for an editable install, in place."""

    def run(self) -> None:
        super().run()
        devices = devices_to_build()
        if not devices:
            return
        module = ahead()
        target = ROOT if self.editable_mode else Path(self.build_lib)
        try:
            module.build_ahead(devices, target / LIBRARIES)
        except module.BuildError as error:
            sys.exit(f"SNNKERNELS_BUILD={','.join(devices)}: {error}")


class BdistWheel(bdist_wheel):
    """Tags a wheel with kernels for its platform but for any Python: the ABI is stable."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform


class KernelDistribution(Distribution):
    """A distribution that is bound to a platform when kernels are built into it."""

    def has_ext_modules(self) -> bool:
        return bool(devices_to_build())


def csrc_packages() -> dict[str, str]:
    """Map each folder of ``csrc`` to the package that ships it."""
    folders = [ROOT / "csrc", *(path for path in (ROOT / "csrc").rglob("*") if path.is_dir())]
    relative = [folder.relative_to(ROOT) for folder in folders]
    return {f"snnkernels.{'.'.join(path.parts)}": path.as_posix() for path in relative}


CSRC = csrc_packages()

setup(
    distclass=KernelDistribution,
    packages=[*find_packages(include=["snnkernels", "snnkernels.*"]), *CSRC],
    package_dir={"": ".", **CSRC},
    package_data={
        "snnkernels": ["py.typed"],
        **{package: ["*.cpp", "*.cu", "*.h", "*.cuh"] for package in CSRC},
    },
    cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel},
)
