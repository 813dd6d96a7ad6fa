"""The examples' networks: what they learn, and that all ways to compute them agree."""

from __future__ import annotations

import dataclasses
import gzip
import os
from pathlib import Path

import pytest
import torch
from mnist_files import idx
from run_files import saved
from torch import nn

from snnkernels import functional, neuron, surrogate
from snnkernels.examples import (
    _training,
    conv_fashion_mnist,
    lif_fc_mnist,
    neuron_custom,
    surrogate_custom,
)
from snnkernels.examples._settings import Settings

MNIST = Path(
    os.environ.get("SNNKERNELS_MNIST", Path(__file__).parents[3] / "shared" / "data")
).absolute()
EXAMPLES = {
    "lif_fc_mnist": lif_fc_mnist,
    "neuron_custom": neuron_custom,
    "surrogate_custom": surrogate_custom,
    "conv_fashion_mnist": conv_fashion_mnist,
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns_the_digits_goes_on_and_keeps_its_own_log_dir(
    name, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    pytest.importorskip("tensorboard", reason="the examples write TensorBoard's files")
    monkeypatch.chdir(tmp_path)
    main = EXAMPLES[name].main
    argv = ["--dataset", "digits", "-T", "8", "--learning-rate", "0.005", "--device", "cpu"]
    assert main([*argv, "--epochs", "1"]) == 0
    assert main(["--epochs", "2", "--resume"]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    results = saved(tmp_path / "runs" / name).results
    assert [result.epoch for result in results] == [1, 2]
    assert results[-1].test.accuracy > 0.8


def raw_or_unzipped(name: str) -> bytes:
    path = MNIST / "MNIST" / "raw" / name
    return path.read_bytes() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes())


def first_of_real_mnist(root: Path, train: int, test: int) -> None:
    """MNIST with its first samples alone."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        for name, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            content = bytearray(raw_or_unzipped(f"{part}-{name}-ubyte"))
            header = 4 + 4 * len(shape)
            size = count * 784 if len(shape) == 3 else count
            values = torch.frombuffer(content, dtype=torch.uint8, offset=header)[:size]
            (raw / f"{part}-{name}-ubyte").write_bytes(idx(values.view(shape)))


@pytest.mark.skipif(
    not (MNIST / "MNIST" / "raw").is_dir(),
    reason=f"MNIST is not in {MNIST}; SNNKERNELS_MNIST may name its folder",
)
def test_the_tutorials_network_learns_mnist(tmp_path):
    pytest.importorskip("torchvision", reason="MNIST is read by torchvision", exc_type=Exception)
    first_of_real_mnist(tmp_path, 4000, 1000)
    argv = ["--dataset-dir", str(tmp_path), "--log-dir", str(tmp_path), "--device", "cpu"]
    argv += ["--batch-size", "64", "--learning-rate", "0.003", "-T", "8", "--epochs", "1"]
    assert lif_fc_mnist.main(argv) == 0
    (result,) = saved(tmp_path).results
    assert (result.training.samples, result.test.samples) == (4000, 1000)
    assert result.test.accuracy > 0.7


def layer_spikes(settings, images):
    """The spikes of both LIF layers, [T, B, N] each, and the gradient of the first weight."""
    torch.manual_seed(5)
    net = lif_fc_mnist.build_net(images.shape[1], settings)
    with torch.no_grad():
        for layer in (net[0], net[2]):
            layer.weight.mul_(6)  # both layers fire
    kept = {1: [], 3: []}
    for index, spikes in kept.items():
        net[index].register_forward_hook(lambda module, x, y, to=spikes: to.append(y.detach()))
    rates = _training.firing_rates(net, images, settings)
    rates.square().sum().backward()
    functional.reset_net(net)
    shape = (settings.T, len(images), -1)
    return *(torch.cat(s).view(shape) for s in kept.values()), net[0].weight.grad


@pytest.mark.parametrize("encoder", ["poisson", "direct"])
@pytest.mark.parametrize("name", ["auto", "torch"])
def test_the_same_seed_gives_the_same_spikes_step_by_step_and_multi_step(encoder, name):
    images = torch.rand(32, 784, generator=torch.Generator().manual_seed(1))
    settings = Settings(device="cpu", T=12, encoder=encoder, step_mode="s", backend="torch")
    *expected, grad = layer_spikes(settings, images)
    settings = dataclasses.replace(settings, step_mode="m", backend=name)
    *spikes, multi_grad = layer_spikes(settings, images)
    for ours, theirs in zip(spikes, expected, strict=True):
        assert 0.02 < theirs.mean() < 0.98
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(multi_grad, grad, rtol=1e-4, atol=1e-6)


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
    argv = ["--dataset", "digits", "--log-dir", str(tmp_path), "--encoder", "poisson"]
    assert conv_fashion_mnist.main(argv) == 1
    assert "expected --encoder direct, got poisson" in capsys.readouterr().err


@pytest.mark.parametrize("build", [lif_fc_mnist.build_net, conv_fashion_mnist.build_net])
def test_amp_runs_the_layers_in_bfloat16_and_keeps_weights_and_rates_in_float32(build):
    settings = Settings(device="cpu", T=2, encoder="direct", amp=True)
    net = build(784, settings)
    seen = []
    for module in net.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.register_forward_hook(lambda module, x, y: seen.append(y.dtype))
    model = _training.Rates(net, settings)
    step = _training.TrainingStep(model, torch.optim.Adam(net.parameters()))
    _, rates = step(torch.rand(3, 784), torch.arange(3))
    assert set(seen) == {torch.bfloat16}
    assert rates.dtype == torch.float32
    assert all(weight.dtype == torch.float32 for weight in net.parameters())


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
