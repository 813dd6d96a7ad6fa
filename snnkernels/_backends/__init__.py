"""What runs a call.

`selection` chooses the backend, `kernels` finds or compiles the kernel for a configuration,
`operators` are what PyTorch sees of both backends that have kernels, `headers` reads what the C++
headers declare, and `nvrtc` is the cupy backend.
"""
