"""The ways in which sequences reach a kernel, for the device and for the bodies on the CPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from snnkernels import functional, surrogate

from ..cases import randn

Found = tuple[list[Tensor], list[Tensor]]
"""Outputs, and gradients of what was given, the input's first."""
Arrange = Callable[[Tensor], Tensor]
"""From values [T, 1, L] to a tensor of them in some layout."""


def _at_an_odd_place(x: Tensor) -> Tensor:
    return x.new_empty(x.numel() + 1)[1:].view(x.shape).copy_(x)


def _in_longer_rows(x: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], x.shape[2] + 1)[:, :, :-1].copy_(x)


def _one_step_for_all(x: Tensor) -> Tensor:
    return x[:1].expand_as(x)


LAYOUTS: dict[str, Arrange] = {
    "dense": lambda x: x,
    "at an odd place": _at_an_odd_place,
    "in longer rows": _in_longer_rows,
    "one step for all": _one_step_for_all,
}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "weighted": lambda spikes, weights: (spikes * weights).sum(),
    "summed": lambda spikes, weights: spikes.sum(),
    "summed over time": lambda spikes, weights: (spikes.sum(0) * weights[0]).sum(),
    "averaged over time": lambda spikes, weights: (spikes.mean(0) * weights[0]).sum(),
}
GIVEN: dict[str, Callable[[int], dict[str, Tensor]]] = {
    "numbers": lambda lanes: {},
    "a state": lambda lanes: {"v": randn(1, lanes, seed=3)},
    "a table by lane": lambda lanes: {"tau": 3.0 + randn(lanes, seed=5).clamp(-1, 1)},
    "a table of one value": lambda lanes: {"tau": torch.tensor(2.5)},
}
WAYS = [
    *((layout, "weighted", "numbers", False) for layout in LAYOUTS),
    *(("dense", loss, "numbers", False) for loss in LOSSES if loss != "weighted"),
    *(("dense", "weighted", given, False) for given in GIVEN if given != "numbers"),
    ("dense", "weighted", "numbers", True),
]
"""Layout of the input, loss, what is given as a tensor, whether potentials are stored."""


def lif(
    way: tuple[str, str, str, bool], x: Tensor, backend: str, device: str, **settings: object
) -> Found:
    """A LIF over values [T, 1, L] in one of ``WAYS``; what comes out is on the CPU."""
    layout, loss, given, store = way
    leaf = LAYOUTS[layout](x.to(device)).detach().requires_grad_()
    tensors = {
        name: value.to(device).requires_grad_() for name, value in GIVEN[given](x.shape[2]).items()
    }
    outputs = functional.lif(
        leaf,
        **{"surrogate_function": surrogate.ATan(), **settings, **tensors},
        return_v_seq=store,
        backend=backend,
    )
    total = LOSSES[loss](outputs[0], randn(*x.shape, seed=4).to(outputs[0]))
    if given == "a state" or store:
        total = total + sum((out * out).sum() for out in outputs[1:])
    gradients = torch.autograd.grad(total, [leaf, *tensors.values()])
    return [out.detach().cpu() for out in outputs], [grad.cpu() for grad in gradients]
