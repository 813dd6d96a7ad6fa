"""One thread for each test, and a run that many begin with."""

import shutil
from pathlib import Path

import pytest
import torch
from run_files import flags

from snnkernels.examples import lif_fc_mnist


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """These networks are tiny: threads would wait for each other more than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def one_run(tmp_path_factory) -> Path:
    log = tmp_path_factory.mktemp("run") / "log"
    assert lif_fc_mnist.main(flags(log)) == 0
    return log


@pytest.fixture
def finished(one_run, tmp_path) -> Path:
    """The log dir of a finished run of one epoch."""
    return Path(shutil.copytree(one_run, tmp_path / "finished"))
