"""Spiking neurons as modules that sit in any ``nn.Sequential``.

In step mode "m" a neuron takes [T, B, ...] and runs all T steps in one kernel; in step mode "s" it
takes [B, ...] and advances one step. Either way its state carries over to the next call until
``reset()`` (``functional.reset_net(net)`` for a whole network).

Below, X is the input of a step, V the membrane potential before it, H the charged potential, S the
spike, V' the potential after the step. Where ``v_reset`` is a number or tensor the reset is hard,
V' = (1 - S) H + S v_reset, and V starts there; ``v_reset=None`` makes it soft,
V' = H - S v_threshold, and V starts at 0. With ``detach_reset`` S is a constant in the reset. The
arguments that all have are those of ``BaseNode``.

To add a neuron, write its charge or its whole step here: the function is its reference, and its
kernels follow. A neuron of your own is made alike, by ``snnkernels.compile_neuron``. What is
not a step on single numbers subclasses ``BaseNode``.
"""

from typing import TYPE_CHECKING

from .adaptive import *  # noqa: F403
from .base import BaseNode as BaseNode
from .gated import *  # noqa: F403
from .leaky import *  # noqa: F403
from .nonlinear import *  # noqa: F403

if not TYPE_CHECKING:  # type checkers see the classes themselves
    __all__ = [name for name in dir() if name.endswith("Node")]
