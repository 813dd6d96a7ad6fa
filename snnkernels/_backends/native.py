"""The ``"native"`` backend: the compiled library, and compiled neurons as libraries beside it."""

from __future__ import annotations

import ctypes

from .. import _build
from .._build.specification import DEVICE_TYPES, DeviceType, NeuronSource
from . import operators
from .base import KernelBackend

BY_NVRTC: DeviceType = "cuda"
"""The device type for which NVRTC compiles, where it can."""


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

    def add_compiled_neuron(
        self, device_type: DeviceType, neuron: NeuronSource, *, spare: bool
    ) -> None:
        if (device_type, neuron.name) in self._added:
            return
        library = ctypes.CDLL(str(_build.load(device_type).path))
        if device_type != BY_NVRTC or not _added_by_nvrtc(library, neuron, needed=spare):
            _add_built(library, device_type, neuron)
        self._added.add((device_type, neuron.name))


def _added_by_nvrtc(library: ctypes.CDLL, neuron: NeuronSource, *, needed: bool) -> bool:
    """Let a library know a neuron whose kernels NVRTC compiles as they are needed, if it can.

    Raises:
        snnkernels.BuildError: it cannot, and is ``needed``.
    """
    from .nvrtc import loading

    try:
        loading.add(library, neuron)
        return True
    except _build.BuildError:
        if needed:
            raise
        return False


def _add_built(library: ctypes.CDLL, device_type: DeviceType, neuron: NeuronSource) -> None:
    """Let a library know a neuron whose kernels the compiler of the library compiles, all now."""
    built = ctypes.CDLL(str(_build.compiled_neuron_path(device_type, neuron)))
    built.snn_compiled_neuron.restype = ctypes.c_void_p
    add = library.snn_add_compiled_neuron
    add.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
    add.restype = None
    add(neuron.name.encode(), built.snn_compiled_neuron())
