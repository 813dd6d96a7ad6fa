"""What NVRTC compiles is kept, checked before its use, and done without where it can't be kept."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from snnkernels._backends.nvrtc import programs
from snnkernels._backends.nvrtc.programs import Program
from snnkernels._backends.nvrtc.toolkit import Compiled, Nvrtc
from snnkernels._build import BuildError, cache

ENCODE = Program("spikes.cu", "snn::cuda::encode_kernel<unsigned char>")


@dataclass(frozen=True)
class CountingNvrtc(Nvrtc):
    """An NVRTC whose machine code is made up."""

    version: tuple[int, int] = (13, 0)
    capabilities: tuple[int, ...] = (75, 90)
    cubin: bytes = b"\x7fELF machine code"
    compiled: list[str] = field(default_factory=list, compare=False)

    def compile(self, source, name, headers, flags, kernel):
        self.compiled.append(kernel)
        return Compiled(self.cubin, "symbol")


@pytest.fixture
def nvrtc():
    return CountingNvrtc()


@pytest.fixture(autouse=True)
def cubin(tmp_path, monkeypatch):
    """Where the kernel is kept: returns the one file of the cache that holds one."""
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", False)
    return lambda: next(tmp_path.glob("cache/nvrtc-*/kernel.cubin"))


def ensure(nvrtc):
    return programs.ensure(ENCODE, nvrtc, (9, 0))


def test_a_kernel_is_compiled_once_and_then_read(nvrtc, cubin):
    first = ensure(nvrtc)
    assert ensure(nvrtc) == first == Compiled(nvrtc.cubin, "symbol")
    assert len(nvrtc.compiled) == 1
    assert cubin().read_bytes() == nvrtc.cubin


@pytest.mark.parametrize("content", [b"x", bytes])
def test_garbage_of_the_right_size_is_compiled_anew(nvrtc, cubin, content):
    first = ensure(nvrtc)
    size = len(nvrtc.cubin)
    cubin().write_bytes(bytes(size) if content is bytes else content * size)
    assert ensure(nvrtc) == first
    assert ensure(nvrtc) == first
    assert len(nvrtc.compiled) == 2
    assert cubin().read_bytes() == nvrtc.cubin


def test_empty_machine_code_is_refused_and_not_kept(tmp_path):
    with pytest.raises(BuildError, match=r"(?s)could not compile.*it gave no machine code"):
        ensure(CountingNvrtc(cubin=b""))
    assert list(tmp_path.glob("cache/*nvrtc-*")) == []


def test_a_kernel_that_others_could_have_written_is_not_used(nvrtc, cubin, tmp_path):
    ensure(nvrtc)
    (tmp_path / "cache").chmod(0o777)
    cubin().write_bytes(b"x" * len(nvrtc.cubin))
    with pytest.warns(RuntimeWarning, match=r"(?s)in each process: .*others can write it.*go-w"):
        assert ensure(nvrtc).cubin == nvrtc.cubin
    assert len(nvrtc.compiled) == 2


@pytest.mark.parametrize("call", ["write_bytes", "write_text", "rename"])
def test_a_full_disk_is_told_and_the_kernel_used(nvrtc, call, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, full)
        with pytest.warns(RuntimeWarning, match=r"(?s)in each process: .*No space left on device"):
            assert ensure(nvrtc).cubin == nvrtc.cubin
    assert list(tmp_path.glob("cache/*nvrtc-*")) == []
    assert ensure(nvrtc).cubin == nvrtc.cubin
    assert cache.entries()
