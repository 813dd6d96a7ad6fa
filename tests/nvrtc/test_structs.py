"""The structs and half types that the cupy backend writes itself, against a host compiler."""

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from snnkernels._backends.nvrtc import structs
from snnkernels._build import specification

STRUCTS = {
    "Forward<float>": structs.forward(np.float32),
    "Forward<double>": structs.forward(np.float64),
    "Backward<float>": structs.backward(np.float32),
    "Backward<double>": structs.backward(np.float64),
    "Encode": structs.ENCODE,
    "PackSpikes": structs.PACK,
    "UnpackSpikes": structs.UNPACK,
}


def flattened(dtype: np.dtype, prefix: str = "", base: int = 0) -> dict[str, int]:
    """The offset of every field, of those within fields too; of an array its first element."""
    found = {}
    for name, (kind, offset, *_) in dtype.fields.items():
        element, shape = kind.subdtype or (kind, ())
        path = f"{prefix}{name}" + "[0]" * len(shape)
        if element.fields:
            found |= flattened(element, f"{path}.", base + offset)
        else:
            found[path] = base + offset
    return found


def what_prints(folder: Path, lines: list[str]) -> list[str]:
    """The words that a program with the headers of ``csrc`` prints."""
    (folder / "program.cpp").write_text("\n".join([*lines, ""]))
    csrc = specification.csrc_dir()
    include = [f"-I{path}" for path in (csrc, csrc / "include")]
    command = ["c++", "-std=c++17", *include, "program.cpp", "-o", "program"]
    subprocess.run(command, cwd=folder, check=True, timeout=600)
    done = subprocess.run(
        [folder / "program"], capture_output=True, text=True, check=True, timeout=600
    )
    return done.stdout.split()


def test_every_field_is_where_the_compiler_puts_it(tmp_path):
    lines = ["#include <cstddef>", "#include <cstdio>", '#include "snnkernels/spikes.h"']
    lines += ["using namespace snn;", "int main() {"]
    for name, dtype in STRUCTS.items():
        lines += [f"  {{ static {name} s; const char* at = reinterpret_cast<char*>(&s);"]
        lines += ['    std::printf("%zu\\n", sizeof(s));']
        for path in flattened(dtype):
            lines += [f'    std::printf("%td\\n", reinterpret_cast<char*>(&s.{path}) - at);']
        lines += ["  }"]
    printed = iter(what_prints(tmp_path, [*lines, "}"]))
    for name, dtype in STRUCTS.items():
        assert (name, dtype.itemsize) == (name, int(next(printed)))
        for path, offset in flattened(dtype).items():
            assert (name, path, offset) == (name, path, int(next(printed)))


LARGEST = (2**32 - 1) // 4
"""Elements of float32 that 32-bit offsets reach."""
SIZES = [
    (0, 7, 1),
    *((1, lanes, 1) for lanes in (LARGEST, LARGEST + 1)),
    *((5, lanes, 1) for lanes in (LARGEST // 5, LARGEST // 5 + 1)),
    *((3, lanes, 2) for lanes in (LARGEST // 6, LARGEST // 6 + 1)),
    *((steps, 1, 1) for steps in (2**30 - 1, 2**30, 2**31)),
    *((steps, 1, 2) for steps in (2**29 - 1, 2**29)),
]
"""Steps, lanes, outputs."""


def test_both_hosts_take_a_call_for_plain_up_to_the_same_size(tmp_path):
    lines = ["#include <cstdio>", '#include "cuda/grid.h"', "using namespace snn;"]
    lines += ["int main() {", "  char spikes;"]
    for steps, lanes, outputs in SIZES:
        lines += [
            f"  {{ NeuronSizes sizes{{1, 1, {outputs}, 0, 0}}; Backward<float> call{{}};",
            "    call.compiled = &sizes; call.element = Element::kFloat32;",
            f"    call.steps = {steps}LL; call.lanes = call.x_stride = {lanes}LL;",
            "    call.grad_spikes = &spikes; call.grad_spikes_stride = call.lanes;",
            '    std::printf("%d\\n", cuda::is_plain(call)); }',
        ]
    theirs = [word == "1" for word in what_prints(tmp_path, [*lines, "}"])]
    rows = {lanes: [structs.Rows(4096, lanes, 4)] * 3 for _, lanes, _ in SIZES}
    ours = [structs.is_plain(steps, lanes, n, rows[lanes]) for steps, lanes, n in SIZES]
    assert ours == theirs == [False] + [True, False] * 3 + [True, False, False] + [True, False]


HOST = """
#include <cstring>
#define __device__
#define __forceinline__ inline
inline float __uint_as_float(unsigned x) { float y; std::memcpy(&y, &x, 4); return y; }
inline unsigned __float_as_uint(float x) { unsigned y; std::memcpy(&y, &x, 4); return y; }
#include "nvrtc/cuda_bf16.h"
extern "C" void narrow(const float* x, unsigned short* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = __float2bfloat16_rn(x[i]).bits;
}
extern "C" void widen(const unsigned short* x, float* y, long n) {
  for (long i = 0; i < n; ++i) y[i] = __bfloat162float(__nv_bfloat16{x[i]});
}
"""


@pytest.fixture(scope="module")
def bfloat16(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bfloat16")
    (folder / "host.cpp").write_text(HOST)
    library = folder / "host.so"
    include = f"-I{specification.csrc_dir()}"
    command = ["c++", "-std=c++17", "-shared", "-fPIC", include, str(folder / "host.cpp")]
    subprocess.run([*command, "-o", str(library)], check=True, timeout=600)
    return ctypes.CDLL(str(library))


def pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def test_bfloat16_widens_and_rounds_as_torch_does_on_gpus_without_the_instruction(bfloat16):
    every = torch.arange(2**16).to(torch.int16).view(torch.bfloat16)
    wide = torch.empty(2**16)
    bfloat16.widen(pointer(every), pointer(wide), ctypes.c_long(2**16))
    torch.testing.assert_close(wide, every.float(), rtol=0, atol=0, equal_nan=True)
    # Between two neighbours: a little below, at and above the middle, with every sign and exponent.
    halves = torch.tensor([0x0000, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    bits = (torch.arange(2**16)[:, None] << 16 | halves).flatten()
    x = bits.to(torch.int32).view(torch.float32)
    narrow = torch.empty(len(x), dtype=torch.bfloat16)
    bfloat16.narrow(pointer(x), pointer(narrow), ctypes.c_long(len(x)))
    torch.testing.assert_close(narrow, x.bfloat16(), rtol=0, atol=0, equal_nan=True)
