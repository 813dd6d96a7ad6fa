"""Networks to run and to read: ``python -m snnkernels.examples.lif_fc_mnist``."""

from collections.abc import Iterator
from contextlib import contextmanager


class ExampleError(RuntimeError):
    """An example cannot go on; the message says why and what to do about it."""


class Missing(ExampleError):
    """A package or a data set cannot be had."""


@contextmanager
def needs(package: str) -> Iterator[None]:
    """A block that imports a package of the extra ``examples``; raises Missing if it can't."""
    try:
        yield
    except Exception as error:  # one built for another torch raises all kinds
        raise Missing(
            f"{package} does not import ({error}): pip install 'snnkernels[examples]'"
        ) from error


def reason(error: Exception) -> str:
    """What an error says in its first two lines, as one."""
    return " ".join(" ".join(str(error).split("\n")[:2]).split()) or type(error).__name__
