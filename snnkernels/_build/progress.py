"""What a build says on stderr while it runs: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def verbose() -> bool:
    """Whether ``SNNKERNELS_VERBOSE`` asks to see the compilers' commands and output."""
    return os.environ.get("SNNKERNELS_VERBOSE", "") not in ("", "0")


def say(text: str) -> None:
    """Write one line to stderr, in the package's name."""
    print(f"snnkernels: {text}", file=sys.stderr, flush=True)


class BuildProgress:
    """Says what is built and why, each step that is done, and how it ended.

    Args:
        what: what is built, as in "the CPU kernels".
        why: why now.
        steps: how many steps there will be; none are shown of 0.
    """

    def __init__(self, what: str, why: str, steps: int) -> None:
        self._what = what
        self._steps = steps
        self._done = 0
        self._start = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        say(f"building {what}: {why}")

    def __enter__(self) -> BuildProgress:
        if self._steps and sys.stderr.isatty() and not verbose():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("snnkernels: compiling"),
                BarColumn(bar_width=24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[last]}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=self._steps, last="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        outcome = "built" if kind is None else "failed to build"
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            outcome = "interrupted while building"
        say(f"{outcome} {self._what} after {self.seconds:.1f} s")

    @property
    def seconds(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self._start

    def step(self, title: str) -> None:
        """Say that a step is done, and when."""
        self._done += 1
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done, last=title)
        elif self._steps:
            say(f"  [{self._done}/{self._steps}] {title} at {self.seconds:.1f} s")

    def output(self, text: str) -> None:
        """Show a line of the compilers' commands and output to those who asked for them."""
        if verbose():
            print(text, file=sys.stderr, end="", flush=True)
