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
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import environment
from benchmarks.memory import left_allocated, measure
from benchmarks.report import write_json
from benchmarks.timing import Summary, time_calls
from snnkernels import functional, neuron, surrogate

ENCODING = (50, 128, 784)  # T, B, pixels
LINEAR = ((6400, 784, 196), (8000, 512, 512))  # rows, inputs, outputs
RATES = (0.02, 0.05, 0.1, 0.2, 0.28)
STEPS, BATCH, SIZE = 4, 32, 32
CHANNELS = (3, 64, 64, 128, 128, 256, 256)
MIB = 2**20
SCHEMA = "snnkernels-spikes-1"


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


@dataclass(frozen=True)
class Comparison:
    """Calls that do the same, the first as ever, and what to say of each beside its time."""

    title: str
    calls: dict[str, Callable[[], object]]
    share: float = 1.0
    """Of the time for a comparison."""
    extra: Callable[[str], str] = lambda name: ""


def encoding(device: str) -> Iterator[Comparison]:
    yield Comparison(f"Poisson encoding, [T, B, N] = {list(ENCODING)}", encoders(device))


def linear(device: str) -> Iterator[Comparison]:
    for rows, inputs, outputs in LINEAR:
        for rate in RATES:
            title = f"Linear layer, [{rows}, {inputs}] to {outputs}, {rate:.0%} fired"
            calls = linear_layers(device, (rows, inputs, outputs), rate)
            yield Comparison(title, calls, 1 / len(RATES))


def storage(device: str) -> Iterator[Comparison]:
    for channels_last in (False, True):
        layout = "channels_last" if channels_last else "contiguous"
        steps = storage_steps(device, channels_last)

        def memory(name: str, steps: dict[str, TrainingStep] = steps) -> str:
            peak = measure(steps[name], device, (), record_saved=False).peak_extra
            kept = left_allocated(steps[name].forward, device)
            return f", kept {kept / MIB:.0f} MiB, peak {peak / MIB:.0f} MiB"

        title = f"Training, (Conv-BN-LIF) x 6, T = {STEPS}, batch {BATCH}, {layout}"
        yield Comparison(title, dict(steps), extra=memory)


PARTS: dict[str, Callable[[str], Iterator[Comparison]]] = {
    "encoding": encoding,
    "linear": linear,
    "storage": storage,
}


def line(name: str, summary: Summary, first: Summary, extra: str = "") -> str:
    spread = f"{1e3 * summary.median:9.2f} ms (IQR {1e3 * summary.iqr:.2f})"
    return f"  {name:26} {spread:28} {first.median / summary.median:5.2f} times as fast{extra}"


@dataclass(frozen=True)
class Found:
    """The machine, and the median seconds of each call by comparison and name."""

    environment: dict[str, object]
    seconds: dict[str, dict[str, float]]

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, "environment": self.environment, "seconds": self.seconds}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spikes", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, help="threads of torch on the CPU")
    parser.add_argument("--budget", type=float, default=10.0, help="seconds for each comparison")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the medians to a file")
    options = parser.parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    found = Found(environment.describe([options.device]), {})
    for part in options.only:
        for comparison in PARTS[part](options.device):
            print(f"{comparison.title}, {torch.get_num_threads()} threads")
            budget = options.budget * comparison.share
            timed = time_calls(comparison.calls, options.device, budget)
            first = next(iter(timed.values()))
            for name, summary in timed.items():
                print(line(name, summary, first, comparison.extra(name)))
            found.seconds[comparison.title] = {n: each.median for n, each in timed.items()}
    if options.json:
        write_json(found, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
