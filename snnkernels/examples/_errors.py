"""What stops an example, in words for the one who runs it."""

from __future__ import annotations


class ExampleError(RuntimeError):
    """An example cannot go on; the message says why and what to do about it."""


def needs_extra(package: str, error: ImportError) -> ExampleError:
    """The error for a package that the examples need and that does not import."""
    return ExampleError(
        f"{package} does not import ({error}); it comes with: pip install 'snnkernels[examples]'"
    )
