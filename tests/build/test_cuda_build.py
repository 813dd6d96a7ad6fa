"""CUDA builds with the real tool chain, where there is one; none of this needs a GPU."""

import pytest
import torch

from snnkernels._build import BuildError, ahead, loader, toolchain
from snnkernels._build.archs import Arch, format_archs, parse_archs


@pytest.fixture
def nvcc(csrc):
    try:
        return toolchain.find_nvcc(torch.version.cuda)
    except BuildError as error:
        pytest.skip(f"needs a torch with CUDA and its nvcc: {str(error).splitlines()[0]}")


@pytest.mark.slow
def test_a_cuda_library_builds_links_and_loads_for_a_named_architecture(nvcc, monkeypatch):
    monkeypatch.setenv("SNNKERNELS_CUDA_ARCH", "9.0+PTX")
    library = loader.load("cuda")
    assert library.origin == "jit"
    assert (
        "-gencode=arch=compute_90,code=compute_90"
        in (library.path.parent / "build.log").read_text()
    )


def test_a_failed_cuda_compile_names_nvcc_and_shows_its_error(nvcc, csrc, monkeypatch):
    (csrc / "cuda" / "twice.cu").write_text("__global__ void twice(int* x) { *x = missing; }\n")
    monkeypatch.setenv("SNNKERNELS_CUDA_ARCH", "9.0")
    with pytest.raises(BuildError) as caught:
        loader.load("cuda")
    message = str(caught.value)
    assert message.startswith("compiling cuda/twice.cu failed")
    assert f"nvcc {nvcc.version}" in message
    assert 'identifier "missing" is undefined' in message


@pytest.mark.parametrize("flags", ["--use_fast_math", "-Xcompiler=-O1,-ffast-math"])
def test_a_flag_that_comes_to_nvcc_in_a_file_is_seen_in_its_dry_run(
    nvcc, flags, tmp_path, monkeypatch
):
    (tmp_path / "flags").write_text(f"{flags}\n")
    monkeypatch.setenv("NVCC_APPEND_FLAGS", f"-lineinfo -optf {tmp_path / 'flags'}")
    with pytest.raises(BuildError, match="changes what is computed: leave it out"):
        toolchain.find_nvcc(torch.version.cuda)


def test_without_cuda_sources_the_error_says_so(nvcc, csrc, monkeypatch):
    (csrc / "cuda" / "twice.cu").unlink()
    monkeypatch.setenv("SNNKERNELS_CUDA_ARCH", "9.0")
    with pytest.raises(BuildError, match="no CUDA kernel sources"):
        loader.load("cuda")


def test_a_build_ahead_takes_the_common_architectures_that_nvcc_knows():
    archs = ahead.default_archs(("75", "80", "86", "87", "90", "100"))
    assert format_archs(archs) == "7.5;8.0;8.6;9.0;10.0+PTX"


def test_a_build_ahead_with_an_nvcc_of_unknown_architectures_takes_its_newest():
    assert ahead.default_archs(("130",)) == (Arch(13, 0, ptx=True),)


def test_a_build_ahead_takes_the_architectures_of_the_environment(nvcc, monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0;9.0+PTX")
    assert parse_archs(ahead.plans_ahead("cuda")["cuda"].target) == parse_archs("8.0;9.0+PTX")
