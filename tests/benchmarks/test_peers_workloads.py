"""Which cases peers are measured on, and that everyone is given the same input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.peers import workloads
from benchmarks.peers.adapters import snnkernels as ours
from benchmarks.peers.spec import Task, Unsupported
from benchmarks.peers.torch_side import Library, TorchEngine, tensor
from benchmarks.peers.workloads import GIVEN_ELEMENTS, LETTERS, arrays, given_rows, name, selected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_first_case_of_every_workload_comes_before_any_second_one(device: str):
    tasks = selected(LETTERS, device)
    assert len({task.workload for task in tasks[: len(LETTERS)]}) == len(LETTERS)
    names = [name(task) for task in tasks]
    assert len(set(names)) == len(names)


def test_cuda_has_all_shapes_and_dtypes_asked_for():
    tasks = [task for task in selected(["a"], "cuda") if task.dtype == "float32"]
    assert {task.shape for task in tasks} >= {
        (4, 64, 65536), (8, 64, 65536), (16, 64, 65536), (32, 64, 65536), (2, 64, 65536),
        (16, 32, 1024), (500, 16, 512), (500, 16, 4096), (1000, 32, 128),
    }  # fmt: skip
    dtypes = {task.dtype for task in selected(["a"], "cuda")}
    assert dtypes == {"float32", "float16", "bfloat16", "autocast"}


def test_a_large_input_is_made_of_repeated_samples():
    task = Task("neuron", (4, 64, 65536))
    rows = given_rows(task)
    assert 4 * rows * 65536 == GIVEN_ELEMENTS
    small = Task("neuron", (4, 5, 8), rows=2)
    whole = tensor(small, arrays(small)["x"])
    assert whole.shape == (4, 5, 8)
    assert torch.equal(whole[:, 0], whole[:, 4])
    assert not torch.equal(whole[:, 0], whole[:, 1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_inputs_survive_the_way_over_float32(dtype: str):
    task = Task("neuron", (4, 2, 8), dtype=dtype, rows=2)
    given = arrays(task)["x"]
    assert given.dtype == np.float32
    assert torch.equal(tensor(task, given).float(), torch.from_numpy(given))


SMALL = [
    Task("neuron", (4, 3, 8), rows=2),
    Task("neuron", (4, 3, 8), "inference", rows=2),
    Task("neuron", (4, 3, 8), dtype="autocast", rows=3),
    Task("linear", (5, 3, 8), rows=3),
    Task("linear", (5, 3, 8), dtype="autocast", rows=3),
    Task("shd", (6, 4, 128), rows=4),
    Task("conv", (2, 3, 3, 8, 8), rows=3, width=4),
    Task("conv", (2, 3, 3, 8, 8), rows=3, width=4, layout="channels_last"),
]


@pytest.mark.parametrize("task", SMALL, ids=name)
def test_every_network_runs_and_spikes_and_gives_gradients(task: Task):
    loop = next(peer for peer in ours.PEERS if peer.name == "loop")
    job = ours.load(loop).prepare(task, arrays(task))
    assert len(job.samples(2)) == 2
    found = job.outcome()
    assert np.isfinite(found["output"]).all() and found["output"].any()
    assert ("gradient" in found) == (task.mode == "training")
    if task.mode == "training":
        assert np.isfinite(found["gradient"]).all() and found["gradient"].any()
    assert job.memory()["peak_extra"] >= 0


@pytest.mark.parametrize("workload", ["neuron", "linear"])
def test_neurons_fire_but_not_always(workload: str):
    task = Task(workload, (20, 8, 64), rows=8)
    loop = next(peer for peer in ours.PEERS if peer.name == "loop")
    output = ours.load(loop).prepare(task, arrays(task)).outcome()["output"]
    assert 0.05 < output.mean() < 0.95


def test_a_library_without_the_tutorial_says_so():
    with pytest.raises(Unsupported, match="no epoch"):
        TorchEngine(Library()).prepare(Task("mnist", (50, 128, 784)), {})


def test_mnist_is_looked_for_and_not_downloaded(tmp_path: Path, monkeypatch):
    assert workloads.mnist_folder(tmp_path) is None
    monkeypatch.setattr(workloads, "DATA_FOLDERS", (tmp_path,))
    tasks = selected(["e"], "cpu")
    assert [(task.dtype, task.options["dataset_dir"]) for task in tasks] == [
        ("float32", ""),
        ("autocast", ""),
    ]
