"""The run that the examples share: precision, CUDA graphs, several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mnist_files import write_mnist
from torch import nn

from snnkernels.examples import _training, conv_fashion_mnist, lif_fc_mnist
from snnkernels.examples._checkpoint import Checkpoint
from snnkernels.examples._errors import ExampleError
from snnkernels.examples._graph import unchanged
from snnkernels.examples._settings import Settings


def settings_for(tmp_path: Path, **changes: object) -> Settings:
    write_mnist(tmp_path / "data")
    settings = {
        "device": "cpu",
        "dataset_dir": str(tmp_path / "data"),
        "log_dir": str(tmp_path / "log"),
        "batch_size": 5,
        "T": 4,
        "epochs": 2,
        "encoder": "direct",
    }
    return Settings(**{**settings, **changes})


def weights(log_dir: Path) -> dict[str, torch.Tensor]:
    checkpoint = Checkpoint.load(log_dir / "checkpoint.pt")
    assert checkpoint is not None
    return checkpoint.net


@pytest.mark.parametrize("build", [lif_fc_mnist.build_net, conv_fashion_mnist.build_net])
def test_amp_runs_the_layers_in_bfloat16_and_keeps_weights_and_rates_in_float32(build, tmp_path):
    settings = settings_for(tmp_path, amp=True, log_dir=str(tmp_path / "amp"))
    net = build(784, settings)
    seen = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    rates = _training.Rates(net, settings)(torch.rand(3, 784))
    assert set(seen) == {torch.bfloat16}
    assert rates.dtype == torch.float32
    results = _training.train(settings, build=build)
    assert [r.training.samples for r in results] == [12, 12]
    assert all(
        w.dtype == torch.float32
        for w in weights(tmp_path / "amp").values()
        if w.is_floating_point()
    )


def test_a_run_goes_on_with_the_precision_that_it_began_with(tmp_path, capsys):
    write_mnist(tmp_path / "data")
    flags = ["--dataset-dir", str(tmp_path / "data"), "--log-dir", str(tmp_path), "-T", "2"]
    assert lif_fc_mnist.main([*flags, "--epochs", "1", "--batch-size", "5", "--amp"]) == 0
    assert "autocast to bfloat16" in capsys.readouterr().out
    assert lif_fc_mnist.main([*flags, "--epochs", "2", "--resume"]) == 0
    assert "autocast to bfloat16" in capsys.readouterr().out


def test_a_cuda_graph_needs_a_gpu(tmp_path):
    with pytest.raises(ExampleError, match="--cuda-graph needs a GPU, got --device cpu"):
        _training.train(settings_for(tmp_path, cuda_graph=True), build=lif_fc_mnist.build_net)


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
def test_a_captured_run_comes_to_the_same_weights(tmp_path):
    """With the encoder that draws nothing: a graph's random numbers are its own."""
    found = []
    for name in (False, True):
        changes = {"cuda_graph": name, "device": "cuda:0", "log_dir": str(tmp_path / str(name))}
        settings = settings_for(tmp_path, encoder="direct", **changes)
        _training.train(settings, build=lif_fc_mnist.build_net)
        found.append(weights(tmp_path / str(name)))
    for name, tensor in found[0].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=1e-4, atol=1e-6)


def torchrun(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    example = ["-m", "snnkernels.examples.lif_fc_mnist", "--device", "cpu", *flags]
    return subprocess.run([*command, *example], capture_output=True, text=True, cwd=tmp_path)


needs_gloo = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")


@needs_gloo
@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [5, 4])
def test_two_processes_under_torchrun_train_as_one_does(batch_size, tmp_path):
    """12 images: batches of 5, 5, 2 are shared unequally, those of 4 equally."""
    settings = settings_for(tmp_path, batch_size=batch_size, log_dir=str(tmp_path / "one"))
    expected = _training.train(settings, build=lif_fc_mnist.build_net)
    flags = ["--dataset-dir", "data", "--batch-size", str(batch_size), "-T", "4", "--epochs"]
    flags += ["2", "--encoder", "direct", "--log-dir", "two"]
    done = torchrun(tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    for line in ("epoch 1/2", "epoch 2/2", "Curves:", "2 processes"):
        assert done.stdout.count(line) == 1
    ours, theirs = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-5)
    checkpoint = Checkpoint.load(tmp_path / "two" / "checkpoint.pt")
    assert checkpoint is not None
    for result, one in zip(checkpoint.results, expected, strict=True):
        for mine, its in ((result.training, one.training), (result.test, one.test)):
            assert (mine.samples, mine.accuracy) == (its.samples, its.accuracy)
            assert mine.loss == pytest.approx(its.loss, rel=1e-4)


@needs_gloo
@pytest.mark.slow
def test_under_torchrun_nobody_is_asked_and_what_cannot_be_shared_is_refused(tmp_path):
    write_mnist(tmp_path / "data")
    done = torchrun(tmp_path, "--dataset-dir", "data", "--batch-size", "1")
    assert done.returncode == 1
    assert "--batch-size counts the images of all 2 processes together: got 1" in done.stderr
