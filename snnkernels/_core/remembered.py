"""What is found once and remembered, so much of it at most."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

_Found = TypeVar("_Found")


def remember(memory: dict[Hashable, _Found], key: Hashable, found: _Found, most: int) -> _Found:
    """Note what was found for a key, and return it; where ``most`` are noted, forget them first."""
    if len(memory) >= most:
        memory.clear()
    memory[key] = found
    return found
