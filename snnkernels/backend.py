"""Which backend runs a call, and why.

``native`` is the compiled library (prebuilt, cached or built at first use), ``torch`` the reference
in plain PyTorch. ``auto`` takes native where it can be had and otherwise falls back to torch with
one warning that gives the reason.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import _checks

if TYPE_CHECKING:
    from .build.description import DeviceType

BACKENDS = ("auto", "native", "torch")
NATIVE_DEVICES: tuple[DeviceType, ...] = ("cpu", "cuda")


class FallbackWarning(UserWarning):
    """A call runs on the slower reference path; the message says why and what to do."""


@dataclass(frozen=True)
class Choice:
    """The backend that was chosen for a device, and the reason in one sentence."""

    name: str
    reason: str


def check(backend: object) -> str:
    return _checks.choice("backend", backend, BACKENDS)


def resolve(backend: str, device_type: str) -> Choice:
    """The backend that a request for ``backend`` gets on ``device_type``.

    Builds or loads the native library if that is what it takes.

    Raises:
        ValueError: if the backend is unknown, or native has no kernels for the device.
        snnkernels.build.BuildError: if native was asked for by name and cannot be had.
    """
    if check(backend) == "torch":
        return Choice("torch", "asked for by name")
    if device_type not in NATIVE_DEVICES:
        if backend == "native":
            raise ValueError(
                f"backend='native' has kernels for {' and '.join(NATIVE_DEVICES)}, "
                f"got a tensor on {device_type!r}"
            )
        return Choice("torch", f"there are no kernels for {device_type!r}")
    return _native(device_type, fall_back=backend == "auto")


def _native(device_type: DeviceType, *, fall_back: bool) -> Choice:
    from . import build, ops

    try:
        library = build.load(device_type)
    except build.BuildError as error:
        if not fall_back:
            raise
        return Choice("torch", str(error))
    ops.register()
    return Choice("native", f"{library.path} ({library.origin})")


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


def name_for(backend: str, device_type: str) -> str:
    """:func:`resolve`, remembered, by name alone, warning once per device where auto falls back."""
    key = (backend, device_type)
    name = _settled.get(key)
    if name is None:
        choice = resolve(backend, device_type)
        if choice.name != backend and choice.name == "torch":
            warnings.warn(
                f"snnkernels runs on the plain-PyTorch reference for {device_type!r}: "
                f"{choice.reason}",
                FallbackWarning,
                stacklevel=2,
            )
        name = _settled[key] = choice.name
    return name


# torch.compile evaluates this at trace time instead of tracing into the loader;
# torch.compiler.assume_constant_result sets the same mark but imports all of Dynamo.
name_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def explain() -> dict[str, Choice]:
    """What ``auto`` chooses on each device this machine has, without building anything."""
    import torch

    from . import build

    choices: dict[str, Choice] = {}
    for device_type in NATIVE_DEVICES:
        if device_type == "cuda" and not torch.cuda.is_available():
            choices[device_type] = Choice("none", "PyTorch sees no CUDA device")
        else:
            choices[device_type] = Choice(*build.outlook(device_type))
    return choices
