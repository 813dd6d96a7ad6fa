"""hypothesis, for the tests that draw their arguments; where it is missing these are skipped."""

from __future__ import annotations

from typing import Any

import pytest

try:
    import hypothesis
    from hypothesis import Phase, given, settings
    from hypothesis import strategies as st
except ModuleNotFoundError:
    hypothesis = None

    class _Anything:
        """Whatever a module makes of hypothesis when it is imported."""

        def __getattr__(self, name: str) -> _Anything:
            return self

        def __call__(self, *args: Any, **kwargs: Any) -> _Anything:
            return self

    def given(*args: Any, **kwargs: Any) -> Any:
        return pytest.mark.skip(reason="hypothesis is not installed")

    def settings(*args: Any, **kwargs: Any) -> Any:
        return lambda test: test

    Phase = st = _Anything()

__all__ = ["Phase", "given", "hypothesis", "settings", "st"]
