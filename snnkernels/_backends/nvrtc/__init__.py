"""CUDA kernels by NVRTC: one at a time, for one configuration each, when a call first needs it.

`toolkit` finds NVRTC and CuPy, and `programs` says what is compiled from which headers and keeps
the results in the cache. `loading` gives them to the native library. The rest is the ``"cupy"``
backend, for machines without nvcc: `structs` lays out a call as ``csrc/include`` declares it,
`launcher` puts kernels on a GPU, and `host` has the operators that PyTorch sees.
"""

import torch

from ..._build.specification import DeviceType, NeuronSource
from .. import operators
from ..base import KernelBackend


class Cupy(KernelBackend):
    name = "cupy"
    summary = "the fused kernels for GPUs, without nvcc"
    devices = ("cuda",)
    namespace = "snnkernels_cupy"

    def __init__(self) -> None:
        self._library: torch.library.Library | None = None

    def load(self, device_type: DeviceType) -> str:
        from . import toolkit

        compiler = toolkit.require()
        self.define("CUDA")
        return f"CuPy with {compiler}"

    def define(self, dispatch_key: str) -> None:
        """Define the operators and implement them for a dispatch key; acts once."""
        from . import host

        if self._library is None:
            self._library = host.define(self.namespace, dispatch_key)
            operators.register(self.namespace)

    def outlook(self, device_type: DeviceType) -> str:
        from . import toolkit

        return f"CuPy with {toolkit.require()}, each kernel at its first use"

    def add_compiled_neuron(
        self, device_type: DeviceType, neuron: NeuronSource, *, spare: bool
    ) -> None:
        from . import host

        host.add_compiled_neuron(neuron)
