"""How a library's neurons are told from other modules and replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .. import surrogate
from .._core.firing import spike
from .._core.torch_private import copy_hooks
from ..neuron.base import BaseNode

Rule = Callable[[Any], BaseNode]


class CannotConvert(Exception):
    """Why a neuron cannot be replaced."""


@dataclass(frozen=True)
class ForeignLibrary:
    """A library's neurons.

    Args:
        package: its top-level package.
        bases: classes of it that only neurons derive from.
        rules: by class name, what makes the replacement of a neuron.
        reason: why all others are left alone.
    """

    package: str
    bases: Sequence[str]
    rules: Mapping[str, Rule] = field(default_factory=dict)
    reason: str = "its equations are not among those that can be met exactly"

    def has(self, module: nn.Module) -> bool:
        """Whether a module is a neuron of the library, or derives from one."""
        return any(self._owns(cls) and cls.__name__ in self.bases for cls in type(module).__mro__)

    def replacement(self, module: nn.Module) -> BaseNode:
        """A fused neuron that does the same.

        Raises:
            CannotConvert: with the reason.
        """
        cls = type(module)
        if not self._owns(cls):
            raise CannotConvert("a class of your own, whose equations are not known")
        if cls.__name__ not in self.rules:
            raise CannotConvert(self.reason)
        node = self.rules[cls.__name__](module)
        node.train(module.training)
        copy_hooks(module, node)
        return node

    def _owns(self, cls: type) -> bool:
        return cls.__module__.partition(".")[0] == self.package


def surrogate_of(function: object, package: str) -> surrogate.SurrogateFunction:
    """Our surrogate for another library's of the same name and parameters.

    Raises:
        CannotConvert: there is none.
    """
    kind = type(function)
    ours = getattr(surrogate, kind.__name__, None)
    owned = kind.__module__.partition(".")[0] == package
    if not owned or not isinstance(ours, type) or ours not in surrogate.BUILT_IN:
        raise CannotConvert(f"its surrogate {kind.__name__} is not among snnkernels.surrogate")
    missing = [name for name in ours.parameter_names if not hasattr(function, name)]
    if missing:
        raise CannotConvert(f"its surrogate {kind.__name__} has no {', '.join(missing)}")
    values = {name: getattr(function, name) for name in ours.parameter_names}
    made: surrogate.SurrogateFunction = ours(**values, spiking=getattr(function, "spiking", True))
    return made


def fire_above(u: Tensor) -> Tensor:
    """A step's spikes where ``u > 0``, with the surrogate's gradient everywhere."""
    return spike(u) - (u == 0).to(u)


def floating(value: Tensor) -> Tensor:
    """A parameter or buffer as it is, whole numbers in float32."""
    if value.is_floating_point():
        return value
    wide = value.float()
    return nn.Parameter(wide, requires_grad=False) if isinstance(value, nn.Parameter) else wide


def along_last(values: Mapping[str, Any], x_seq: Tensor) -> dict[str, Any]:
    """Parameters of several values along the last dimensions of a step, by PyTorch's own rule.

    Ours takes one dimension for the channels.
    """
    rank = x_seq.dim() - 1

    def aligned(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.dim():
            return value
        return value.reshape(*[1] * (rank - value.dim()), *value.shape)

    return {name: aligned(value) for name, value in values.items()}
