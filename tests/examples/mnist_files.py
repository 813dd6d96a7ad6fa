"""Four small files in MNIST's format, where torchvision reads them."""

import struct
from pathlib import Path

import torch

TRAIN, TEST = 12, 5


def idx(values: torch.Tensor) -> bytes:
    header = struct.pack(f">BBBB{values.dim()}I", 0, 0, 8, values.dim(), *values.shape)
    return header + bytes(values.flatten().tolist())


def write_mnist(root: Path, kind: str = "MNIST", **replaced: bytes) -> None:
    """All four files; ``replaced`` names one by its first two words, as ``train_images``."""
    raw = root / kind / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images = torch.arange(count * 784).remainder(256).view(count, 28, 28)
        labels = torch.arange(count).remainder(10)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            content = replaced.get(f"{part}_{name[:6]}", idx(values))
            (raw / f"{part}-{name}-ubyte").write_bytes(content)
