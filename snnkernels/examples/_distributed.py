"""One training run in several processes, as ``torchrun`` starts them; one process needs nothing.

Each process takes every n-th image of a batch. All see the same order, which the first one draws;
what else they draw is their own.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


def launched() -> bool:
    """Whether ``torchrun`` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def rank() -> int:
    """This process's number; the first one, 0, reports and writes."""
    return int(os.environ["RANK"]) if launched() else 0


def processes() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Be one of the processes that ``torchrun`` started; gives this one's own device.

    On GPUs each process has one of its own, and NCCL between them; elsewhere gloo.
    """
    if not launched():
        yield device
        return
    on_gpus = torch.device(device).type == "cuda"
    if on_gpus:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpus else "gloo")
    try:
        yield device
    finally:
        # What DistributedDataParallel still holds of the group would otherwise be freed by gloo's
        # threads, after the interpreter has gone: torch aborts there.
        gc.collect()
        dist.destroy_process_group()


def seed(seed: int, epoch: int) -> None:
    """Let the other processes draw what the first does not; it goes on as if it were alone."""
    if rank() > 0:
        torch.manual_seed(hash((seed, epoch, rank())))


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process runs the block before the others do, as what it downloads they find."""
    if rank() > 0:
        dist.barrier()
    try:
        yield
    finally:
        if rank() == 0 and processes() > 1:
            dist.barrier()
