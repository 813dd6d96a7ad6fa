"""What modules of a spiking network have in common: a step mode, and memories that can be reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

from . import checks


class StepModeModule(nn.Module):
    """A module with a ``step_mode``: "s" for inputs [B, ...], one step a call; "m" for [T, B, ...].

    ``functional.set_step_mode`` sets it.
    """

    _step_mode = "s"

    @property
    def step_mode(self) -> str:
        return self._step_mode

    @step_mode.setter
    def step_mode(self, value: str) -> None:
        self._step_mode = checks.choice("step_mode", value, ("s", "m"))


class MemoryModule(nn.Module):
    """A module that carries values from call to call until ``reset()``."""

    def register_memory(self, name: str, value: Any) -> None:
        """Add an attribute that belongs to the state: ``reset()`` puts it back to ``value``.

        Tensors in it move with ``.to()``, and are detached by ``detach()``, copies and pickles.
        """
        self.__dict__.setdefault("_initial_memories", {})[name] = value
        setattr(self, name, value)

    def reset(self) -> None:
        """Back to the initial state."""
        for name, value in self._memories().items():
            self._put(name, value)

    def _put(self, name: str, value: Any) -> None:
        """Set an attribute without ``nn.Module``'s search for parameters, which takes microseconds.

        Where the attribute is one of those, or is not there yet, it is set as usual.
        """
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self, name, value)

    def _memories(self) -> dict[str, Any]:
        """The initial values by name."""
        memories: dict[str, Any] = self.__dict__.get("_initial_memories", {})
        return memories

    def detach(self) -> None:
        """Cut the carried states off their history, for truncated backpropagation through time."""
        for name in self._memories():
            setattr(self, name, detached(getattr(self, name)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name in self._memories():
            value = getattr(self, name)
            if isinstance(value, Tensor):
                moved = fn(value)
                setattr(self, name, moved.to(checks.compute_dtype(moved.dtype)))
        return self

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles see: carried values without their history."""
        return {**self.__dict__, **{n: detached(getattr(self, n)) for n in self._memories()}}


def detached(value: Any) -> Any:
    """A tensor without its history; anything else as it is."""
    return value.detach() if isinstance(value, Tensor) else value
