"""Build and load the compiled kernels.

`load` is what the rest of the package calls. Importing this runs nothing and imports no torch.
"""

from .description import Printed
from .errors import BuildError
from .loader import LoadedLibrary, Outlook, load, outlook, printed_path

__all__ = ["BuildError", "LoadedLibrary", "Outlook", "Printed", "load", "outlook", "printed_path"]
