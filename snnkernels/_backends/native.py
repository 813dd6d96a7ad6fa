"""The ``"native"`` backend: the compiled library, and compiled neurons as libraries beside it."""

from __future__ import annotations

import ctypes

from .. import _build
from .._build.specification import DEVICE_TYPES, DeviceType, NeuronSource
from . import operators
from .base import KernelBackend


class Native(KernelBackend):
    name = "native"
    summary = "the fused kernels"
    devices = DEVICE_TYPES
    namespace = "snnkernels"

    def __init__(self) -> None:
        self._added: set[tuple[DeviceType, str]] = set()

    def load(self, device_type: DeviceType) -> str:
        library = _build.load(device_type)
        operators.register(self.namespace)
        return f"{library.path} ({library.origin})"

    def outlook(self, device_type: DeviceType) -> str:
        return _build.outlook(device_type)

    def add_compiled_neuron(self, device_type: DeviceType, neuron: NeuronSource) -> None:
        if (device_type, neuron.name) in self._added:
            return
        library = ctypes.CDLL(str(_build.compiled_neuron_path(device_type, neuron)))
        library.snn_compiled_neuron.restype = ctypes.c_void_p
        add = ctypes.CDLL(str(_build.load(device_type).path)).snn_add_compiled_neuron
        add.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        add.restype = None
        add(neuron.name.encode(), library.snn_compiled_neuron())
        self._added.add((device_type, neuron.name))
