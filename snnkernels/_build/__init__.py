"""Build and load the compiled kernels.

`load` is what the rest of the package calls. Importing this runs nothing and imports no torch.
"""

from .errors import BuildError
from .loader import LoadedLibrary, compiled_neuron_path, load, outlook
from .specification import NeuronSource

__all__ = [
    "BuildError",
    "LoadedLibrary",
    "NeuronSource",
    "load",
    "outlook",
    "compiled_neuron_path",
]
