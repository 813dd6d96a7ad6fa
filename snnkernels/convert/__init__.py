"""Networks of other libraries, with their neurons replaced by fused ones.

One file for each library says which of its neurons can be met, and how; :data:`LIBRARIES` lists
them. No library is imported: its neurons are known by the module and the name of their class.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

from torch import nn

from .. import _checks
from . import others, spikingjelly
from ._rules import CannotConvert, Library

__all__ = ["ConversionWarning", "convert"]

LIBRARIES: tuple[Library, ...] = (spikingjelly.LIBRARY, *others.LIBRARIES)


class ConversionWarning(UserWarning):
    """Neurons that :func:`convert` left as they were."""


def convert(net: nn.Module, *, inplace: bool = False, strict: bool = False) -> nn.Module:
    """Replace the neurons of another library by those of :mod:`snnkernels.neuron`.

    Outputs, gradients and carried states stay the same: a neuron is replaced only where its
    equations are met exactly. Learnt parameters stay the same objects (in a copy, their copies),
    with the same names in ``state_dict``; surrogate, step mode, training mode and hooks are kept.

    SpikingJelly: IF, LIF and ParametricLIF of ``activation_based`` and ``clock_driven``, single and
    multi-step. Neurons of snnTorch, Norse and sinabs have other equations or another calling form,
    and are left alone; docs/moving.md says what to write instead.

    Args:
        net: a network, or one neuron.
        inplace: change ``net`` itself instead of a copy. A neuron that is ``net`` itself cannot
            change in place: use what is returned.
        strict: raise for a neuron that is left alone, before anything changes.

    Returns:
        The network with its neurons replaced.

    Warns:
        ConversionWarning: neurons were left alone; it names each, and why.

    Raises:
        TypeError: ``net`` is no module.
        ValueError: ``strict``, and a neuron cannot be replaced.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {_checks.describe(net)}")
    net = net if inplace else copy.deepcopy(net)
    made: dict[int, nn.Module] = {}
    left: list[str] = []
    for name, module, library in _neurons(net):
        try:
            made[id(module)] = library.replacement(module)
        except CannotConvert as reason:
            left.append(f"{name or 'net'} ({_full_name(module)}): {reason}")
    if left:
        listed = "\n  ".join(left)
        if strict:
            raise ValueError(f"neurons that cannot be converted:\n  {listed}")
        warnings.warn(f"neurons left as they were:\n  {listed}", ConversionWarning, stacklevel=2)
    return _replaced(net, made)


def _neurons(net: nn.Module) -> Iterator[tuple[str, nn.Module, Library]]:
    """Every neuron of a known library, once, and its name in the net."""
    for name, module in net.named_modules():
        for library in LIBRARIES:
            if library.has(module):
                yield name, module, library


def _replaced(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = _replaced(child, made)
    return module


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"
