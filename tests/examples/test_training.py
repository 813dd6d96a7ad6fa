"""Steps of training captured in a CUDA graph, and shared by several processes."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist
from run_files import SAMPLES, flags, saved
from torch import nn

from snnkernels.examples import ExampleError, _distributed, _training, lif_fc_mnist
from snnkernels.examples._settings import Settings
from snnkernels.examples._step import unchanged


def test_what_a_warm_up_did_to_weights_buffers_and_adam_is_undone_in_place():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(net.parameters())

    def step():
        optimizer.zero_grad()
        net(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()

    places = [t.data_ptr() for t in net.state_dict().values()]
    for _ in range(2):  # the first time Adam has no state, the second time it has
        state = {k: v.clone() for k, v in net.state_dict().items()}
        moments = [v.clone() for s in optimizer.state.values() for v in s.values()]
        with unchanged(net, optimizer):
            step()
        for name, tensor in net.state_dict().items():
            assert torch.equal(tensor, state[name])
        found = [v for s in optimizer.state.values() for v in s.values()]
        for tensor, before in zip(found, moments or map(torch.zeros_like, found), strict=True):
            assert torch.equal(tensor, before)
        step()
    assert places == [t.data_ptr() for t in net.state_dict().values()]


@pytest.mark.gpu
@pytest.mark.parametrize("gpu", [0, 1])
def test_a_captured_run_comes_to_the_same_weights(tmp_path, gpu):
    """With the encoder that draws nothing: a graph's random numbers are its own."""
    if gpu >= torch.cuda.device_count():
        pytest.skip("needs two GPUs")
    found = []
    for name, *captured in (("as it is",), ("captured", "--cuda-graph")):
        argv = ["--device", f"cuda:{gpu}", "--encoder", "direct", "--epochs", "2", *captured]
        assert lif_fc_mnist.main(flags(tmp_path / name, *argv)) == 0
        found.append(saved(tmp_path / name).content["net"])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


NOTHING_IS_LEFT_OF_THE_GROUP = """
import gc, sys
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from snnkernels.examples import lif_fc_mnist

destroy = dist.destroy_process_group

def checked():
    assert not any(isinstance(each, DistributedDataParallel) for each in gc.get_objects())
    destroy()

dist.destroy_process_group = checked
sys.exit(lif_fc_mnist.main())
"""


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_processes_under_torchrun_train_as_one_does(tmp_path):
    """Batches of 15, 15 and 10: shared unequally, and equally."""
    same = ["--device", "cpu", "--encoder", "direct", "--epochs", "2", "--batch-size", "15"]
    assert lif_fc_mnist.main(flags(tmp_path / "one", *same)) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = tmp_path / "script.py"
    script.write_text(NOTHING_IS_LEFT_OF_THE_GROUP)
    command += [str(script), *flags(tmp_path / "two", *same)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    for line in ("epoch 1/2", "epoch 2/2", "Curves:", "2 processes"):
        assert done.stdout.count(line) == 1
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two")
    torch.testing.assert_close(two.content["net"], one.content["net"], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(two.results, one.results, strict=True):
        assert ours.training.samples == SAMPLES
        for mine, its in ((ours.training, theirs.training), (ours.test, theirs.test)):
            assert (mine.samples, mine.accuracy) == (its.samples, its.accuracy)
            assert mine.loss == pytest.approx(its.loss, rel=1e-4)


def test_what_other_processes_draw_differs_between_processes_and_epochs(monkeypatch):
    torch.manual_seed(0)
    alone = torch.rand(3)
    drawn = []
    for rank, epoch in ((0, 1), (1, 1), (2, 1), (1, 2), (1, 1)):
        monkeypatch.setattr(_distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(0)
        _distributed.seed(0, epoch)
        drawn.append(torch.rand(3))
    *different, again = drawn
    assert torch.equal(different[0], alone) and torch.equal(again, different[1])
    assert len({tuple(each.tolist()) for each in different}) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "images of all 2 processes together: got 1, expected at least 2"),
        ({"train_samples": 1}, "images of all 2 processes together: got 1, expected at least 2"),
        (
            {"cuda_graph": True, "device": "cuda:0"},
            "--cuda-graph: got --device cuda:0 and 2 processes",
        ),
    ],
)
def test_what_cannot_be_shared_is_refused(settings, message, monkeypatch):
    monkeypatch.setattr(_distributed, "processes", lambda: 2)
    monkeypatch.setattr(_distributed, "first_alone", contextlib.nullcontext)
    settings = Settings(**{"device": "cpu", "dataset": "digits", **settings})
    with pytest.raises(ExampleError, match=message):
        _training.train(settings, build=lif_fc_mnist.build_net)
