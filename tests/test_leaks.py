"""What calls leave behind once all that they gave is gone: nothing."""

from __future__ import annotations

import ctypes
import gc
import itertools
import sys
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from snnkernels import functional, neuron, surrogate

CALLS = 500
BYTES_A_CALL = 8
"""Less than the smallest block of a heap."""


FIELDS = (
    *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
    *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
)


class Mallinfo2(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def heap_bytes() -> int:
    """What the C library has handed out and not got back."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo2 is None:
        pytest.skip("the C library has no mallinfo2, which glibc has from 2.33 on")
    mallinfo2.restype = Mallinfo2
    found = mallinfo2()
    return found.uordblks + found.hblkhd


def left_behind(call: Callable[[], object]) -> tuple[float, float]:
    """The bytes of the C heap and the blocks of Python's that a call keeps: the least of some runs.

    What happens but once, such as the growth of a table, is in one of them alone.
    """
    heap, blocks = [], []
    for _ in range(4):
        for _ in range(CALLS):
            call()
        gc.collect()
        heap.append(heap_bytes())
        blocks.append(sys.getallocatedblocks())
    return least_growth(heap), least_growth(blocks)


def least_growth(seen: list[int]) -> float:
    return min(after - before for before, after in itertools.pairwise(seen)) / CALLS


def learnt(*shape: int) -> Tensor:
    return torch.rand(*shape, requires_grad=True)


def of_function(function: Callable[..., object], *args: object, **named: object):
    return lambda: function(*args, **named)


def training(function: Callable[..., object], *args: object, **named: object):
    def call() -> None:
        out = function(*args, **named)
        (out[0] if isinstance(out, tuple) else out).sum().backward()

    return call


def of_node(node: neuron.BaseNode) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        node.reset()
        return node(x)

    return run


def with_packed_spikes(x: Tensor, weight: Tensor) -> Tensor:
    with functional.spike_storage():
        return torch.nn.functional.linear(functional.lif(x)[0], weight)


def mine() -> surrogate.SurrogateFunction:
    return surrogate.custom(lambda x, a: a / (1 + x * x), a=2.0)


CASES: dict[str, Callable[[], Callable[[], object]]] = {
    "forward": lambda: of_function(functional.if_, torch.rand(3, 2, 8)),
    "training": lambda: training(functional.lif, learnt(3, 2, 8)),
    "large outputs": lambda: training(functional.lif, learnt(4, 64, 256)),
    "learnt parameters": lambda: training(
        of_node(neuron.ParametricLIFNode(step_mode="m")), learnt(3, 2, 8)
    ),
    "one step": lambda: of_function(of_node(neuron.LIFNode()), torch.rand(2, 8)),
    "training by one step": lambda: training(of_node(neuron.CubaLIFNode()), learnt(2, 8)),
    "compiled neuron": lambda: training(of_node(neuron.KLIFNode(step_mode="m")), learnt(3, 2, 8)),
    "compiled surrogate": lambda: training(
        functional.lif, learnt(3, 2, 8), surrogate_function=mine()
    ),
    "encoder": lambda: of_function(functional.poisson_encode, torch.rand(2, 8), 3),
    "packed spikes": lambda: training(with_packed_spikes, learnt(3, 8, 64), learnt(8, 64)),
    "linear layer": lambda: training(
        functional.linear, (torch.rand(64, 256) < 0.1).float(), learnt(128, 256)
    ),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """For calls this small, threads that wait for each other would take all the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_a_call_leaves_nothing_behind(case: str):
    heap, blocks = left_behind(CASES[case]())
    assert heap < BYTES_A_CALL
    assert blocks < 0.1
