"""Makes ``benchmarks`` importable however pytest is started; tiny cases for the tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import benchmarks.__main__ as command
from benchmarks import contenders
from benchmarks.cases import Case
from benchmarks.contenders import Contender

TINY = (4, 2, 8)


@pytest.fixture
def tiny_case() -> Callable[..., Case]:
    """Makes a case of a few elements on the CPU: LIF, ATan, float32, training unless told."""

    def make(**changes: object) -> Case:
        usual = Case("lif", "float32", TINY, "training", "cpu")
        return replace(usual, **changes)

    return make


@pytest.fixture
def native_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[Contender], None]:
    """Puts a contender in the place of the native kernels, which then need not be built."""

    def install(contender: Contender) -> None:
        others = contenders.on_backend
        monkeypatch.setattr(
            contenders, "on_backend", lambda name: contender if name == "native" else others(name)
        )
        monkeypatch.setattr(command, "resolve", lambda backend, device: None)

    return install
