"""The compiler that the cupy backend uses, where there is one; no GPU is needed to compile."""

import os
from importlib.util import find_spec

import pytest

from snnkernels._backends.nvrtc import toolkit
from snnkernels._build import BuildError


@pytest.fixture(scope="session")
def nvrtc() -> toolkit.Nvrtc:
    missing = pytest.fail if os.environ.get("CI") else pytest.skip
    if find_spec("cupy") is None:
        missing("needs CuPy (cupy-cuda12x or cupy-cuda13x)")
    from cupy.cuda import runtime

    try:
        return toolkit.find_nvrtc(runtime.runtimeGetVersion() // 1000)
    except BuildError as error:
        missing(f"needs NVRTC: {error}")
