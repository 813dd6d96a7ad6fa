"""What every neuron module has: step mode, backend, carried states, parameters, monitor."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from . import _checks, engine, surrogate
from ._modules import MemoryModule, StepModeModule, detached
from .backend import check as _check_backend
from .engine import Parameter


class Node(StepModeModule, MemoryModule):
    """A neuron as a module, whatever its equations are. Its arguments are those of its subclasses.

    Carried states are attributes: numbers until the first call, then tensors [B, ...].
    """

    monitored: ClassVar[tuple[str, ...]] = ()
    """What ``monitor`` holds where ``monitor_state`` is set."""

    surrogate_function: nn.Module

    v_seq: Tensor | None
    monitor: dict[str, list[Any]]

    def __init__(
        self,
        surrogate_function: nn.Module | None,
        step_mode: str,
        backend: str,
        store_v_seq: bool,
        monitor_state: bool,
    ) -> None:
        super().__init__()
        if surrogate_function is None:
            surrogate_function = surrogate.Sigmoid()
        engine.check_surrogate(surrogate_function)
        self.surrogate_function = surrogate_function
        self.step_mode = step_mode
        self.backend = backend
        self.store_v_seq = _checks.boolean("store_v_seq", store_v_seq)
        self.monitor_state = _checks.boolean("monitor_state", monitor_state)

    def _set_parameter(self, name: str, value: Parameter, **limits: Any) -> None:
        """Keep a number as an attribute, an nn.Parameter as one, another tensor as a buffer."""
        if isinstance(value, nn.Parameter):
            self.register_parameter(name, value)
        elif isinstance(value, Tensor):
            self.register_buffer(name, value)
        else:
            setattr(self, name, _checks.number(name, value, **limits))

    @property
    def _surrogate(self) -> nn.Module:
        """``surrogate_function`` without ``nn.Module``'s search, which takes a microsecond."""
        module = self._modules.get("surrogate_function")
        return self.surrogate_function if module is None else module

    @property
    def backend(self) -> str:
        return self._backend

    @backend.setter
    def backend(self, value: str) -> None:
        self._backend = _check_backend(value)

    def reset(self) -> None:
        """Back to the initial state; clears ``v_seq`` and the monitor."""
        super().reset()
        self._put("v_seq", None)
        self._put("monitor", {name: [] for name in self.monitored})

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles see: carried states without their history."""
        return {**super().__getstate__(), "v_seq": detached(self.v_seq)}

    def _replicate_for_data_parallel(self) -> Self:
        replica = super()._replicate_for_data_parallel()
        replica.monitor = {key: list(values) for key, values in self.monitor.items()}
        return replica

    def _sequence_of(self, x: Tensor) -> Tensor:
        """The input, checked, with its time axis: a step [B, ...] becomes [1, B, ...]."""
        multi = self.step_mode == "m"
        leading, rank = ("[T, B, ...]", 2) if multi else ("[B, ...]", 1)
        _checks.sequence("x_seq" if multi else "x", x, leading=leading, minimum_rank=rank)
        return x if multi else x.unsqueeze(0)

    def _record(self, key: str, value: Tensor) -> None:
        value = value.detach()
        if value.dtype == torch.bfloat16:
            value = value.float()
        self.monitor[key].append(value.cpu().numpy().copy())


def brief(value: Any) -> str:
    if isinstance(value, Tensor) and value.numel() > 1:
        return f"tensor{tuple(value.shape)}"
    return f"{value.item():g}" if isinstance(value, Tensor) else repr(value)
