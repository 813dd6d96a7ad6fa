"""Which cases peers are measured on, and that everyone is given the same input."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.case import Case, Task, Unavailable
from benchmarks.networks import Library, TorchEngine, tensor
from benchmarks.peers.adapters import snnkernels as ours
from benchmarks.workloads import LETTERS, arrays, selected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_first_case_of_every_workload_comes_before_any_second_one(device: str):
    cases = selected(LETTERS, device)
    assert len({case.workload for case in cases[: len(LETTERS)]}) == len(LETTERS)
    assert len(set(map(str, cases))) == len(cases)


def test_cuda_has_all_shapes_and_dtypes_asked_for():
    cases = selected(["a"], "cuda")
    assert {case.shape for case in cases if case.dtype == "float32"} >= {
        (4, 64, 65536), (8, 64, 65536), (16, 64, 65536), (32, 64, 65536), (2, 64, 65536),
        (16, 32, 1024), (500, 16, 512), (500, 16, 4096), (1000, 32, 128),
    }  # fmt: skip
    assert {case.dtype for case in cases} == {"float32", "float16", "bfloat16", "autocast"}


def test_a_large_input_is_made_of_repeated_samples(monkeypatch):
    monkeypatch.setattr("benchmarks.case.GIVEN_ELEMENTS", 64)
    small = Case("neuron", (4, 5, 8))
    given = arrays(small, small.few_rows)["x"]
    assert given.shape == (4, 2, 8)
    whole = tensor(small, given)
    assert whole.shape == (4, 5, 8)
    assert torch.equal(whole[:, 0], whole[:, 4])
    assert not torch.equal(whole[:, 0], whole[:, 1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_inputs_survive_the_way_over_float32(dtype: str):
    case = Case("neuron", (4, 2, 8), dtype=dtype)
    given = arrays(case)["x"]
    assert given.dtype == np.float32
    assert torch.equal(tensor(case, given).float(), torch.from_numpy(given))


SMALL = [
    Case("neuron", (4, 3, 8)),
    Case("neuron", (4, 3, 8), "inference"),
    Case("neuron", (4, 3, 8), dtype="autocast"),
    Case("linear", (5, 3, 8)),
    Case("linear", (5, 3, 8), dtype="autocast"),
    Case("shd", (6, 4, 128)),
    Case("conv", (2, 3, 3, 8, 8), options={"width": 4}),
    Case("conv", (2, 3, 3, 8, 8), variant="channels_last", options={"width": 4}),
]


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_network_runs_and_spikes_and_gives_gradients(case: Case):
    job = ours.load(ours.LOOP).prepare(Task(case), arrays(case))
    assert len(job.samples(2)) == 2
    found = job.outcome()
    assert found["output"].isfinite().all() and found["output"].any()
    assert ("gradient" in found) == (case.mode == "training")
    if case.mode == "training":
        assert found["gradient"].isfinite().all() and found["gradient"].any()
    assert job.memory().peak_extra >= 0


def test_of_a_repeated_input_only_what_was_given_is_handed_back():
    case = Case("neuron", (4, 5, 8))
    job = ours.load(ours.LOOP).prepare(Task(case, rows=2), arrays(case, 2))
    found = job.outcome()
    assert found["output"].shape == (4, 2, 8) and found["gradient"].numel() == 64


def test_mnist_that_cannot_be_read_is_no_failure_of_the_library(tmp_path: Path):
    """Without torchvision, or with files that are not whole, the epoch cannot be had."""
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part, kind in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        (tmp_path / "MNIST" / "raw" / f"{part}-{kind}-ubyte").write_bytes(b"nothing")
    options = {"dataset_dir": str(tmp_path), "parts": 10}
    with pytest.raises(Unavailable, match=r"torchvision|MNIST"):
        ours.load(ours.NATIVE).prepare(Task(Case("mnist", (50, 128, 784), options=options)), {})


def test_linear_neurons_fire_but_not_always():
    case = Case("linear", (20, 8, 64))
    output = ours.load(ours.LOOP).prepare(Task(case), arrays(case)).outcome()["output"]
    assert 0.05 < output.mean() < 0.95


def test_a_library_without_the_tutorial_says_so():
    with pytest.raises(Unavailable, match="no epoch"):
        TorchEngine(Library()).prepare(Task(Case("mnist", (50, 128, 784))), {})


def test_mnist_is_looked_for_and_not_downloaded(tmp_path: Path):
    def folders() -> list[tuple[str, str]]:
        return [(c.dtype, c.options["dataset_dir"]) for c in selected(["e"], "cpu", tmp_path)]

    assert folders() == [("float32", ""), ("autocast", "")]
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for part, kind in itertools.product(("train", "t10k"), ("images-idx3", "labels-idx1")):
        (tmp_path / "MNIST" / "raw" / f"{part}-{kind}-ubyte").touch()
    assert folders() == [("float32", str(tmp_path)), ("autocast", str(tmp_path))]
