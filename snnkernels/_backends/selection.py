"""Which backend runs a call, and why.

``native`` is the compiled library (prebuilt, cached or built at first use), ``cupy`` compiles the
same CUDA kernels by NVRTC, ``torch`` is the reference in plain PyTorch. ``auto`` takes the first of
them that can be had, and where that is torch warns once, with the reason.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import cast

import torch

from .. import _build
from .._build.description import DeviceType
from .._build.locks import lock_of_process
from .._core import checks
from .._core.torch_private import constant_when_compiled
from . import operators

BACKENDS = ("auto", "native", "cupy", "torch")
KERNEL_DEVICES: dict[str, tuple[DeviceType, ...]] = {"native": ("cpu", "cuda"), "cupy": ("cuda",)}
"""The backends that run kernels, in the order in which auto tries them, and where."""


class FallbackWarning(UserWarning):
    """A call runs on the slower reference path; the message says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """The backend that was chosen for a device, and the reason in one sentence."""

    name: str
    reason: str


def check_backend(backend: object) -> str:
    return checks.choice("backend", backend, BACKENDS)


def resolve(backend: str, device_type: str) -> Choice:
    """The backend that a request for ``backend`` gets on ``device_type``.

    Builds or loads kernels if that is what it takes.

    Raises:
        ValueError: if the backend is unknown, or was asked for by name and has no kernels for the
            device.
        snnkernels.BuildError: if it was asked for by name and cannot be had.
    """
    if check_backend(backend) == "torch":
        return Choice("torch", "asked for by name")
    if backend != "auto":
        devices = KERNEL_DEVICES[backend]
        if device_type not in devices:
            raise ValueError(
                f"backend={backend!r} has kernels for {' and '.join(devices)}, "
                f"got a tensor on {device_type!r}"
            )
        return Choice(backend, _load(backend, device_type))
    return _first_to_load(device_type)


def _first_to_load(device_type: str) -> Choice:
    problems = []
    for name, devices in KERNEL_DEVICES.items():
        if device_type not in devices:
            continue
        try:
            return Choice(name, _load(name, device_type))
        except _build.BuildError as error:
            problems.append(str(error))
    return Choice("torch", "\n".join(problems) or f"there are no kernels for {device_type!r}")


def _load(name: str, device_type: str) -> str:
    """Make a backend's operators ready; return what they are, for people."""
    if name == "cupy":
        from . import nvrtc

        return nvrtc.load()
    from .. import _build

    library = _build.load(cast("DeviceType", device_type))
    with _lock:
        operators.register(name)
    return f"{library.path} ({library.origin})"


_warned: set[str] = set()


def warn_once(reason: str) -> None:
    """Say that a call runs on the reference path, the first time for each reason."""
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"snnkernels runs on the plain-PyTorch reference: {reason}",
            FallbackWarning,
            stacklevel=2,
        )


_settled: dict[tuple[str, str], str] = {}
_lock = lock_of_process()


@constant_when_compiled
def name_for(backend: str, device_type: str) -> str:
    """:func:`resolve`, remembered, by name alone, warning once per device where auto falls back."""
    key = (backend, device_type)
    name = _settled.get(key)
    if name is None:
        with _lock:
            name = _settled.get(key) or _settle(backend, device_type)
            _settled[key] = name
    return name


def _settle(backend: str, device_type: str) -> str:
    choice = resolve(backend, device_type)
    if choice.name != backend and choice.name == "torch":
        warnings.warn(
            f"snnkernels runs on the plain-PyTorch reference for {device_type!r}: {choice.reason}",
            FallbackWarning,
            stacklevel=3,
        )
    return choice.name


def explain() -> dict[str, Choice]:
    """What ``auto`` chooses on each device this machine has, without building anything."""
    choices: dict[str, Choice] = {}
    for device_type in KERNEL_DEVICES["native"]:
        if device_type == "cuda" and not torch.cuda.is_available():
            choices[device_type] = Choice("none", "PyTorch sees no CUDA device")
        else:
            choices[device_type] = _outlook(device_type)
    return choices


def _outlook(device_type: DeviceType) -> Choice:
    native = Choice(*_build.outlook(device_type))
    if native.name == "native" or device_type not in KERNEL_DEVICES["cupy"]:
        return native
    from . import nvrtc

    other = Choice(*nvrtc.outlook())
    return Choice(other.name, f"{native.reason}\n{other.reason}")
