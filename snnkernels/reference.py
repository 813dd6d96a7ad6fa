"""The neurons and the encoder in plain PyTorch: the oracle that the kernels are tested against.

Every spiking neuron is charge, fire and reset, one line each, once per step. Nothing here is shared
with the kernels; ``backend="torch"`` runs it on every device and dtype that PyTorch has.

Shapes: ``x_seq`` is [T, B, ...]; a state is [B, ...]; a parameter is a tensor that broadcasts over
[B, ...]. Parameters are tensors on the input's device rather than Python numbers because eager CUDA
divides by a number through its reciprocal, and the division by tau is meant to be exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Params = Mapping[str, Tensor]
"""Parameters by name; without ``v_reset`` the reset is soft and the leak is towards 0."""
States = Sequence[Tensor]
Charged = tuple[Tensor, tuple[Tensor, ...]]
"""H, and the states behind the membrane potential after the step."""
Surrogate = Callable[[Tensor], Tensor]


def if_charge(states: States, x: Tensor, p: Params, decay_input: bool) -> Charged:
    """H = V + X."""
    (v,) = states
    return v + x, ()


def lif_charge(states: States, x: Tensor, p: Params, decay_input: bool) -> Charged:
    """H = V + (X - (V - Vr)) / tau, or V - (V - Vr) / tau + X if the input does not decay."""
    (v,) = states
    leak = _above_rest(v, p)
    h = v + (x - leak) / p["tau"] if decay_input else v - leak / p["tau"] + x
    return h, ()


def parametric_lif_charge(states: States, x: Tensor, p: Params, decay_input: bool) -> Charged:
    """The LIF's charge with 1/tau = r, a factor."""
    (v,) = states
    leak = _above_rest(v, p)
    h = v + (x - leak) * p["r"] if decay_input else v - leak * p["r"] + x
    return h, ()


def cuba_lif_charge(states: States, x: Tensor, p: Params, decay_input: bool) -> Charged:
    """I' = alpha I + X, H = beta V + I'."""
    v, i = states
    i = p["alpha"] * i + x
    return p["beta"] * v + i, (i,)


def _above_rest(v: Tensor, p: Params) -> Tensor:
    return v - p["v_reset"] if "v_reset" in p else v


def fire(h: Tensor, v_threshold: Tensor, surrogate: Surrogate) -> Tensor:
    """S = surrogate(H - threshold): a spike where H reaches the threshold."""
    return surrogate(h - v_threshold)


def reset(
    h: Tensor, spike: Tensor, v_threshold: Tensor, v_reset: Tensor | None, detach_reset: bool
) -> Tensor:
    """V' = (1 - S) H + S Vr (hard), or H - S threshold (soft, ``v_reset`` None)."""
    if detach_reset:
        spike = spike.detach()
    if v_reset is None:
        return h - spike * v_threshold
    return (1 - spike) * h + spike * v_reset


@dataclass(frozen=True)
class Neuron:
    """What distinguishes one neuron from another: its states, its parameters, its charge.

    ``charge(states, x, params, decay_input)`` gives H and the states behind the first one; the
    first is the membrane potential, which the reset sets. ``params`` lists, in the kernels' order,
    the parameters before ``v_threshold`` and ``v_reset``, which every neuron has last; ``limits``
    what numbers must keep to, by parameter.
    """

    states: tuple[str, ...]
    params: tuple[str, ...]
    charge: Callable[[States, Tensor, Params, bool], Charged]
    limits: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_SHARE = {"minimum": 0.0, "maximum": 1.0}

NEURONS: dict[str, Neuron] = {
    "IF": Neuron(("v",), (), if_charge),
    "LIF": Neuron(("v",), ("tau",), lif_charge, {"tau": {"minimum": 1}}),
    "ParametricLIF": Neuron(("v",), ("r",), parametric_lif_charge),
    "CubaLIF": Neuron(
        ("v", "i"), ("alpha", "beta"), cuba_lif_charge, {"alpha": _SHARE, "beta": _SHARE}
    ),
}
"""Every neuron that has kernels, by its name in ``csrc/include/snnkernels/registry.h``."""


def single_step(
    neuron: Neuron,
    x: Tensor,
    states: States,
    params: Params,
    surrogate: Surrogate,
    *,
    decay_input: bool = True,
    detach_reset: bool = False,
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """One step of x [B, ...]: the output, the charged potential H, the next states."""
    h, others = neuron.charge(states, x, params, decay_input)
    spike = fire(h, params["v_threshold"], surrogate)
    v = reset(h, spike, params["v_threshold"], params.get("v_reset"), detach_reset)
    return spike, h, (v, *others)


def multi_step(
    neuron: Neuron,
    x_seq: Tensor,
    states: States,
    params: Params,
    surrogate: Surrogate,
    *,
    decay_input: bool = True,
    detach_reset: bool = False,
    store_v_seq: bool = False,
) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
    """All T steps in a loop.

    Returns:
        The outputs [T, B, ...], the membrane potential after each step [T, B, ...] (None unless
        ``store_v_seq``) and the states after the last step.
    """
    spikes, potentials = [], []
    states = tuple(states)
    for x in x_seq:
        spike, _, states = single_step(
            neuron,
            x,
            states,
            params,
            surrogate,
            decay_input=decay_input,
            detach_reset=detach_reset,
        )
        spikes.append(spike)
        if store_v_seq:
            potentials.append(states[0])
    v_seq = _stack(potentials, x_seq) if store_v_seq else None
    return _stack(spikes, x_seq), v_seq, states


def _stack(steps: list[Tensor], x_seq: Tensor) -> Tensor:
    return torch.stack(steps) if steps else x_seq.clone()


def philox(counter: Sequence[Tensor], key: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10 (Salmon et al., SC 2011), a counter-based generator.

    Args:
        counter: four words of 32 bits, int64 tensors that broadcast.
        key: two such words.

    Returns:
        Four random words of 32 bits, as int64 tensors.
    """
    mask = 0xFFFFFFFF
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        # int64 wraps, which leaves the 64 bits of the product of two words as they are.
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32 & mask) ^ b ^ k, q & mask, (p >> 32 & mask) ^ d ^ m, p & mask
        k, m = k + 0x9E3779B9 & mask, m + 0xBB67AE85 & mask
    return a, b, c, d


def poisson_encode(x: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """Spikes where u < x, u uniform on the multiples of 2^-31 in [0, 1).

    Lane l of step t has u = (w >> 1) / 2^31, where w is the word l % 4 that Philox gives for the
    counter l // 4 and the key of step t.

    Args:
        x: probabilities [T, L].
        keys: one key of 64 bits per step, int64 [T].

    Returns:
        Spikes [T, L] in ``dtype``.
    """
    lanes = x.shape[1]
    block = torch.arange((lanes + 3) // 4, device=x.device)
    zero = torch.zeros_like(block)
    counter = (block & 0xFFFFFFFF, block >> 32, zero, zero)
    spikes = torch.empty(x.shape, dtype=dtype, device=x.device)
    for step, probability, key in zip(spikes, x, keys, strict=True):
        words = philox(counter, (key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF))
        u = torch.stack(words, dim=1).flatten()[:lanes].bitwise_right_shift(1).double()
        step.copy_(u * 2.0**-31 < probability.double())
    return spikes


def pack_spikes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Element e of x [N] as bit e % 32 of word e // 32.

    Returns:
        The words, int32, and a bool [1]: whether any element is neither 0 nor 1 (-0 is neither),
        where the words mean nothing.
    """
    foreign = ((x != 0) & (x != 1) | x.isnan() | (x == 0) & x.signbit()).any().reshape(1)
    ones = torch.nn.functional.pad(x == 1, (0, -len(x) % 32)).view(-1, 32)
    words = (ones.long() << torch.arange(32, device=x.device)).sum(1)
    return (words - ((words >> 31) << 32)).to(torch.int32), foreign


def unpack_spikes(words: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """The first ``count`` elements of what :func:`pack_spikes` packed."""
    bits = words.unsqueeze(1) >> torch.arange(32, dtype=torch.int32, device=words.device) & 1
    return bits.flatten()[:count].to(dtype)
