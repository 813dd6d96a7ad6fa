"""The benchmark of compiled neurons, on small sequences, and the table that it wrote."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import compiled


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(compiled, "SHAPES", ((3, 2, 5),))


def test_the_command_measures_every_pair_and_writes_json(small, tmp_path, capsys):
    path = tmp_path / "found.json"
    assert compiled.main(["--budget", "0.01", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    assert [row["neuron"] for row in found["rows"]] == [pair.name for pair in compiled.PAIRS]
    for row in found["rows"]:
        ratio = row["other_time"]["median"] / row["compiled_time"]["median"]
        assert row["times_as_fast"] == ratio
    assert "CubaLIF, [3, 2, 5]" in capsys.readouterr().out


@pytest.mark.parametrize("pair", compiled.PAIRS, ids=lambda pair: pair.name)
def test_a_pair_computes_the_same(pair):
    torch.manual_seed(0)
    x_seq = 1.5 * torch.rand(9, 4, 7)
    nodes = pair.compiled(7), pair.other(7)
    steps = [compiled.Training(node, x_seq) for node in nodes]
    grad = torch.rand_like(x_seq)
    for step in steps:
        step.grad = grad
    assert torch.equal(nodes[0](x_seq), nodes[1](x_seq))
    (ours, *learnt), (theirs, *same) = (step() for step in steps)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert len(learnt) == len(same)


def test_the_pages_table_is_what_the_committed_json_says():
    text = compiled.markdown(json.loads(compiled.RESULT.read_text()))
    page = compiled.PAGE.read_text(encoding="utf-8")
    assert compiled.replace_between(page, compiled.BEGIN, text) == page
