"""What a kernel is launched with, recorded where no GPU is needed."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from snnkernels._backends.nvrtc import launcher
from snnkernels._backends.nvrtc.structs import Grid

ADDRESS = 4096


class TorchStream:
    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, ADDRESS


@pytest.mark.filterwarnings("error")
def test_a_kernel_goes_onto_the_stream_that_torch_is_on(monkeypatch):
    cuda = pytest.importorskip("cupy", exc_type=ImportError).cuda
    launches = []
    monkeypatch.setattr(cuda, "Device", nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: TorchStream())
    monkeypatch.setattr(
        launcher,
        "_load",
        lambda program, device: (
            lambda grid, block, arguments, stream: launches.append(
                (grid, block, arguments, stream.ptr)
            )
        ),
    )
    monkeypatch.setattr(launcher, "_kernels", {})
    call = np.zeros((), np.dtype([("lanes", np.int64)]))
    launcher.launch("program", call, Grid(width=1, plain=True, threads=128, blocks=7), 0)
    assert launches == [((7,), (128,), (call,), ADDRESS)]
