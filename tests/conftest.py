"""What all tests share: seeds, the marker for GPUs, one cache of kernels for the session."""

import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from .properties import hypothesis

if hypothesis is not None:
    hypothesis.settings.register_profile("dev", deadline=None)
    hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


GPU_ONLY = ("gpu", "gpu and not slow", "gpu and slow")


def pytest_configure(config: pytest.Config) -> None:
    """Keep kernels beside pytest's own cache, for this session's processes and the next session.

    Without that cache (``-p no:cacheprovider``) they last for the session. Threads of processes
    side by side must not spin for the cores that others need.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if "SNNKERNELS_CACHE_DIR" in os.environ:
        return
    if config.pluginmanager.has_plugin("cacheprovider"):
        folder = config.cache.mkdir("snnkernels")
        folder.chmod(0o700)  # whatever the umask: what others can write is not loaded
        os.environ["SNNKERNELS_CACHE_DIR"] = str(folder)
    else:
        spare = tempfile.TemporaryDirectory()
        config.add_cleanup(spare.cleanup)
        os.environ["SNNKERNELS_CACHE_DIR"] = spare.name


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no file without tests for GPUs where these are asked for: they begin sooner then."""
    if config.option.markexpr not in GPU_ONLY or collection_path.suffix != ".py":
        return None
    return None if "mark.gpu" in collection_path.read_text(encoding="utf-8") else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is slow, and skip what needs a GPU where there is none."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a GPU: torch.cuda.is_available() is False here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
