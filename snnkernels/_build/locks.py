"""Locks of what a process does once."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager


def lock_of_process() -> AbstractContextManager[bool]:
    """A reentrant lock that is free in a forked child, whichever thread of the parent held it."""
    lock = threading.RLock()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lock._at_fork_reinit)  # type: ignore[attr-defined]
    return lock
