"""Which backend runs a call, and why.

``native`` is the compiled library (prebuilt, cached or built at first use), ``cupy`` compiles the
same CUDA kernels by NVRTC, ``torch`` is the reference in plain PyTorch. ``auto`` takes the first of
them that can be had, and where that is torch warns once, with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .._build import BuildError
from .._build.locks import lock_of_process
from .._build.specification import DEVICE_TYPES, DeviceType
from .._core import checks
from .._core.torch_private import constant_when_compiled
from .base import Backend, KernelBackend
from .native import Native
from .nvrtc import Cupy
from .plain import Torch

BACKENDS: dict[str, Backend] = {each.name: each for each in (Native(), Cupy(), Torch())}
"""By their names, in the order in which auto tries those with kernels."""

KERNEL_DEVICES: dict[str, tuple[DeviceType, ...]] = {
    "auto": DEVICE_TYPES,
    **{name: backend.devices for name, backend in BACKENDS.items()},
}
"""What the argument ``backend`` may be, and the device types for which it may get kernels."""


class FallbackWarning(UserWarning):
    """A call runs on a slower path; the message says which, why and what to do."""


@dataclass(frozen=True)
class Choice:
    """The backend that was chosen for a device, what it is, and why not those before it."""

    name: str
    reason: str


def check_backend(backend: object) -> str:
    return checks.choice("backend", backend, KERNEL_DEVICES)


def help_text() -> str:
    """What the backends are, for the help of a command line."""
    return "; ".join(f"{name}: {backend.summary}" for name, backend in BACKENDS.items())


def resolve(backend: str, device_type: str) -> Choice:
    """The backend that a request for ``backend`` gets on ``device_type``.

    Builds or loads kernels if that is what it takes.

    Raises:
        ValueError: if the backend is unknown, or was asked for by name and has no kernels for the
            device.
        snnkernels.BuildError: if it was asked for by name and cannot be had.
    """
    with _lock:
        if check_backend(backend) == "auto":
            return _first(lambda each, device: each.load(device), device_type)
        asked = BACKENDS[backend]
        if not isinstance(asked, KernelBackend):
            return Choice(backend, asked.summary)
        if device_type not in asked.devices:
            raise ValueError(
                f"backend={backend!r} has kernels for {' and '.join(asked.devices)}, "
                f"got a tensor on {device_type!r}"
            )
        return Choice(backend, asked.load(device_type))


def _first(ready: Callable[[KernelBackend, DeviceType], str], device_type: str) -> Choice:
    """The first backend with kernels that is ready for a device, else plain PyTorch."""
    reasons = []
    for backend in BACKENDS.values():
        if not isinstance(backend, KernelBackend) or device_type not in backend.devices:
            continue
        try:
            reasons.append(ready(backend, device_type))
            return Choice(backend.name, "\n".join(reasons))
        except BuildError as error:
            reasons.append(str(error))
    return Choice(Torch.name, "\n".join(reasons) or f"there are no kernels for {device_type!r}")


_warned: set[str] = set()


def warn_once(reason: str, path: str = "the plain-PyTorch reference") -> None:
    """Say that a call runs on a slower path, the first time for each reason."""
    if reason not in _warned:
        _warned.add(reason)
        warnings.warn(
            f"snnkernels runs on {path}: {reason}",
            FallbackWarning,
            stacklevel=3,
        )


def fall_back(backend: str, reason: str) -> None:
    """Let plain PyTorch run what has no kernel on any backend; auto says so once.

    Raises:
        ValueError: a backend with kernels was asked for by name.
    """
    if check_backend(backend) == "auto":
        warn_once(reason)
    elif KERNEL_DEVICES[backend]:
        raise ValueError(f"backend={backend!r}: {reason}; use backend='auto' or 'torch'")


_settled: dict[tuple[str, str], str] = {}
_lock = lock_of_process()


def chosen(backend: str, device_type: str) -> Backend:
    """``resolve``, remembered, warning once per device where auto falls back."""
    return BACKENDS[name_for(backend, device_type)]


@constant_when_compiled
def name_for(backend: str, device_type: str) -> str:
    """The name of what is ``chosen``."""
    key = (backend, device_type)
    name = _settled.get(key)
    if name is None:
        with _lock:
            name = _settled.get(key) or _settle(backend, device_type)
            _settled[key] = name
    return name


def _settle(backend: str, device_type: str) -> str:
    choice = resolve(backend, device_type)
    if backend == "auto" and choice.name == Torch.name:
        warnings.warn(
            f"snnkernels runs on the plain-PyTorch reference for {device_type!r}: {choice.reason}",
            FallbackWarning,
            stacklevel=4,
        )
    return choice.name


def explain() -> dict[str, Choice]:
    """What ``auto`` chooses on each device this machine has, without building anything."""
    return {
        device_type: Choice("none", "PyTorch sees no CUDA device")
        if device_type == "cuda" and not torch.cuda.is_available()
        else _first(lambda each, device: each.outlook(device), device_type)
        for device_type in DEVICE_TYPES
    }
