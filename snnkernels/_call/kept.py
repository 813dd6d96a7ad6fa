"""What a module keeps of its latest calls, so that the same one again goes straight to a kernel."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .._backends import operators
from .._core import checks
from .._core.torch_private import is_watched
from .._spikes import storage
from . import by_kernel
from .call import Call, Outcome
from .equations import current_key
from .surrogates import is_declared


class _Latest(NamedTuple):
    """A call: what it was given, and the job that it was for a kernel."""

    objects: list[Any]
    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    job: operators.Job

    def takes(self, x: Any) -> bool:
        """Whether an input lies in memory as that of the call."""
        return (
            _is_dense(x)
            and x.dtype == self.dtype
            and x.device == self.device
            and x.shape == self.shape
            and x.stride() == self.strides
        )

    def carries(self, states: Sequence[Any]) -> bool:
        """Whether states need neither a check nor a conversion."""
        step = self.shape if self.job.single else self.shape[1:]
        wide = checks.compute_dtype(self.dtype)
        return all(
            _is_dense(s) and s.shape == step and s.dtype == wide and s.device == self.device
            for s in states
        )


class Kept:
    """A module's latest calls: one whose states are numbers, as after a reset, and one that carries
    them.

    A call is the same again if it is given the very same objects (parameters, options, surrogate;
    none of them a tensor), and an input that lies in memory as the one before.
    """

    def __init__(self) -> None:
        self._latest: dict[bool, _Latest] = {}

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()

    def keep(self, call: Call, given: tuple[Any, ...], job: operators.Job) -> None:
        """Note a call that has just been run.

        Args:
            call: the call.
            given: the objects that make it, besides its states and its surrogate.
            job: what it was for a kernel.
        """
        kinds = set(map(type, call.states))
        if kinds not in ({float}, {Tensor}) or is_watched() or storage.is_marking():
            return
        carries = kinds == {Tensor}
        numbers = () if carries else call.states
        objects = _objects(call.equations.id, numbers, given, call.surrogate_function)
        x = call.x
        self._latest[carries] = _Latest(objects, x.shape, x.stride(), x.dtype, x.device, job)

    def run(
        self,
        equations_id: str,
        x: object,
        states: Sequence[Any],
        given: tuple[Any, ...],
        surrogate_function: nn.Module,
    ) -> Outcome | None:
        """Run a call if it is one of the latest again, else None."""
        carries = type(states[0]) is not float
        latest = self._latest.get(carries)
        if latest is None or not latest.takes(x) or not is_declared(surrogate_function):
            return None
        numbers = () if carries else states
        now = _objects(equations_id, numbers, given, surrogate_function)
        if not all(map(is_, now, latest.objects)) or is_watched() or storage.is_marking():
            return None
        job, initial = latest.job, None
        if carries:
            if not latest.carries(states):
                return None
            initial = by_kernel.joined([job.lanes.arrange(state) for state in states])
        return by_kernel.perform(job, x, initial, None)  # type: ignore[arg-type]


def _is_dense(x: Any) -> bool:
    """Whether it is a tensor of torch's own kinds that has strides."""
    return type(x) in operators.PLAIN and x.layout == torch.strided and not x.is_nested


def _objects(
    equations_id: str, numbers: Sequence[Any], given: tuple[Any, ...], surrogate_function: Any
) -> list[Any]:
    """All that a call depends on besides its input and the states that are tensors."""
    return [
        current_key(equations_id),
        surrogate_function.kernel_key,
        surrogate_function.spiking,
        *surrogate_function.values,
        *given,
        *numbers,
    ]
