"""The examples with a neuron and a surrogate of one's own."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch
from mnist_files import write_mnist
from torch import nn

from snnkernels import functional, neuron, surrogate
from snnkernels.examples import _training, conv_fashion_mnist, neuron_custom, surrogate_custom
from snnkernels.examples._checkpoint import Checkpoint
from snnkernels.examples._settings import Settings

MNIST = Path(
    os.environ.get("SNNKERNELS_MNIST", Path(__file__).parents[3] / "shared" / "data")
).absolute()
EXAMPLES = [neuron_custom, surrogate_custom, conv_fashion_mnist]


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_trains_resumes_and_keeps_its_own_log_dir(
    example, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_mnist(tmp_path / "data")
    flags = ["--dataset-dir", "data", "--dataset", "mnist", "-T", "2", "--batch-size", "5"]
    name = example.__name__.rpartition(".")[2]
    assert example.main([*flags, "--epochs", "1"]) == 0
    assert example.main([*flags, "--epochs", "2", "--resume"]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    checkpoint = Checkpoint.load(tmp_path / "runs" / name / "checkpoint.pt")
    assert checkpoint is not None and len(checkpoint.results) == 2


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.skipif(not (MNIST / "MNIST").is_dir(), reason=f"no MNIST in {MNIST}")
def test_an_example_learns_real_digits(example, tmp_path):
    settings = Settings(
        device="cpu",
        dataset_dir=str(MNIST),
        T=8,
        epochs=1,
        train_samples=6000,
        batch_size=64,
        log_dir=str(tmp_path),
        encoder="direct" if example is conv_fashion_mnist else "poisson",
    )
    (result,) = _training.train(settings, build=example.build_net)
    assert result.test.accuracy > 0.75


def test_the_convolutional_network_gives_the_same_rates_step_by_step_and_at_once():
    settings = Settings(device="cpu", T=4, encoder="direct")
    net = conv_fashion_mnist.build_net(784, settings).eval()
    images = torch.rand(3, 784)
    rates = []
    for mode in "ms":
        functional.set_step_mode(net, mode)
        functional.reset_net(net)
        chosen = dataclasses.replace(settings, step_mode=mode)
        rates.append(_training.firing_rates(net, images, chosen))
    torch.testing.assert_close(*rates)


def test_the_convolutional_network_refuses_another_encoder(tmp_path, capsys):
    write_mnist(tmp_path / "data")
    flags = ["--dataset-dir", str(tmp_path / "data"), "--log-dir", str(tmp_path / "log")]
    assert conv_fashion_mnist.main([*flags, "--encoder", "poisson"]) == 1
    assert "expected --encoder direct, got poisson" in capsys.readouterr().err


def test_both_ways_to_write_the_surrogate_give_the_same_gradients():
    x_seq = 2 * torch.rand(6, 3, 5)
    grads = []
    for function in (
        surrogate.custom(surrogate_custom.laplace, alpha=surrogate_custom.ALPHA),
        surrogate_custom.TutorialSurrogate(),
    ):
        x = nn.Parameter(x_seq.clone())
        node = neuron.LIFNode(surrogate_function=function, step_mode="m", backend="torch")
        node(x).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)
