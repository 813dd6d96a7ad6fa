"""convert(): the real libraries' neurons against ours, each in its own environment."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import torch
from torch import nn

import snnkernels
from benchmarks.peers import catalogue
from benchmarks.peers.install import Place

ROOT = Path(__file__).resolve().parent.parent


def interpreter(name):
    entry = next(e for e in catalogue.entries() if e.peer.name == name)
    python = Place().python(entry)
    if python is None:
        pytest.skip(f"{name} is not installed: python -m benchmarks --install-peers {name}")
    return python


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse", "sinabs"])
def test_neurons_of_the_library_are_met_or_named(library):
    run(interpreter(library), library)


def test_encoders_and_layers_do_what_spikingjellys_do():
    run(interpreter("spikingjelly"), "layers_and_encoders")


def test_a_graph_in_nir_by_norse_is_read_as_the_network_that_it_was():
    run(interpreter("norse"), "norse_nir")


def test_clock_driven_neurons_of_older_releases_are_met():
    """In an environment of one's own with spikingjelly 0.0.0.0.14, named by the variable."""
    python = os.environ.get("SNNKERNELS_CLOCK_DRIVEN_PYTHON")
    if not python:
        pytest.skip("SNNKERNELS_CLOCK_DRIVEN_PYTHON names no interpreter with spikingjelly 0.0.0.0")
    run(python, "clock_driven")


def run(python, library):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", "tests.foreign", library]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("same\n")


def test_a_network_without_foreign_neurons_is_copied_as_it_is():
    net = nn.Sequential(nn.Linear(2, 2), snnkernels.neuron.LIFNode())
    twin = snnkernels.convert(net)
    assert twin is not net
    assert torch.equal(twin[0].weight, net[0].weight)
    assert snnkernels.convert(net, inplace=True) is net
    with pytest.raises(TypeError, match="net must be a torch.nn.Module, got 3"):
        snnkernels.convert(3)
