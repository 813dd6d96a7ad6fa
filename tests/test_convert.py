"""convert(): the real libraries' neurons against ours, each with packages of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import snnkernels
from benchmarks.peers import install
from benchmarks.peers.spec import peers

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("library", ["spikingjelly", "snntorch", "norse", "sinabs"])
def test_neurons_of_the_library_are_met_or_named(library):
    run_beside(library, library)


def test_encoders_and_layers_do_what_spikingjellys_do():
    run_beside("spikingjelly", "layers_and_encoders")


def test_a_graph_in_nir_by_norse_is_read_as_the_network_that_it_was():
    run_beside("norse", "norse_nir")


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_what_the_page_about_moving_shows_is_so(library):
    run_beside(library, f"moving_from_{library}")


def test_clock_driven_neurons_of_older_releases_are_met():
    run_beside("spikingjelly-cupy", "clock_driven")


def run_beside(library, what):
    """With the packages of another library; where all of them are wanted, a missing one fails."""
    (peer,) = [peer for peer in peers() if peer.name == library]
    if not install.installed(peer):
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"{library} is not installed: python -m benchmarks install {library}")
    places = os.pathsep.join(map(str, (ROOT, install.packages(peer))))
    done = subprocess.run(
        [sys.executable, "-m", "tests.foreign", what],
        env={**os.environ, "PYTHONPATH": places},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
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
