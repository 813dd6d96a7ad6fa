"""DistributedDataParallel over two processes on the CPU gives the gradients of one."""

from __future__ import annotations

import gc

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from snnkernels import functional, layer, neuron, surrogate

T, B, N = 7, 6, 8


def make_net():
    torch.manual_seed(0)
    atan = surrogate.ATan()
    net = nn.Sequential(
        layer.Linear(N, 16),
        neuron.ParametricLIFNode(surrogate_function=atan),
        layer.Linear(16, 3),
        neuron.LIFNode(tau=nn.Parameter(torch.full((3,), 2.5)), surrogate_function=atan),
    )
    functional.set_step_mode(net, "m")
    return net


def batch():
    generator = torch.Generator().manual_seed(1)
    return 4 * torch.rand(T, B, N, generator=generator), torch.rand(B, 3, generator=generator)


def loss_of(net, x_seq, targets):
    functional.reset_net(net)
    return nn.functional.mse_loss(net(x_seq).mean(0), targets)


def work(rank, world, folder):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    train(rank, world, folder)
    # Else gloo's threads may free what DistributedDataParallel holds after the interpreter has
    # gone, and torch aborts.
    gc.collect()
    dist.destroy_process_group()


def train(rank, world, folder):
    net = make_net()
    parallel = nn.parallel.DistributedDataParallel(net)
    x_seq, targets = batch()
    own = slice(rank * B // world, (rank + 1) * B // world)
    for _ in range(2):
        net.zero_grad()
        loss_of(parallel, x_seq[:, own], targets[own]).backward()
    if rank == 0:
        torch.save([p.grad for p in net.parameters()], f"{folder}/grads.pt")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_give_the_gradients_of_one(tmp_path):
    net = make_net()
    loss_of(net, *batch()).backward()
    mp.spawn(work, args=(2, str(tmp_path)), nprocs=2)
    found = torch.load(tmp_path / "grads.pt")
    assert all(p.grad.any() for p in net.parameters())
    for p, grad in zip(net.parameters(), found, strict=True):
        torch.testing.assert_close(grad, p.grad, rtol=1e-5, atol=1e-7)
