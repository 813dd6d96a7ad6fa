"""The encoder and the storage of spikes in plain PyTorch: what their kernels are tested against.

Nothing here is shared with the kernels; ``backend="torch"`` runs it on every device. The reference
of a neuron is its step (``snnkernels.neuron``).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


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
    """The first ``count`` elements of what ``pack_spikes`` packed."""
    bits = words.unsqueeze(1) >> torch.arange(32, dtype=torch.int32, device=words.device) & 1
    return bits.flatten()[:count].to(dtype)
