"""What the examples train on: torchvision's MNIST and Fashion-MNIST, scikit-learn's digits."""

from __future__ import annotations

import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import ExampleError, Missing, needs, reason

CLASSES = 10
BATCH_SIZES = {"mnist": 128, "fashion-mnist": 128, "digits": 16}  # what suits the number of samples

_KINDS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # torchvision's names
_DOWNLOAD_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Samples:
    """Images ``[N, pixels]``, float32 intensities in [0, 1], and their labels ``[N]``, int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> Samples:
        return Samples(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> Samples:
        return Samples(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Dataset:
    """Training and test samples of the data set ``name``."""

    name: str
    train: Samples
    test: Samples


def load_dataset(name: str, folder: Path) -> Dataset:
    """The data set ``name``, whole and in memory.

    Args:
        name: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, or ``"auto"``: MNIST, and where it or
            torchvision cannot be had the digits, which is said on stderr.
        folder: torchvision's root, where its files are or are downloaded to.

    Raises:
        Missing: a package does not import, or the download failed.
        ExampleError: the files are there and can't be read.
    """
    try:
        if name != "digits":
            return load_mnist(folder, "mnist" if name == "auto" else name)
    except Missing as error:
        if name != "auto":
            raise
        print(f"{error}\nTraining on scikit-learn's 8x8 digits instead.", file=sys.stderr)
    return load_digits()


def has_files(folder: Path, name: str = "mnist") -> bool:
    """Whether torchvision finds its four uncompressed files, e.g. in ``folder/MNIST/raw``."""
    return len(list((folder / _KINDS[name] / "raw").glob("*-ubyte"))) == 4


def load_mnist(folder: Path, name: str = "mnist") -> Dataset:
    """MNIST or Fashion-MNIST as of ``load_dataset``."""
    with needs("torchvision"):
        from torchvision import datasets
    kind, there, timeout = _KINDS[name], has_files(folder, name), socket.getdefaulttimeout()
    raw = folder / kind / "raw"
    if not there:
        print(f"{kind} is not in {raw}: torchvision fetches it", file=sys.stderr)
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        parts = (getattr(datasets, kind)(folder, train, download=True) for train in (True, False))
        return Dataset(name, *map(_samples, parts))
    except Exception as error:  # torchvision lets through whatever it meets in a file
        if there:
            raise ExampleError(
                f"{raw} can't be read ({reason(error)}): if it is damaged, delete it to download "
                "it anew"
            ) from error
        raise Missing(
            f"{kind} can't be downloaded to {raw} ({reason(error)}): put its four uncompressed "
            f"files there, name with --dataset-dir a folder that has them in {kind}/raw, or train "
            "on scikit-learn's 8x8 digits with --dataset digits"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _samples(part: Any) -> Samples:
    images, labels = part.data, part.targets
    if images.shape != (len(labels), 28, 28) or labels.max() >= CLASSES:
        raise ValueError(
            f"got images {list(images.shape)} and {len(labels)} labels up to {labels.max()}, "
            f"expected [N, 28, 28] and N labels below {CLASSES}"
        )
    return Samples(images.flatten(1).float().div_(255), labels)


def load_digits() -> Dataset:
    """The 1797 digits of 8x8 pixels that scikit-learn carries; every fifth one is a test sample."""
    with needs("scikit-learn"):
        from sklearn import datasets
    digits = datasets.load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32).div_(16)  # 17 levels, 0 to 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    test = torch.arange(len(labels)) % 5 == 0
    return Dataset(
        "digits", Samples(images[~test], labels[~test]), Samples(images[test], labels[test])
    )
