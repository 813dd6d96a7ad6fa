"""Surrogate gradients: a Heaviside step forward, a smooth gradient backward.

Each class is a module that works on any floating-point tensor: ``surrogate.ATan(alpha=2.0)(x)`` is
1 where ``x >= 0`` and 0 elsewhere, and its gradient is ``gradient(x)``. With ``spiking=False`` it
is the primitive of that gradient instead, a smooth function.

The formulas here are plain PyTorch and serve as the reference for the kernels, which hold their own
(``csrc/include/snnkernels/surrogates.h``) under the same names.

A surrogate of your own is made by ``custom``, or is a subclass of ``SurrogateFunction``;
kernels are compiled with it. Any other module from tensor to tensor, such as one around a
``torch.autograd.Function`` or a subclass with a ``forward`` of its own, runs on the reference path.
"""

from typing import TYPE_CHECKING

from .._core.firing import use_outside_of_nodes
from .base import SurrogateFunction as SurrogateFunction
from .base import heaviside as heaviside
from .built_in import *  # noqa: F403
from .built_in import Sigmoid
from .of_functions import _rebuild_custom as _rebuild_custom
from .of_functions import custom as custom

BUILT_IN: dict[type[SurrogateFunction], str] = {
    cls: cls.__name__ for cls in SurrogateFunction.__subclasses__()
}
"""The surrogates that the kernels hold, by the name under which they hold them."""

if not TYPE_CHECKING:  # type checkers see the classes themselves
    __all__ = ["SurrogateFunction", "custom", "heaviside", *sorted(BUILT_IN.values())]

use_outside_of_nodes(Sigmoid())
