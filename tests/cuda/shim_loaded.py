"""Run by test_shim.py under `shim.plugin`: kernels that the native library asks for by need."""

import ctypes
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from snnkernels import functional
from snnkernels._backends import headers, kernels, native
from snnkernels._backends.nvrtc import loading, programs, structs, toolkit
from snnkernels._backends.selection import FallbackWarning

from ..cases import assert_same_bits, forget_kernels, randn
from .shim.plugin import LIBRARY, compile_neuron, is_plain, last_grid

Launch = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_size_t,
    *[ctypes.c_uint] * 7,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)


class Gpu:
    """What NVRTC and the driver would do: kernels are handles, and their bodies run on the host."""

    def __init__(self) -> None:
        self.programs: list[programs.Program] = []
        self.launched: list[int] = []
        self.launch = Launch(self._launch)

    def load(self, program: programs.Program, device: int) -> int:
        assert device == 0
        self.programs.append(program)
        return len(self.programs)

    def _launch(self, handle, blocks, _y, _z, threads, _v, _w, _shared, stream, arguments, extra):
        assert (stream, extra) == (None, None)
        program = self.programs[handle - 1]
        self.launched.append(handle)
        backward, wide = "backward" in program.kernel, program.kernel.endswith("double>")
        struct_of = structs.backward if backward else structs.forward
        struct = struct_of(np.float64 if wide else np.float32)
        memory = ctypes.string_at(arguments[0], struct.itemsize)
        call = np.frombuffer(memory, struct).copy()
        built = ctypes.CDLL(str(compile_neuron(program.neuron)))
        built.snn_compiled_neuron.restype = ctypes.c_void_p
        call["compiled"] = built.snn_compiled_neuron()
        width, plain, *_ = last_grid()[0], is_plain()
        assert f", {width}, {str(plain).lower()}, " in program.kernel
        address = ctypes.c_void_p(call.ctypes.data)
        args = (backward, wide, address, width, plain, threads, ctypes.c_longlong(blocks))
        assert ctypes.CDLL(str(LIBRARY)).shim_scan(*args) & 1
        return 0


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    nvrtc = toolkit.Nvrtc((13, 0), (90,))
    monkeypatch.setattr(toolkit, "cuda_major", lambda: 13)
    monkeypatch.setattr(toolkit, "find_nvrtc", lambda major: nvrtc)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(loading, "load", gpu.load)
    monkeypatch.setattr(loading, "_kernels", {})
    monkeypatch.setattr(
        loading, "_launch_function", lambda: ctypes.cast(gpu.launch, ctypes.c_void_p).value
    )
    monkeypatch.setattr(native, "_add_built", None)
    monkeypatch.setattr(native, "BY_NVRTC", "cpu")
    monkeypatch.setattr(kernels, "SPECIALIZED", {"cpu"})
    forget_kernels(monkeypatch)
    return gpu


def lif_of_its_own(number: int) -> Callable[..., tuple[torch.Tensor, ...]]:
    """A neuron that no other test has let the library know: by its own name there."""
    return partial(functional.lif, tau=2.3, v_threshold=0.6, detach_reset=bool(number % 2))


def spikes_and_gradient(
    lif: Callable[..., tuple[torch.Tensor, ...]], x: torch.Tensor, backend: str
) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = x.clone().requires_grad_()
    spikes = lif(leaf, backend=backend)[0]
    return spikes.detach(), torch.autograd.grad(spikes, leaf, randn(*x.shape).to(x))[0]


def test_kernels_are_asked_for_when_they_are_needed_and_then_remembered(gpu):
    lif = lif_of_its_own(0)
    for dtype in (torch.float32, torch.bfloat16):
        for lanes in (16, 7):
            x = randn(6, 1, lanes, dtype=dtype)
            ours = spikes_and_gradient(lif, x, "native")
            asked = len(gpu.programs)
            again = spikes_and_gradient(lif, x, "native")
            assert len(gpu.programs) == asked
            expected = spikes_and_gradient(lif, x, "torch")
            assert_same_bits(ours[0], expected[0])
            assert_same_bits(again[1], ours[1])
            torch.testing.assert_close(ours[1], expected[1])
    assert len(gpu.programs) == 2 * 2 * 2
    assert len(gpu.launched) == 2 * len(gpu.programs)
    assert len({program.kernel for program in gpu.programs}) == len(gpu.programs)


def test_what_keeps_a_kernel_from_being_loaded_reaches_the_caller(gpu, monkeypatch):
    def refuse(program: programs.Program, device: int) -> int:
        raise RuntimeError(f"no {program.title} today: " + "x" * 5000)

    lif = lif_of_its_own(1)
    monkeypatch.setattr(loading, "load", refuse)
    with pytest.raises(RuntimeError, match="no snn::cuda::forward_kernel.* of LIF today: xx"):
        lif(randn(5, 2, 8), backend="native")
    monkeypatch.setattr(loading, "load", gpu.load)
    x = randn(5, 2, 8)
    assert_same_bits(lif(x, backend="native")[0], lif(x, backend="torch")[0])


def test_an_interrupt_while_a_kernel_is_compiled_is_an_error_of_the_call(gpu, monkeypatch):
    def interrupt(program: programs.Program, device: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "load", interrupt)
    with pytest.raises(RuntimeError, match="KeyboardInterrupt"):
        functional.lif(randn(5, 2, 8), tau=11.0, v_reset=None, backend="native")


def test_a_kernel_is_not_loaded_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    program = programs.Program("scan.cu", "snn::cuda::forward_kernel<float>")
    with pytest.raises(RuntimeError, match="call the network once before"):
        loading.machine_code(program, 0)


def test_a_gpu_that_nvrtc_does_not_know_gets_the_librarys_kernels(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (3, 5))
    x = randn(5, 2, 8)
    with pytest.warns(FallbackWarning, match="the library's general kernels: NVRTC 13.0 can't"):
        spikes = functional.lif(x, tau=7.0, v_reset=-1.0, backend="native")[0]
    assert_same_bits(spikes, functional.lif(x, tau=7.0, v_reset=-1.0, backend="torch")[0])
    assert not gpu.programs
    assert [found[1] for found in kernels._kernels.values() if found[0]] == [headers.NUMBERS["LIF"]]
