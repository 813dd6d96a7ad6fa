"""Networks of other libraries, with their neurons replaced by fused ones.

One file for each library says which of its neurons can be met, and how; ``libraries`` lists
them. No library is imported: its neurons are known by the module and the name of their class.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from functools import cache
from typing import Any

from torch import Tensor, nn

from .._core import checks
from .._core.torch_private import submodules
from ._rules import CannotConvert, ForeignLibrary

__all__ = ["ConversionWarning", "convert"]


@cache
def libraries() -> tuple[ForeignLibrary, ...]:
    """All of them; their neurons are defined here, at the first conversion, not at import."""
    from . import norse, sinabs, snntorch, spikingjelly

    return tuple(each.LIBRARY for each in (spikingjelly, snntorch, norse, sinabs))


class ConversionWarning(UserWarning):
    """Neurons that ``convert`` left as they were."""


def convert(
    net: nn.Module, *, inplace: bool = False, strict: bool = False, verbose: bool = False
) -> nn.Module:
    """Replace the neurons of another library by fused ones that do the same.

    Outputs, gradients and carried states stay the same: a neuron is replaced only where its
    equations are met. Its replacement is called as it was, and gives what it gave. Learnt
    parameters stay the same objects (in a copy, their copies), with the same names in
    ``state_dict``; surrogate, step mode, training mode and hooks are kept.

    SpikingJelly: IF, LIF and ParametricLIF of ``activation_based`` and ``clock_driven``, single and
    multi-step. snnTorch: Leaky, Synaptic. Norse: LIFBoxCell, LIFCell, LIF. sinabs: LIF, IAF and
    their Squeeze variants. docs/moving.md says what to know about each.

    Args:
        net: a network, or one neuron.
        inplace: change ``net`` itself instead of a copy. A neuron that is ``net`` itself cannot
            change in place: use what is returned.
        strict: raise for a neuron that is left alone, before anything changes.
        verbose: print each neuron that is replaced, and by what.

    Returns:
        The network with its neurons replaced.

    Warns:
        ConversionWarning: neurons were left alone; it names each, and why.

    Raises:
        TypeError: ``net`` is no module.
        ValueError: ``strict``, and a neuron cannot be replaced.
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"net must be a torch.nn.Module, got {checks.describe(net)}")
    net = net if inplace else _copy(net)
    made: dict[int, nn.Module] = {}
    left: list[str] = []
    for name, module, library in _neurons(net):
        label = f"{name or 'net'} ({_full_name(module)})"
        try:
            made[id(module)] = library.replacement(module)
        except CannotConvert as reason:
            left.append(f"{label}: {reason}")
            continue
        if verbose:
            print(f"{label}: {_full_name(made[id(module)])}")
    if left:
        listed = "\n  ".join(left)
        if strict:
            raise ValueError(f"neurons that cannot be converted:\n  {listed}")
        warnings.warn(f"neurons left as they were:\n  {listed}", ConversionWarning, stacklevel=2)
    return _replaced(net, made)


def _copy(net: nn.Module) -> nn.Module:
    """A deep copy in which carried states are cut off their history, which cannot be copied."""
    memo: dict[int, Any] = {}
    for module in net.modules():
        for value in (*vars(module).values(), *module.buffers(recurse=False)):
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    twin = copy.deepcopy(net, memo)
    for old, new in zip(net.modules(), twin.modules(), strict=True):
        new.training = old.training
    return twin


def _neurons(net: nn.Module) -> Iterator[tuple[str, nn.Module, ForeignLibrary]]:
    """Every neuron of a known library, once, and its name in the net."""
    for name, module in net.named_modules():
        for library in libraries():
            if library.has(module):
                yield name, module, library


def _replaced(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    if id(module) in made:
        return made[id(module)]
    for name, child in submodules(module).items():
        if child is not None:
            submodules(module)[name] = _replaced(child, made)
    return module


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"
