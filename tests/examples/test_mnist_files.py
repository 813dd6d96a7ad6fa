"""Reading the digits: MNIST's files, sound, damaged and absent, and scikit-learn's digits."""

import os
import sys
import types
from pathlib import Path

import pytest
import torch
from mnist_files import TEST, TRAIN, idx, mnist_files, write_mnist

from snnkernels.examples import _data
from snnkernels.examples._data import DatasetError, DatasetMissing
from snnkernels.examples._errors import ExampleError


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)


def fake_torchvision(monkeypatch, download):
    """A torchvision whose MNIST(root, download=True) calls ``download(raw_folder)``."""

    class MNIST:
        def __init__(self, root, download):
            assert download
            self.raw_folder = os.path.join(root, "MNIST", "raw")
            fetch(Path(self.raw_folder))

    fetch = download
    datasets = types.ModuleType("torchvision.datasets")
    datasets.MNIST = MNIST
    package = types.ModuleType("torchvision")
    package.datasets = datasets
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


@pytest.mark.parametrize("zipped", [False, True], ids=["raw", "gzipped"])
@pytest.mark.parametrize("place", ["MNIST/raw", "raw", "."])
def test_mnist_is_read_wherever_and_however_it_lies(tmp_path, place, zipped):
    write_mnist(tmp_path / place, zipped)
    dataset = _data.load_dataset("mnist", tmp_path)
    assert dataset.name == "mnist"
    assert dataset.train.images.shape == (TRAIN, 784)
    assert dataset.test.images.shape == (TEST, 784)
    assert dataset.train.images.dtype == torch.float32
    assert dataset.train.labels.tolist() == [n % 10 for n in range(TRAIN)]
    expected = torch.arange(TRAIN * 784).remainder(256).view(TRAIN, 784) / 255
    assert torch.equal(dataset.train.images, expected)


def test_a_raw_file_is_preferred_to_a_gzipped_one(tmp_path):
    write_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"never read")
    assert len(_data.load_mnist(tmp_path).train) == TRAIN


def test_a_truncated_file_is_named_with_the_length_found_and_expected(tmp_path):
    whole = mnist_files()["train-images-idx3-ubyte"]
    write_mnist(tmp_path, train_images=whole[:-100])
    message = (
        r"train-images-idx3-ubyte is truncated: 9,324 bytes, expected 9,424 "
        r"\(16 of header and 12 x 28 x 28\)"
    )
    with pytest.raises(DatasetError, match=message):
        _data.load_mnist(tmp_path)


def test_a_file_with_too_many_bytes_is_named_with_the_length_found_and_expected(tmp_path):
    whole = mnist_files()["t10k-labels-idx1-ubyte"]
    write_mnist(tmp_path, t10k_labels=whole + b"\0")
    with pytest.raises(
        DatasetError, match=r"t10k-labels-idx1-ubyte is too long: 14 bytes, expected 13"
    ):
        _data.load_mnist(tmp_path)


@pytest.mark.parametrize("length", [4, 9, 15])
def test_a_file_that_ends_in_its_header_is_truncated(tmp_path, length):
    whole = mnist_files()["train-images-idx3-ubyte"]
    write_mnist(tmp_path, train_images=whole[:length])
    with pytest.raises(
        DatasetError, match=rf"truncated: {length} bytes, expected 16 for its header alone"
    ):
        _data.load_mnist(tmp_path)


@pytest.mark.parametrize("kept", [20, -1, -9])
def test_a_truncated_gzip_file_is_named(tmp_path, kept):
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(
        DatasetError, match=r"train-images-idx3-ubyte\.gz is truncated: its gzip stream"
    ):
        _data.load_mnist(tmp_path)


@pytest.mark.parametrize("content", [b"<html>404</html>", b"PK\x03\x04"])
def test_a_gz_file_that_is_no_gzip_file_is_named_with_its_first_bytes(tmp_path, content):
    write_mnist(tmp_path, zipped=True)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(content)
    message = (
        rf"ubyte\.gz is not a sound gzip file .* begins with {content[:4].hex(' ')}, expected 1f 8b"
    )
    with pytest.raises(DatasetError, match=message):
        _data.load_mnist(tmp_path)


def test_a_damaged_gzip_file_is_named(tmp_path):
    write_mnist(tmp_path, zipped=True)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # in the check sum
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"train-labels-idx1-ubyte\.gz is not a sound gzip file"):
        _data.load_mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "nothing"),
        (b"\x89PNG\r\n", "89 50 4e 47"),
        (idx(torch.zeros(TRAIN, dtype=torch.int)), "00 00 08 01"),
        (b"\0\0\x0d\x03" + bytes(12), "00 00 0d 03"),
    ],
    ids=["empty", "png", "labels for images", "floats"],
)
def test_a_foreign_file_is_named_with_the_magic_number_found_and_expected(tmp_path, content, found):
    write_mnist(tmp_path, train_images=content)
    message = (
        rf"train-images-idx3-ubyte is not the IDX file .* begins with {found}, "
        r"expected the magic number 00 00 08 03 \(unsigned bytes, 3-dimensional\)"
    )
    with pytest.raises(DatasetError, match=message):
        _data.load_mnist(tmp_path)


def test_images_of_another_size_are_refused(tmp_path):
    write_mnist(tmp_path, train_images=idx(torch.zeros(TRAIN, 32, 30, dtype=torch.int)))
    with pytest.raises(DatasetError, match=r"images of 32 x 30 pixels, expected 28 x 28"):
        _data.load_mnist(tmp_path)


def test_fewer_labels_than_images_are_refused(tmp_path):
    write_mnist(tmp_path, train_labels=idx(torch.zeros(TRAIN - 1, dtype=torch.int)))
    message = (
        r"train-labels-idx1-ubyte holds 11 labels, expected 12, one for each image of .*images"
    )
    with pytest.raises(DatasetError, match=message):
        _data.load_mnist(tmp_path)


def test_labels_that_are_no_digits_are_refused(tmp_path):
    write_mnist(tmp_path, t10k_labels=idx(torch.full((TEST,), 26)))
    with pytest.raises(
        DatasetError, match=r"t10k-labels-idx1-ubyte holds the label 26, expected 0 to 9"
    ):
        _data.load_mnist(tmp_path)


def test_files_without_images_are_refused(tmp_path):
    write_mnist(
        tmp_path,
        train_images=idx(torch.zeros(0, 28, 28, dtype=torch.int)),
        train_labels=idx(torch.zeros(0, dtype=torch.int)),
    )
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte holds no images"):
        _data.load_mnist(tmp_path)


def test_an_unreadable_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere cannot be read: No such file or directory"):
        _data.read_idx(tmp_path / "nowhere", 1)


def test_missing_files_are_named_with_the_places_and_the_way_out(tmp_path, no_torchvision):
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetMissing) as caught:
        _data.load_dataset("mnist", tmp_path)
    message = str(caught.value)
    assert message.startswith("MNIST is not there: t10k-labels-idx1-ubyte (raw or .gz) in none of")
    assert str(tmp_path / "MNIST" / "raw") in message
    assert "torchvision does not import" in message
    assert "--dataset-dir" in message and "--dataset digits" in message


def test_missing_files_are_downloaded_and_only_whole_ones_appear(tmp_path, monkeypatch):
    fake_torchvision(monkeypatch, write_mnist)
    folder = tmp_path / "data"
    assert len(_data.load_dataset("mnist", folder).train) == TRAIN
    assert sorted(path.name for path in (folder / "MNIST" / "raw").iterdir()) == sorted(
        mnist_files()
    )


def test_a_download_that_breaks_off_leaves_no_file_and_says_why(tmp_path, monkeypatch):
    def break_off(raw):
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08half")
        raise RuntimeError("Error downloading:\n  no route")

    fake_torchvision(monkeypatch, break_off)
    with pytest.raises(DatasetMissing, match=r"download failed \(Error downloading: no route\)"):
        _data.load_dataset("mnist", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nothing_is_downloaded_where_the_files_are(tmp_path, monkeypatch):
    fake_torchvision(monkeypatch, lambda raw: pytest.fail("downloaded"))
    write_mnist(tmp_path, zipped=True)
    assert len(_data.load_dataset("auto", tmp_path).test) == TEST


def test_auto_falls_back_to_the_digits_and_says_so(tmp_path, capsys, no_torchvision):
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    assert _data.load_dataset("auto", tmp_path).name == "digits"
    said = capsys.readouterr().err
    assert "MNIST is not there" in said
    assert "Training on scikit-learn's 8x8 digits instead." in said


def test_auto_does_not_hide_a_damaged_file(tmp_path):
    write_mnist(tmp_path, train_images=b"")
    with pytest.raises(DatasetError, match="begins with nothing"):
        _data.load_dataset("auto", tmp_path)


def test_the_digits_are_split_the_same_way_every_time_and_lie_in_zero_to_one():
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    digits = _data.load_dataset("digits", Path("unused"))
    assert digits.train.images.shape == (1437, 64)
    assert digits.test.images.shape == (360, 64)
    assert digits.train.images.min() == 0 and digits.train.images.max() == 1
    assert digits.test.labels.bincount(minlength=10).min() >= 20
    assert torch.equal(digits.test.images, _data.load_digits().test.images)


def test_without_scikit_learn_the_digits_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ExampleError, match=r"pip install 'snnkernels\[examples\]'"):
        _data.load_digits()
