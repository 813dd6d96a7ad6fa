"""Build and load the compiled kernels.

`load` is what the rest of the package calls. Importing this runs nothing and imports no torch.
"""

from .errors import BuildError
from .loader import LoadedLibrary, Outlook, load, outlook

__all__ = ["BuildError", "LoadedLibrary", "Outlook", "load", "outlook"]
