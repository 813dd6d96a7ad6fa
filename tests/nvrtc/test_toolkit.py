"""What is said where CuPy, cuda-bindings, NVRTC, torch's CUDA or the driver do not fit."""

import subprocess
import sys
import types
from enum import IntEnum
from functools import partial
from pathlib import Path

import pytest
import torch

from snnkernels import functional
from snnkernels.__main__ import main
from snnkernels._backends.nvrtc import Cupy, toolkit
from snnkernels._build import BuildError, toolchain

from ..cases import assert_same_bits, randn

ROOT = Path(__file__).resolve().parent.parent.parent


class Result(IntEnum):
    NVRTC_SUCCESS = 0
    NVRTC_ERROR_INTERNAL_ERROR = 11


SUCCESS, ERROR = Result


def put_modules(put, *, runtime=13020, driver=13010, nvrtc=(SUCCESS, 13, 0), archs=(SUCCESS, [75])):
    """Put in a CuPy and a cuda-bindings that tell versions; `nvrtc` may be an exception."""

    def version():
        if isinstance(nvrtc, Exception):
            raise nvrtc
        return nvrtc

    versions = types.SimpleNamespace(
        runtimeGetVersion=lambda: runtime, driverGetVersion=lambda: driver
    )
    cuda = types.SimpleNamespace(runtime=versions)
    put("cupy", types.SimpleNamespace(cuda=cuda))
    bindings = types.SimpleNamespace(nvrtcVersion=version, nvrtcGetSupportedArchs=lambda: archs)
    put("cuda.bindings.nvrtc", bindings)


def fake_modules(monkeypatch, **settings):
    put_modules(partial(monkeypatch.setitem, sys.modules), **settings)
    toolkit.find_nvrtc.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def put_cuda(monkeypatch, path=None):
    """Let Python find what is in `path` under the name cuda, and nothing of that name elsewhere."""
    for name in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    if path is None:
        monkeypatch.setattr(sys, "path", [])
    else:
        package = types.ModuleType("cuda")
        package.__path__ = [str(path)]
        monkeypatch.setitem(sys.modules, "cuda", package)


@pytest.fixture(autouse=True)
def _forget():
    yield
    toolkit.find_nvrtc.cache_clear()


def why_not() -> str:
    with pytest.raises(BuildError) as caught:
        Cupy().load("cuda")
    with pytest.raises(BuildError) as foreseen:
        Cupy().outlook("cuda")
    assert str(foreseen.value) == str(caught.value)
    return str(caught.value)


def test_a_torch_without_cuda_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    text = why_not()
    assert "NVRTC's kernels can't be used with this torch" in text
    assert "'snnkernels[cupy12]' or 'snnkernels[cupy13]'" in text


@pytest.mark.parametrize(("cuda", "package"), [("13.0", "cupy-cuda13x"), ("12.8", "cupy-cuda12x")])
def test_a_missing_cupy_is_named_by_the_package_for_torchs_cuda(monkeypatch, cuda, package):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = why_not()
    assert "CuPy" in text
    assert f"pip install {package}\n" in text


def test_a_cupy_of_another_cuda_is_to_be_replaced(monkeypatch):
    fake_modules(monkeypatch, runtime=12090)
    text = why_not()
    assert "CuPy for CUDA 12, torch" in text
    assert "pip uninstall cupy-cuda12x && pip install cupy-cuda13x\n" in text


def test_a_driver_that_is_too_old_is_told_with_the_package_that_fits_it(monkeypatch):
    fake_modules(monkeypatch, driver=12040)
    text = why_not()
    assert "the NVIDIA driver is too old for CuPy" in text
    assert "a driver for CUDA 12.4" in text
    assert "cupy-cuda12x" in text


def test_no_driver_is_told_so(monkeypatch):
    fake_modules(monkeypatch, driver=0)
    assert why_not().startswith("there is no NVIDIA driver")


@pytest.mark.parametrize(
    ("cuda", "package"), [("13.0", "cuda-bindings>=13,<14"), ("12.8", "cuda-bindings>=12.9.1,<13")]
)
@pytest.mark.parametrize("others", [True, False], ids=["other_packages_of_cuda", "none"])
def test_missing_bindings_are_named_by_the_package_for_torchs_cuda(
    monkeypatch, tmp_path, others, cuda, package
):
    fake_modules(monkeypatch, runtime=int(cuda[:2]) * 1000)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    put_cuda(monkeypatch, tmp_path if others else None)
    text = why_not()
    assert text.startswith("cuda-bindings isn't installed\n")
    assert "no module named cuda.bindings.nvrtc\n" in text
    assert f"pip install '{package}'\n" in text


@pytest.mark.parametrize("major", [12, 13])
def test_the_extra_holds_what_is_named(major):
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    (extra,) = (line for line in lines if line.startswith(f"cupy{major} = "))
    for package in (toolkit.cupy_package, toolkit.bindings_package, toolkit.nvrtc_package):
        assert f'"{package(major)}'.replace("'", "") in extra


def test_bindings_that_are_broken_are_told_with_what_python_says(monkeypatch, tmp_path):
    fake_modules(monkeypatch)
    put_cuda(monkeypatch, tmp_path)
    (tmp_path / "bindings").mkdir()
    (tmp_path / "bindings" / "nvrtc.py").write_text("import what_it_needs\n")
    text = why_not()
    assert text.startswith("cuda-bindings can't be imported\n")
    assert "found:      No module named 'what_it_needs'\n" in text


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"nvrtc": RuntimeError("no libnvrtc.so.13\n  listdir:\n    a")}, "no libnvrtc.so.13"),
        ({"nvrtc": (SUCCESS, 12, 8)}, "NVRTC 12.8"),
        ({"nvrtc": (ERROR, None, None)}, "NVRTC_ERROR_INTERNAL_ERROR"),
        ({"archs": (ERROR, None)}, "NVRTC_ERROR_INTERNAL_ERROR"),
    ],
)
def test_a_missing_or_foreign_nvrtc_is_named_by_its_package(monkeypatch, settings, found):
    fake_modules(monkeypatch, **settings)
    text = why_not()
    assert "NVRTC" in text.splitlines()[0]
    assert f"found:      {found}\n  expected" in text
    assert "pip install 'nvidia-cuda-nvrtc>=13,<14'\n" in text


def test_what_fits_is_told_with_its_version(monkeypatch):
    fake_modules(monkeypatch)
    assert Cupy().outlook("cuda") == "CuPy with NVRTC 13.0, each kernel at its first use"


LOADED = """
import sys, torch
from snnkernels._backends import selection
from tests.nvrtc.test_toolkit import put_modules
put_modules(sys.modules.__setitem__)
torch.version.cuda = "13.0"
for _ in range(2):
    print(selection.resolve("cupy", "cuda").reason)
has = torch._C._dispatch_has_kernel_for_dispatch_key
for name in ("scan_forward", "scan_backward", "poisson_encode", "pack_spikes", "unpack_spikes"):
    assert has(f"snnkernels_cupy::{name}", "CUDA"), name
    assert has(f"snnkernels_cupy::{name}", "Meta") and has(f"snnkernels_cupy::{name}", "Autograd")
"""


def test_what_is_loaded_are_operators_for_cuda():
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["CuPy with NVRTC 13.0"] * 2


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({}, "used CuPy with NVRTC 13.0, each kernel at its first use"),
        ({"driver": 0}, "not used there is no NVIDIA driver"),
    ],
)
def test_info_has_a_row_of_it(monkeypatch, capsys, settings, row):
    fake_modules(monkeypatch, **settings)
    monkeypatch.setattr(toolchain, "nvcc_probes", lambda cuda: ())
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info"]) == 0
    assert f"CuPy {row}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.gpu
def test_the_backend_runs_beside_native_in_one_process():
    pytest.importorskip("cupy")
    x = randn(19, 3, 6).cuda()
    ours, native = (functional.lif(x, backend=name)[0] for name in ("cupy", "native"))
    assert_same_bits(ours, native)
