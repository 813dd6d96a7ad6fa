"""Four small files in MNIST's format."""

import gzip
import struct
from pathlib import Path

import torch

TRAIN, TEST = 12, 5


def idx(values: torch.Tensor) -> bytes:
    header = struct.pack(f">BBBB{values.dim()}I", 0, 0, 8, values.dim(), *values.shape)
    return header + bytes(values.flatten().tolist())


def mnist_files() -> dict[str, bytes]:
    files = {}
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        images = torch.arange(count * 784).remainder(256).view(count, 28, 28)
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx(torch.arange(count).remainder(10))
    return files


def write_mnist(folder: Path, zipped: bool = False, **replaced: bytes) -> None:
    """All four files; ``replaced`` names one by its first two words, as ``train_images``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in mnist_files().items():
        content = replaced.get("_".join(name.split("-")[:2]), content)
        (folder / f"{name}{'.gz' if zipped else ''}").write_bytes(
            gzip.compress(content) if zipped else content
        )
