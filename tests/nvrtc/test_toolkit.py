"""What is said where CuPy, NVRTC, torch's CUDA or the driver are missing or do not fit."""

import subprocess
import sys
import types
from functools import partial

import pytest
import torch

from snnkernels import functional
from snnkernels.__main__ import main
from snnkernels._backends.nvrtc import Cupy, toolkit
from snnkernels._build import BuildError, toolchain

from ..cases import assert_same_bits, randn


def put_cupy(put, *, runtime=13020, driver=13010, nvrtc=(13, 0), archs=(75, 90)):
    """Put in a CuPy that tells versions; `nvrtc` may be an exception, as without the library."""

    def version():
        if isinstance(nvrtc, Exception):
            raise nvrtc
        return nvrtc

    cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(
            runtimeGetVersion=lambda: runtime, driverGetVersion=lambda: driver
        ),
        nvrtc=types.SimpleNamespace(getVersion=version, getSupportedArchs=lambda: list(archs)),
    )
    modules = {"cupy": types.SimpleNamespace(cuda=cuda), "cupy.cuda": cuda}
    for name, module in modules.items():
        put(name, module)


def fake_cupy(monkeypatch, **settings):
    put_cupy(partial(monkeypatch.setitem, sys.modules), **settings)
    toolkit.find_nvrtc.cache_clear()
    monkeypatch.setattr(torch.version, "cuda", "13.0")


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
    assert "the cupy backend can't be used with this torch" in text
    assert "'snnkernels[cupy12]' or 'snnkernels[cupy13]'" in text


@pytest.mark.parametrize(("cuda", "package"), [("13.0", "cupy-cuda13x"), ("12.8", "cupy-cuda12x")])
def test_a_missing_cupy_is_named_by_the_package_for_torchs_cuda(monkeypatch, cuda, package):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setitem(sys.modules, "cupy", None)
    text = why_not()
    assert "CuPy" in text
    assert f"pip install {package}\n" in text


def test_a_cupy_of_another_cuda_is_to_be_replaced(monkeypatch):
    fake_cupy(monkeypatch, runtime=12090)
    text = why_not()
    assert "CuPy for CUDA 12, torch" in text
    assert "pip uninstall cupy-cuda12x && pip install cupy-cuda13x\n" in text


def test_a_driver_that_is_too_old_is_told_with_the_package_that_fits_it(monkeypatch):
    fake_cupy(monkeypatch, driver=12040)
    text = why_not()
    assert "the NVIDIA driver is too old for CuPy" in text
    assert "a driver for CUDA 12.4" in text
    assert "cupy-cuda12x" in text


def test_no_driver_is_told_so(monkeypatch):
    fake_cupy(monkeypatch, driver=0)
    assert why_not().startswith("there is no NVIDIA driver")


@pytest.mark.parametrize("nvrtc", [RuntimeError("libnvrtc.so.13: cannot open"), (12, 8)], ids=str)
def test_a_missing_or_foreign_nvrtc_is_named_by_its_package(monkeypatch, nvrtc):
    fake_cupy(monkeypatch, nvrtc=nvrtc)
    text = why_not()
    assert "NVRTC" in text
    assert "pip install 'nvidia-cuda-nvrtc>=13,<14'\n" in text


def test_what_fits_is_told_with_its_version(monkeypatch):
    fake_cupy(monkeypatch)
    assert Cupy().outlook("cuda") == "CuPy with NVRTC 13.0, each kernel at its first use"


LOADED = """
import sys, torch
from snnkernels._backends import selection
from tests.nvrtc.test_toolkit import put_cupy
put_cupy(sys.modules.__setitem__)
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
    fake_cupy(monkeypatch, **settings)
    monkeypatch.setattr(toolchain, "nvcc_probes", lambda cuda: ())
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info"]) == 0
    assert f"NVRTC, by CuPy {row}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.gpu
def test_the_backend_runs_beside_native_in_one_process():
    pytest.importorskip("cupy")
    x = randn(19, 3, 6).cuda()
    ours, native = (functional.lif(x, backend=name)[0] for name in ("cupy", "native"))
    assert_same_bits(ours, native)
