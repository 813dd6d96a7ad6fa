"""The ``"cupy"`` backend: the CUDA kernels by NVRTC, for machines with a GPU and without nvcc.

`toolkit` finds CuPy and NVRTC, `programs` says what is compiled from which headers and keeps the
results in the cache, `structs` lays out a call as ``csrc/include`` declares it, `launcher` puts
kernels on a GPU, and `host` has the operators that PyTorch sees.
"""

from .host import add_compiled_neuron, load, outlook

__all__ = ["add_compiled_neuron", "load", "outlook"]
