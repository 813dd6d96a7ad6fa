"""What runs a call.

`base` says what a backend is; `native`, `nvrtc` (which users call cupy) and `plain` (torch) are the
three. `selection` chooses among them, `kernels` finds or compiles the kernel for a configuration,
`operators` are what PyTorch sees of those that have kernels, and `headers` reads what the C++
headers declare.
"""
