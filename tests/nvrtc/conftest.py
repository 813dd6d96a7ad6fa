"""NVRTC, where there is one; no GPU is needed to compile."""

import os

import pytest

from benchmarks import machine_code
from snnkernels._backends.nvrtc import toolkit
from snnkernels._build import BuildError


@pytest.fixture(scope="session")
def nvrtc() -> toolkit.Nvrtc:
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    try:
        return machine_code.nvrtc()
    except BuildError as error:
        missing(f"needs cuda-bindings and NVRTC: {error}")
