"""The wheel and the sdist: what is in them, how they are made, and that they work by themselves."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from snnkernels._build import toolchain
from snnkernels._build.specification import library_file_name

from .conftest import REPOSITORY

pytestmark = pytest.mark.slow

PACKAGED = ("snnkernels", "csrc", "benchmarks", "docs", "scripts", "tests")
FILES = (
    *("setup.py", "pyproject.toml", "MANIFEST.in", "mkdocs.yml", "LICENSE", "CITATION.cff"),
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
)
SHIPPED = ("tests/conftest.py", "scripts/test", "benchmarks/__main__.py", "docs/numerics.md")

FILE_NAME = library_file_name("cpu")

RUN_A_NEURON = """
import torch, snnkernels
from snnkernels import _build, neuron
library = _build.load("cpu")
print(library.origin, library.path, snnkernels.__file__, sep="\\n")
x = torch.full((4, 2, 3), 2.0, requires_grad=True)
spikes = neuron.MultiStepLIFNode(tau=2.0, backend="native")(x)
spikes.sum().backward()
assert spikes.sum().item() == 24, spikes
assert x.grad.abs().sum() > 0
"""


def environment(**variables):
    """This process's environment without what would reach the checkout or its kernels."""
    dropped = ("PYTHONPATH", "SNNKERNELS_", "CXX")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, **variables}


def run(*command, cwd, **variables):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout + done.stderr


def checked(*command, cwd, **variables):
    code, output = run(*command, cwd=cwd, **variables)
    assert code == 0, output
    return output


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the checkout, as a clone would have it."""
    folder = tmp_path_factory.mktemp("source") / "snnkernels"
    ignored = shutil.ignore_patterns("__pycache__", "_lib", "*.egg-info", "*.so")
    for name in PACKAGED:
        shutil.copytree(REPOSITORY / name, folder / name, ignore=ignored)
    for name in FILES:
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Variables of a machine without a compiler, for a Python in which torch does not import."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "torch.py").write_text("raise ImportError('no torch here')\n")
    (folder / "bin").mkdir()
    return {"PYTHONPATH": str(folder), "PATH": str(folder / "bin"), "CXX": "/no/compiler"}


def make_wheel(source, **variables):
    target = source.parent / f"wheels-{len(list(source.parent.iterdir()))}"
    command = ("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", target, source)
    checked(sys.executable, *command, cwd=source.parent, **variables)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(source, bare):
    """The plain wheel, made without torch and without a compiler."""
    return make_wheel(source, **bare)


def kernel_sources():
    folder = REPOSITORY / "csrc"
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def install(wheel, folder):
    """Make a virtual environment with the wheel and, behind it, this environment's packages."""
    checked(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    checked(sys.executable, *command, cwd=folder.parent)
    return python, site / "snnkernels"


def test_the_wheel_is_pure_and_holds_every_kernel_source(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.endswith("-py3-none-any.whl")
    assert {f"snnkernels/csrc/{name}" for name in kernel_sources()} <= names
    assert "snnkernels/py.typed" in names


def test_the_wheel_holds_neither_tests_nor_benchmarks_nor_rubbish(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.split("/")[0].split("-")[0] for name in names}
    assert roots == {"snnkernels"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".so")]


def test_the_sdist_holds_all_that_a_build_and_the_tests_need(source, bare):
    checked(sys.executable, "setup.py", "-q", "sdist", "-d", "../sdist", cwd=source, **bare)
    (sdist,) = (source.parent / "sdist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"csrc/{name}" for name in kernel_sources()} <= names
    assert {*FILES, *SHIPPED} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_installed_wheel_builds_and_runs_outside_the_checkout(wheel, tmp_path):
    python, package = install(wheel, tmp_path / "venv")
    before = {path for path in package.rglob("*") if "__pycache__" not in path.parts}
    variables = {"SNNKERNELS_CACHE_DIR": str(tmp_path / "cache")}
    output = checked(python, "-c", RUN_A_NEURON, cwd=tmp_path, **variables).splitlines()
    origin, library, imported = (line for line in output if not line.startswith("snnkernels:"))
    assert origin == "jit"
    assert Path(library).is_relative_to(tmp_path / "cache")
    assert Path(imported).is_relative_to(package)
    assert {path for path in package.rglob("*") if "__pycache__" not in path.parts} == before


def test_a_wheel_built_ahead_runs_without_a_compiler_on_any_python_and_cpu(source, tmp_path):
    wheel = make_wheel(source, SNNKERNELS_BUILD="cpu")
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    python, package = install(wheel, tmp_path / "venv")
    variables = {"SNNKERNELS_CACHE_DIR": str(tmp_path / "cache"), "CXX": "/no/compiler"}
    for name in toolchain.cpu_instruction_sets():
        variables["ATEN_CPU_CAPABILITY"] = {"baseline": "default"}.get(name, name)
        output = checked(python, "-c", RUN_A_NEURON, cwd=tmp_path, **variables).splitlines()
        assert output[:2] == ["prebuilt", str(package / "_lib" / f"cpu-{name}" / FILE_NAME)]
    assert not (tmp_path / "cache").exists()


def test_an_unknown_device_to_build_ahead_is_refused_by_name(source):
    command = (sys.executable, "setup.py", "-q", "build")
    code, output = run(*command, cwd=source, SNNKERNELS_BUILD="gpu")
    assert code != 0
    assert "SNNKERNELS_BUILD: expected cpu, cuda or cpu,cuda, got 'gpu'" in output


def test_building_ahead_without_torch_says_how_to_have_it(source, bare, tmp_path):
    command = (sys.executable, "setup.py", "-q", "build", "-b", tmp_path)
    code, output = run(*command, cwd=source, SNNKERNELS_BUILD="cpu", **bare)
    assert code != 0
    assert "SNNKERNELS_BUILD=cpu: building the kernels needs torch at build time" in output
    assert "pip install --no-build-isolation ." in output


def test_building_ahead_without_a_compiler_fails_with_the_reason(source, tmp_path):
    command = (sys.executable, "setup.py", "-q", "build", "-b", tmp_path)
    code, output = run(*command, cwd=source, SNNKERNELS_BUILD="cpu", CXX="/no/compiler")
    assert code != 0
    assert "no usable C++ compiler" in output
