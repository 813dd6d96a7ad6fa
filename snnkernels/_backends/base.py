"""What a backend is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from .._build.specification import DeviceType, NeuronSource


class Backend(ABC):
    """One way to run calls; ``selection`` has an instance of each.

    Attributes:
        name: what users ask for it by.
        summary: what it is, for a line of help.
        devices: the device types that it has kernels for; one without any runs on every device.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    devices: ClassVar[tuple[DeviceType, ...]] = ()

    @property
    @abstractmethod
    def operators(self) -> Any:
        """Its operators by their names in ``csrc/schemas.h``, once it is loaded."""


class KernelBackend(Backend):
    """One with kernels.

    Attributes:
        namespace: where ``torch.ops`` has its operators, once it is loaded. One with kernels for
            CPUs has all, any other those that are not for CPUs alone.
    """

    namespace: ClassVar[str]

    @property
    def operators(self) -> Any:
        return getattr(torch.ops, self.namespace)

    @abstractmethod
    def load(self, device_type: DeviceType) -> str:
        """Make its operators ready for a device, registered; return what they are, for people.

        Raises:
            snnkernels.BuildError: they cannot be had; the message says why and what mends it.
        """

    @abstractmethod
    def outlook(self, device_type: DeviceType) -> str:
        """What ``load`` would find, or raise; builds and loads nothing."""

    @abstractmethod
    def add_compiled_neuron(
        self, device_type: DeviceType, neuron: NeuronSource, *, spare: bool
    ) -> None:
        """Let its loaded operators know a neuron compiled by itself, by its name's number.

        Args:
            spare: whether the library has kernels that do the same, so that no long build is due.

        Raises:
            snnkernels.BuildError: it cannot be built or loaded.
        """
