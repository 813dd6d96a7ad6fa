"""Build and load the compiled kernels.

`load` is what the rest of the package calls. Importing this runs nothing and imports no torch.
"""

from .description import CompiledNeuron
from .errors import BuildError
from .loader import LoadedLibrary, Outlook, load, outlook, compiled_neuron_path

__all__ = ["BuildError", "LoadedLibrary", "Outlook", "CompiledNeuron", "load", "outlook", "compiled_neuron_path"]
