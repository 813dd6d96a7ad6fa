"""What the examples train on: MNIST or Fashion-MNIST from its files, or scikit-learn's 8x8 digits.

MNIST lies, as Fashion-MNIST does, in four IDX files, raw or gzipped: a big-endian magic
number (two zero bytes, 8 for unsigned bytes, the number of dimensions), each dimension as a
big-endian 32-bit integer, and the bytes.
"""

from __future__ import annotations

import gzip
import math
import os
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ._errors import ExampleError, needs_extra

CLASSES = 10
DATASETS = ("mnist", "fashion-mnist", "digits", "auto")
BATCH_SIZES = {"mnist": 128, "fashion-mnist": 128, "digits": 16}  # what suits the number of samples

_KINDS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}  # torchvision's names
_MNIST_SIDE = 28
_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_UNSIGNED_BYTE = 8
_DOWNLOAD_TIMEOUT_S = 30.0


class DatasetError(ExampleError):
    """A data set cannot be read; the message names the file, what was found and what expected."""


class DatasetMissing(DatasetError):
    """A data set is neither there nor to be had."""


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
        name: ``"mnist"``, ``"fashion-mnist"``, ``"digits"``, or ``"auto"``: MNIST, and where it can
            be neither found nor downloaded the digits, which is said on stderr.
        folder: where the MNIST files are, or are downloaded to; not used by the digits.

    Raises:
        DatasetMissing: it can be neither found nor downloaded.
        DatasetError: a file is damaged, or is not what its name says.
    """
    if name == "digits":
        return load_digits()
    try:
        return load_mnist(folder, "mnist" if name == "auto" else name)
    except DatasetMissing as error:
        if name != "auto":
            raise
        print(f"{error}\nTraining on scikit-learn's 8x8 digits instead.", file=sys.stderr)
        return load_digits()


# --- MNIST ---------------------------------------------------------------------------------------


def load_mnist(folder: Path, name: str = "mnist") -> Dataset:
    """MNIST or Fashion-MNIST from its four files below ``folder``.

    torchvision downloads them if they are absent.

    The files may be raw or gzipped (``.gz``), in ``folder/MNIST/raw`` or
    ``folder/FashionMNIST/raw`` (where torchvision keeps them), in ``folder/raw`` or in ``folder``.

    Raises:
        DatasetMissing: a file can be neither found nor downloaded.
        DatasetError: a file is damaged, or is not what its name says.
    """
    kind = _KINDS[name]
    if missing := _missing_files(folder, kind):
        reason = _download(folder, kind)
        if missing := _missing_files(folder, kind):
            raise DatasetMissing(_missing_message(folder, kind, missing, reason))
    return Dataset(name, *(_read_samples(folder, kind, part) for part in _MNIST_FILES))


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of an IDX file, raw or gzipped, as a uint8 tensor of the shape that it states.

    Args:
        path: the file; one that ends in ``.gz`` is decompressed.
        dimensions: the number of dimensions that it must have (MNIST: 3 images, 1 labels).

    Raises:
        DatasetError: the file cannot be read, its magic number is another, or its length is not the
            one that its dimensions give.
    """
    content = _read_bytes(path)
    header = 4 + 4 * dimensions
    expected = struct.pack(">BBBB", 0, 0, _UNSIGNED_BYTE, dimensions)
    if content[:4] != expected:
        raise DatasetError(
            f"{path} is not the IDX file it should be: it begins with {_hex(content[:4])}, "
            f"expected the magic number {_hex(expected)} (unsigned bytes, {dimensions}-dimensional)"
        )
    if len(content) < header:
        raise DatasetError(
            f"{path} is truncated: {len(content)} bytes, expected {header} for its header alone"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    length = header + math.prod(shape)
    if len(content) != length:
        raise DatasetError(
            f"{path} is {'truncated' if len(content) < length else 'too long'}: {len(content):,} "
            f"bytes, expected {length:,} ({header} of header and {' x '.join(map(str, shape))})"
        )
    return torch.frombuffer(content, dtype=torch.uint8)[header:].reshape(shape)


def _read_bytes(path: Path) -> bytearray:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}") from error
    if path.suffix != ".gz":
        return bytearray(content)
    try:
        return bytearray(gzip.decompress(content))
    except EOFError as error:
        raise DatasetError(
            f"{path} is truncated: its gzip stream of {len(content):,} bytes has no end; delete it "
            "and get it anew"
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(
            f"{path} is not a sound gzip file ({error}); it begins with {_hex(content[:4])}, "
            "expected 1f 8b"
        ) from error


def _read_samples(folder: Path, kind: str, part: str) -> Samples:
    images_path, labels_path = (_find(folder, kind, name) for name in _MNIST_FILES[part])
    assert images_path is not None and labels_path is not None
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    side = (_MNIST_SIDE, _MNIST_SIDE)
    if images.shape[1:] != side:
        found = " x ".join(map(str, images.shape[1:]))
        raise DatasetError(f"{images_path} holds images of {found} pixels, expected 28 x 28")
    if len(images) != len(labels):
        raise DatasetError(
            f"{labels_path} holds {len(labels)} labels, expected {len(images)}, one for each image "
            f"of {images_path}"
        )
    if len(labels) == 0:
        raise DatasetError(f"{images_path} holds no images, expected at least one")
    if labels.max() >= CLASSES:
        raise DatasetError(
            f"{labels_path} holds the label {labels.max()}, expected 0 to {CLASSES - 1}"
        )
    return Samples(images.flatten(1).float().div_(255), labels.long())


def _find(folder: Path, kind: str, name: str) -> Path | None:
    for place in _places(folder, kind):
        for path in (place / name, place / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def _places(folder: Path, kind: str) -> tuple[Path, ...]:
    return (folder / kind / "raw", folder / "raw", folder)


def _all_names() -> list[str]:
    return [name for pair in _MNIST_FILES.values() for name in pair]


def _missing_files(folder: Path, kind: str) -> list[str]:
    return [name for name in _all_names() if _find(folder, kind, name) is None]


def _missing_message(folder: Path, kind: str, missing: list[str], reason: str) -> str:
    places = ", ".join(str(place) for place in _places(folder, kind))
    return (
        f"{kind} is not there: {', '.join(missing)} (raw or .gz) in none of {places}.\n"
        f"It could not be downloaded either: {reason}.\n"
        "Name the folder of the four files with --dataset-dir, or train on scikit-learn's 8x8 "
        "digits with --dataset digits."
    )


def _download(folder: Path, kind: str) -> str:
    """Let torchvision download its data set ``kind`` into ``folder/kind/raw``.

    Returns why it failed, or ``""``. The files appear there only once they are whole.
    """
    try:
        from torchvision import datasets
    except (ImportError, OSError, RuntimeError) as error:  # the latter two: built for another torch
        return f"torchvision does not import ({error})"
    print(f"{kind} is not in {folder}: downloading it with torchvision", file=sys.stderr)
    raw = folder / kind / "raw"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=raw) as scratch, _socket_timeout(_DOWNLOAD_TIMEOUT_S):
            downloaded = Path(getattr(datasets, kind)(scratch, download=True).raw_folder)
            for name in _all_names():
                os.replace(downloaded / name, raw / name)
    except (OSError, RuntimeError) as error:
        return f"torchvision's download failed ({' '.join(str(error).split())})"
    return ""


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _hex(data: bytes | bytearray) -> str:
    return data.hex(" ") or "nothing"


# --- scikit-learn's digits -----------------------------------------------------------------------


def load_digits() -> Dataset:
    """The 1797 digits of 8x8 pixels that scikit-learn carries; every fifth one is a test sample.

    Raises:
        ExampleError: scikit-learn does not import.
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise needs_extra("scikit-learn", error) from error
    digits = datasets.load_digits()
    images = torch.tensor(digits.data, dtype=torch.float32).div_(16)  # 17 levels, 0 to 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    is_test = torch.arange(len(labels)) % 5 == 0
    return Dataset(
        "digits",
        Samples(images[~is_test], labels[~is_test]),
        Samples(images[is_test], labels[is_test]),
    )
