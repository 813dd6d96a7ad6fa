"""The benchmark of encoder, linear layers and spike storage, on a small network."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import spikes
from benchmarks.memory import left_allocated


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(spikes, "ENCODING", (3, 4, 10))
    monkeypatch.setattr(spikes, "LINEAR", ((640, 100, 64),))
    monkeypatch.setattr(spikes, "RATES", (0.05, 0.2))
    monkeypatch.setattr(spikes, "BATCH", 2)
    monkeypatch.setattr(spikes, "SIZE", 16)
    monkeypatch.setattr(spikes, "build_net", lambda build=spikes.build_net: build((3, 16, 16)))


def test_the_command_prints_a_line_for_each_contender(capsys):
    assert spikes.main(["--budget", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("times as fast") == 4 + 2 * 2 + 2 * 2
    assert printed.count("kept") == 4


@pytest.mark.parametrize("channels_last", [False, True])
def test_both_steps_give_the_same_gradients_and_storage_keeps_less(channels_last):
    plain, packed = spikes.storage_steps("cpu", channels_last).values()
    for a, b in zip(plain().tensors, packed().tensors, strict=True):
        assert torch.equal(a, b)
    spared = 4 * 2 * 16 * 16 * 16 * 4 * 31 // 32  # the first layer's spikes
    difference = left_allocated(plain.forward, "cpu") - left_allocated(packed.forward, "cpu")
    assert 0.95 * spared < difference < 1.05 * spared


def test_what_a_call_leaves_allocated_is_what_its_result_holds():
    assert left_allocated(lambda: torch.ones(1000).neg(), "cpu") == 4000


def test_every_comparison_is_printed_and_written(tmp_path, capsys):
    file = tmp_path / "spikes.json"
    assert spikes.main(["--budget", "0.05", "--json", str(file)]) == 0
    seconds = json.loads(file.read_text())["seconds"]
    shown = capsys.readouterr().out
    assert len(seconds) == 1 + 2 + 2
    assert list(seconds["Linear layer, [640, 100] to 64, 20% fired"]) == [
        "torch.nn.functional.linear",
        "ours",
    ]
    for title, times in seconds.items():
        assert title in shown
        for name, median in times.items():
            assert name in shown
            assert median > 0


def test_parts_can_be_measured_alone(capsys):
    assert spikes.main(["--budget", "0.05", "--only", "encoding"]) == 0
    shown = capsys.readouterr().out
    assert "Poisson encoding, [T, B, N] = [3, 4, 10]" in shown
    assert "Linear layer" not in shown
