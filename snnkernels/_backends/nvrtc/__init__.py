"""The ``"cupy"`` backend: the CUDA kernels by NVRTC, for machines with a GPU and without nvcc.

`toolkit` finds CuPy and NVRTC, `programs` says what is compiled from which headers and keeps the
results in the cache, `structs` lays out a call as ``csrc/include`` declares it, `launcher` puts
kernels on a GPU, and `host` has the operators that PyTorch sees.
"""

from ..._build.description import DeviceType, NeuronSource
from ..base import Backend


class Cupy(Backend):
    name = "cupy"
    summary = "the fused kernels for GPUs, without nvcc"
    devices = ("cuda",)
    namespace = "snnkernels_cupy"

    def load(self, device_type: DeviceType) -> str:
        from . import host, toolkit

        compiler = toolkit.require()
        host.define(self.namespace, "CUDA")
        return f"CuPy with {compiler}"

    def outlook(self, device_type: DeviceType) -> str:
        from . import toolkit

        return f"CuPy with {toolkit.require()}, each kernel at its first use"

    def add_compiled_neuron(self, device_type: DeviceType, neuron: NeuronSource) -> None:
        from . import host

        host.add_compiled_neuron(neuron)
