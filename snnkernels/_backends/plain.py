"""The ``"torch"`` backend: a neuron's step in plain PyTorch, without kernels, on every device."""

from __future__ import annotations

from typing import Any

from .. import reference
from .._build.description import DeviceType, NeuronSource
from .base import Backend


class Torch(Backend):
    name = "torch"
    summary = "plain PyTorch"

    @property
    def operators(self) -> Any:
        return reference

    def load(self, device_type: DeviceType) -> str:
        return self.summary

    def outlook(self, device_type: DeviceType) -> str:
        return self.summary

    def add_compiled_neuron(self, device_type: DeviceType, neuron: NeuronSource) -> None:
        """Nothing is added: the step itself runs."""
