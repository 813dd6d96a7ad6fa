"""What encoder, linear layers and spike storage gain and cost, measured."""

import json

import pytest

from benchmarks import spikes


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(spikes, "ENCODING", (3, 4, 50))
    monkeypatch.setattr(spikes, "LINEAR", ((640, 100, 64),))
    monkeypatch.setattr(spikes, "RATES", (0.05, 0.2))
    monkeypatch.setattr(spikes, "SIZE", 8)


def test_every_comparison_is_printed_and_written(small, tmp_path, capsys):
    file = tmp_path / "spikes.json"
    assert spikes.main(["--budget", "0.1", "--json", str(file)]) == 0
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
    assert shown.count("kept") == 4


def test_parts_can_be_measured_alone(small, tmp_path, capsys):
    assert spikes.main(["--budget", "0.1", "--only", "encoding"]) == 0
    shown = capsys.readouterr().out
    assert "Poisson encoding, [T, B, N] = [3, 4, 50]" in shown
    assert "Linear layer" not in shown
