"""``python -m benchmarks.spikes``: what encoder, linear layers and ``spike_storage`` gain and cost.

Encoding: T = 50 steps of a batch of 128 images of 784 pixels, against torch.rand and a comparison.
Linear layers: output and gradient of the weight, as PyTorch computes them and adding up what fired,
for the tutorial's first layer and a square one, at some firing rates.
Storage: one training step of six layers of convolution, batch norm and LIF on images as large as
CIFAR's, T = 4 steps, with and without the context. Memory is what the forward leaves for the
backward, and the peak of both, beyond weights and input.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.memory import left_allocated, measure
from benchmarks.timing import Summary, time_calls
from snnkernels import functional, neuron, surrogate

ENCODING = (50, 128, 784)  # T, B, pixels
LINEAR = ((6400, 784, 196), (8000, 512, 512))  # rows, inputs, outputs
RATES = (0.02, 0.05, 0.1, 0.2, 0.28)
STEPS, BATCH, SIZE = 4, 32, 32
CHANNELS = (3, 64, 64, 128, 128, 256, 256)
MIB = 2**20


@dataclass(frozen=True)
class Gradients:
    """What a training step leaves, for the measurement of memory."""

    tensors: list[Tensor]


class Block(nn.Module):
    """Convolution and batch norm over all steps at once, then LIF. x_seq is [T, B, C, H, W]."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)
        self.lif = neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m")

    def forward(self, x_seq: Tensor) -> Tensor:
        y = self.norm(self.conv(x_seq.flatten(0, 1)))
        return self.lif(y.unflatten(0, x_seq.shape[:2]))


def build_net(channels: tuple[int, ...] = CHANNELS) -> nn.Sequential:
    """A block for each pair of channels; each second one halves the image."""
    pairs = zip(channels, channels[1:], strict=False)
    return nn.Sequential(*[Block(c, f, 1 + k % 2) for k, (c, f) in enumerate(pairs)])


@dataclass(frozen=True)
class TrainingStep:
    """A step of ``net`` on x_seq [T, B, C, H, W] whose forward runs within a context."""

    net: nn.Sequential
    x_seq: Tensor
    context: Callable[[], AbstractContextManager[object]]

    def forward(self) -> Tensor:
        functional.reset_net(self.net)
        with self.context():
            loss: Tensor = self.net(self.x_seq).mean()
        functional.reset_net(self.net)
        return loss

    def __call__(self) -> Gradients:
        loss = self.forward()
        gradients = torch.autograd.grad(loss, list(self.net.parameters()))
        return Gradients([loss.detach(), *gradients])


def storage_steps(device: str, channels_last: bool) -> dict[str, TrainingStep]:
    """The training step without and with ``spike_storage``."""
    torch.manual_seed(0)
    net = build_net().to(device)
    x = torch.randn(STEPS * BATCH, CHANNELS[0], SIZE, SIZE, device=device)
    if channels_last:
        for parameter in net.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    x_seq = x.unflatten(0, (STEPS, BATCH))
    return {
        "as ever": TrainingStep(net, x_seq, nullcontext),
        "spike_storage": TrainingStep(net, x_seq, functional.spike_storage),
    }


def encoders(device: str) -> dict[str, Callable[[], object]]:
    """Ways to T steps of spikes in float32, and the fused ones in other dtypes."""
    steps, batch, pixels = ENCODING
    x = torch.rand(batch, pixels, device=device)

    def compare() -> Tensor:
        return (torch.rand(ENCODING, device=device) < x).to(x.dtype)

    calls: dict[str, Callable[[], object]] = {"torch.rand and <": compare}
    for dtype in (torch.float32, torch.bfloat16, torch.bool):
        calls[f"fused, {dtype}"] = partial(functional.poisson_encode, x, steps, dtype=dtype)
    return calls


def linear_layers(
    device: str, shape: tuple[int, int, int], rate: float
) -> dict[str, Callable[[], object]]:
    """Forward and the weight's gradient of a linear layer on random spikes."""
    rows, inputs, outputs = shape
    x = (torch.rand(rows, inputs, device=device) < rate).float()
    weight = torch.randn(outputs, inputs, device=device, requires_grad=True)
    upstream = torch.randn(rows, outputs, device=device)

    def train(backend: str) -> tuple[Tensor, ...]:
        y = functional.linear(x, weight, backend=backend)
        return torch.autograd.grad(y, weight, upstream)

    return {"torch.nn.functional.linear": partial(train, "torch"), "ours": partial(train, "auto")}


def line(name: str, summary: Summary, first: Summary, extra: str = "") -> str:
    spread = f"{1e3 * summary.median:9.2f} ms (IQR {1e3 * summary.iqr:.2f})"
    return f"  {name:26} {spread:28} {first.median / summary.median:5.2f} times as fast{extra}"


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spikes", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each comparison")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"Poisson encoding, [T, B, N] = {list(ENCODING)}, {torch.get_num_threads()} threads")
    timed = time_calls(encoders(options.device), options.device, options.budget)
    for name, summary in timed.items():
        print(line(name, summary, next(iter(timed.values()))))
    for shape in LINEAR:
        for rate in RATES:
            print(f"Linear layer, [rows, inputs] = {list(shape[:2])}, {shape[2]} outputs, ", end="")
            print(f"{rate:.0%} fired")
            calls = linear_layers(options.device, shape, rate)
            timed = time_calls(calls, options.device, options.budget / len(RATES))
            for name, summary in timed.items():
                print(line(name, summary, next(iter(timed.values()))))
    for channels_last in (False, True):
        layout = "channels_last" if channels_last else "contiguous"
        print(f"Training, (Conv-BN-LIF) x 6, T = {STEPS}, batch {BATCH}, {layout}")
        steps = storage_steps(options.device, channels_last)
        timed = time_calls(steps, options.device, options.budget)
        for name, step in steps.items():
            peak = measure(step, options.device, (), record_saved=False).peak_extra
            kept = left_allocated(step.forward, options.device)
            extra = f", kept {kept / MIB:.0f} MiB, peak {peak / MIB:.0f} MiB"
            print(line(name, timed[name], next(iter(timed.values())), extra))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
