"""What the examples train on: MNIST by torchvision, sound, damaged and absent, and the digits."""

import socket
import sys
from pathlib import Path

import pytest
import torch
from mnist_files import TEST, TRAIN, idx, write_mnist

from snnkernels.examples import ExampleError, Missing, _data


@pytest.fixture
def mnist():
    """torchvision's class, whose download a test may replace."""
    reason = "MNIST is read by torchvision"
    return pytest.importorskip("torchvision.datasets", reason=reason, exc_type=Exception).MNIST


@pytest.fixture(params=["ImportError", "OSError", "RuntimeError", "AttributeError"])
def no_torchvision(request, tmp_path, monkeypatch):
    """A torchvision that is absent or was built for another torch."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "torchvision.py").write_text(f"raise {request.param}('no such operator')")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)


def test_mnist_is_read_as_intensities_and_labels(mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "mirrors", [])
    write_mnist(tmp_path)
    dataset = _data.load_dataset("auto", tmp_path)
    assert dataset.name == "mnist"
    assert dataset.test.images.shape == (TEST, 784)
    assert dataset.train.images.dtype == torch.float32
    assert dataset.train.labels.tolist() == [n % 10 for n in range(TRAIN)]
    expected = torch.arange(TRAIN * 784).remainder(256).view(TRAIN, 784) / 255
    assert torch.equal(dataset.train.images, expected)


def test_fashion_mnist_is_read_from_a_folder_of_its_own(mnist, tmp_path):
    write_mnist(tmp_path, "FashionMNIST")
    assert _data.has_files(tmp_path, "fashion-mnist") and not _data.has_files(tmp_path)
    assert len(_data.load_dataset("fashion-mnist", tmp_path).train) == TRAIN


WHOLE = idx(torch.zeros(TRAIN, 28, 28, dtype=torch.int))


@pytest.mark.parametrize("name", ["mnist", "auto"])
@pytest.mark.parametrize(
    "replaced",
    [
        {"train_images": b""},
        {"train_images": b"\x89PNG\r\n"},
        {"train_images": WHOLE[:9]},
        {"train_images": WHOLE[:-1]},
        {"train_images": WHOLE + b"\0"},
        {"train_images": idx(torch.zeros(TRAIN, dtype=torch.int))},
        {"train_images": idx(torch.zeros(TRAIN, 32, 30, dtype=torch.int))},
        {"train_labels": idx(torch.zeros(TRAIN - 1, dtype=torch.int))},
        {"t10k_labels": idx(torch.full((TEST,), 26))},
        {
            "t10k_images": idx(torch.zeros(0, 28, 28, dtype=torch.int)),
            "t10k_labels": idx(torch.zeros(0, dtype=torch.int)),
        },
    ],
    ids=["empty", "foreign", "header", "short", "long", "flat", "size", "fewer", "label", "none"],
)
def test_damaged_files_are_named_by_their_folder_and_auto_does_not_hide_them(
    mnist, tmp_path, name, replaced
):
    write_mnist(tmp_path, **replaced)
    with pytest.raises(ExampleError) as caught:
        _data.load_dataset(name, tmp_path)
    assert not isinstance(caught.value, Missing)
    assert f"{tmp_path / 'MNIST' / 'raw'} can't be read (" in str(caught.value)


def test_missing_files_are_downloaded_with_a_limit_to_each_wait(mnist, tmp_path, monkeypatch):
    waits = []

    def download(self):
        waits.append(socket.getdefaulttimeout())
        write_mnist(Path(self.root))

    monkeypatch.setattr(mnist, "download", download)
    assert len(_data.load_dataset("mnist", tmp_path).train) == TRAIN
    assert waits == [30.0, 30.0] and socket.getdefaulttimeout() is None


def test_a_failed_download_says_why_and_what_to_do(mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(Missing) as caught:
        _data.load_dataset("mnist", tmp_path)
    message = str(caught.value)
    assert "MNIST can't be downloaded" in message and "127.0.0.1" in message
    assert "--dataset-dir" in message and "MNIST/raw" in message and "--dataset digits" in message
    assert _data.load_dataset("auto", tmp_path).name == "digits"


def test_without_torchvision_mnist_names_the_extra(no_torchvision, tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(Missing, match=r"torchvision .*operator.*'snnkernels\[examples\]'"):
        _data.load_dataset("mnist", tmp_path)


def test_without_torchvision_auto_takes_the_digits_and_says_so(no_torchvision, tmp_path, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn carries the digits")
    assert _data.load_dataset("auto", tmp_path).name == "digits"
    said = capsys.readouterr().err
    assert "torchvision" in said and "digits instead" in said


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
    with pytest.raises(Missing, match=r"pip install 'snnkernels\[examples\]'"):
        _data.load_digits()
