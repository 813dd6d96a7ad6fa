"""The ``"torch"`` backend: the step itself, in plain PyTorch."""

from __future__ import annotations

from typing import Any

from .. import reference
from .base import Backend


class Torch(Backend):
    name = "torch"
    summary = "plain PyTorch"

    @property
    def operators(self) -> Any:
        return reference
