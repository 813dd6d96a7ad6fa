"""The elementary functions and surrogates of csrc, one at a time, against float64 and PyTorch."""

from __future__ import annotations

import ctypes
import math
import platform
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from snnkernels import surrogate
from snnkernels._backends import headers
from snnkernels._build import specification, toolchain

from .cases import SURROGATES

SOURCE = r"""
#include <cstring>

#include "cpu/vec.h"
#include "snnkernels/registry.h"

namespace snn {
template <class T>
SNN_HD T sigmoid_slope(T x) {
  return sigmoid_slope(T(1), x);
}
}  // namespace snn

#define UNARY(X)                                                                               \
  X(exp) X(exp_nonpositive) X(log) X(log1p) X(expm1) X(tanh) X(sigmoid) X(sigmoid_slope)       \
  X(inverse) X(abs) X(sign) X(floor) X(ceil) X(trunc) X(round) X(sqrt) X(atan) X(erf) X(erfc)  \
  X(sin) X(cos) X(heaviside)
#define BINARY(X) X(min) X(max) X(minimum) X(maximum) X(pow)

namespace snn {

template <class T, class F>
void apply(F f, const T* x, const T* y, T* out, long n, bool vectors) {
  using V = cpu::Vec<T>;
  if (vectors) {
    for (long i = 0; i < n; i += V::kSize) f(V::load(x + i), V::load(y + i)).store(out + i);
  } else {
    for (long i = 0; i < n; ++i) out[i] = f(x[i], y[i]);
  }
}

template <class T>
void function(const char* name, const T* x, const T* y, T* out, long n, bool vectors) {
#define CASE(f) \
  if (!std::strcmp(name, #f)) apply([](auto a, auto) { return f(a); }, x, y, out, n, vectors);
  UNARY(CASE)
#undef CASE
#define CASE(f) \
  if (!std::strcmp(name, #f)) apply([](auto a, auto b) { return f(a, b); }, x, y, out, n, vectors);
  BINARY(CASE)
#undef CASE
}

template <class T>
void surrogate(int id, const T* p, bool primitive, const T* x, T* out, long n, bool vectors) {
  with_surrogate(static_cast<SurrogateId>(id), [&](auto s) {
    using S = decltype(s);
    if (primitive) {
      apply([p](auto a, auto) { return S::primitive(a, p); }, x, x, out, n, vectors);
    } else {
      apply([p](auto a, auto) { return S::gradient(a, p); }, x, x, out, n, vectors);
    }
  });
}

#define EXPORT(T, t)                                                                              \
  extern "C" __attribute__((visibility("default"))) void function_##t(                            \
      const char* name, const T* x, const T* y, T* out, long n, bool vectors) {                   \
    function(name, x, y, out, n, vectors);                                                        \
  }                                                                                               \
  extern "C" __attribute__((visibility("default"))) void surrogate_##t(                           \
      int id, const T* p, bool primitive, const T* x, T* out, long n, bool vectors) {             \
    surrogate(id, p, primitive, x, out, n, vectors);                                              \
  }
EXPORT(float, float32)
EXPORT(double, float64)

}  // namespace snn
"""
WIDEST = 64  # bytes of the widest vector


class Library:
    """What `SOURCE` exports, for one instruction set; scalars are what CUDA's kernels compute."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))

    def function(self, name: str, x: Tensor, y: Tensor | None = None, *, vectors: bool) -> Tensor:
        """`name` of each element of x, or of x and y; by vectors of lanes or by scalars."""
        return self._call("function", [name.encode()], [x, x if y is None else y], vectors)

    def surrogate(
        self, instance: surrogate.SurrogateFunction, part: str, x: Tensor, *, vectors: bool
    ) -> Tensor:
        """`part`, "gradient" or "primitive", of each element of x."""
        number = list(headers.surrogates()).index(type(instance).__name__)
        values = torch.tensor([float(v) for v in instance.values], dtype=x.dtype)
        arguments = [ctypes.c_int(number), _pointer(values), part == "primitive"]
        return self._call("surrogate", arguments, [x], vectors)

    def _call(self, kind: str, arguments: list, inputs: list[Tensor], vectors: bool) -> Tensor:
        count = len(inputs[0])
        padded = [torch.nn.functional.pad(x, (0, -count % WIDEST)).contiguous() for x in inputs]
        out = torch.empty_like(padded[0])
        function = getattr(self.library, f"{kind}_{str(out.dtype).removeprefix('torch.')}")
        pointers = [_pointer(t) for t in (*padded, out)]
        function(*arguments, *pointers, ctypes.c_long(len(out)), ctypes.c_bool(vectors))
        return out[:count]


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _compiled(name: str, flags: Sequence[str], folder: Path) -> Library:
    source, library = folder / f"{name}.cpp", folder / f"{name}.so"
    source.write_text(SOURCE)
    spec = specification.cpu_library(specification.csrc_dir(), target=flags)
    places = [f"-I{path}" for path in spec.include_dirs]
    command = [*toolchain.find_cxx().command, *spec.cxx_flags, *places, "-shared", "-O1"]
    done = subprocess.run(
        [*command, str(source), "-o", str(library)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return Library(library)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> dict[str, Library]:
    """One for each of a wheel's instruction sets that this machine has."""
    flags = specification.instruction_sets(platform.machine())
    folder = tmp_path_factory.mktemp("math")
    names = toolchain.cpu_instruction_sets()
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda name: _compiled(name, flags[name], folder), names)
        return dict(zip(names, made, strict=True))


def spread(x: list[float], around: int) -> Tensor:
    """Each of x with so many of the floats next to it on either side, and its negative."""
    sizes = torch.tensor(x, dtype=torch.float32).abs().view(torch.int32)
    near = sizes.long().unsqueeze(1) + torch.arange(-around, around + 1)
    floats = near.clamp(0, 0x7F800000).to(torch.int32).view(torch.float32).flatten()
    return torch.cat([floats, -floats])


def all_of_float32() -> Tensor:
    """Every 9973rd float32 by its bits, and all that lie next to where something changes."""
    every = torch.arange(-(2**31), 2**31, 9973).to(torch.int32).view(torch.float32)
    bounds = [0.0, 2.0**-126, 0.5, 0.625, 1.0, 87.3365, 88.7228, 89.0, 103.9721, 104.0, math.inf]
    return torch.cat([every, spread(bounds, 500), torch.tensor([math.nan])])


def stable_sigmoid(x: Tensor) -> Tensor:
    e = torch.exp(-x.abs())
    return torch.where(x < 0, e, 1.0) / (1 + e)


def sigmoid_slope(x: Tensor) -> Tensor:
    e = torch.exp(-x.abs())
    return e / (1 + e).square()


ULPS = {
    "exp": (torch.exp, 1.0),
    "exp_nonpositive": (torch.exp, 1.0),
    "log": (torch.log, 1.0),
    "log1p": (torch.log1p, 2.0),
    "expm1": (torch.expm1, 1.0),
    "tanh": (torch.tanh, 2.5),
    "sigmoid": (stable_sigmoid, 2.5),
    "sigmoid_slope": (sigmoid_slope, 5.0),
    "inverse": (torch.reciprocal, 4.0),
    "sqrt": (torch.sqrt, 0.5),
    "atan": (torch.atan, 1.0),
    "erf": (torch.erf, 1.0),
    "erfc": (torch.erfc, 4.0),
    "sin": (torch.sin, 1.0),
    "cos": (torch.cos, 1.0),
    "abs": (torch.abs, 0.0),
    "sign": (torch.sign, 0.0),
    "floor": (torch.floor, 0.0),
    "ceil": (torch.ceil, 0.0),
    "trunc": (torch.trunc, 0.0),
    "round": (torch.round, 0.0),
}
"""What each function computes, and its greatest error in units in the last place."""
DOMAINS = {
    "exp_nonpositive": lambda x: ~(x > 0),
    "inverse": lambda x: (x >= 2.0**-126) & (x <= 2.0**126),
}


def errors_in_ulps(actual: Tensor, exact: Tensor) -> Tensor:
    """Of float32 against float64; infinite where a zero has the wrong sign or only one is NaN."""
    rounded = exact.float()
    ulp = 2.0 ** (exact.abs().clamp(min=2.0**-126).log2().floor() - 23)
    errors = ((actual.double() - exact).abs() / ulp).nan_to_num(math.inf)
    same = torch.where(rounded == 0, actual.signbit() == rounded.signbit(), True)
    errors[(actual == rounded) & rounded.isinf() | actual.isnan() & rounded.isnan()] = 0.0
    return torch.where(same | (actual != 0), errors, math.inf)


@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "scalars"])
@pytest.mark.parametrize("name", ULPS)
def test_a_function_keeps_its_bound_over_all_of_float32(name, vectors, libraries):
    reference, bound = ULPS[name]
    x = all_of_float32()
    x = x[DOMAINS[name](x)] if name in DOMAINS else x
    exact = reference(x.double())
    for isa, library in libraries.items():
        errors = errors_in_ulps(library.function(name, x, vectors=vectors), exact)
        worst = errors.argmax()
        assert errors[worst] <= bound, f"{isa}: {errors[worst]} ulp at x = {x[worst].item()!r}"


VALUES = {
    "exp": [(-90.0, 8.194013e-40), (-103.5, 1.4e-45), (-104.0, 0.0), (89.0, math.inf)],
    "sigmoid": [(-90.0, 8.194013e-40), (-math.inf, 0.0), (math.inf, 1.0)],
    "log1p": [(-1.0, -math.inf), (-1.5, math.nan), (-0.0, -0.0), (math.inf, math.inf)],
    "log": [(0.0, -math.inf), (-0.0, -math.inf), (-1.0, math.nan), (math.inf, math.inf)],
    "tanh": [(-0.0, -0.0), (0.0, 0.0), (-1e-40, -1e-40), (-math.inf, -1.0)],
    "abs": [(-0.0, 0.0), (-math.inf, math.inf), (-1e-45, 1e-45)],
    "sign": [(-0.0, 0.0), (math.nan, 0.0), (-1e-45, -1.0)],
    "trunc": [(-0.5, -0.0)],
    "round": [(-0.5, -0.0), (2.5, 2.0)],
    "inverse": [(math.inf, 0.0), (1.0, 1.0), (math.nan, math.nan)],
}


@pytest.mark.parametrize("vectors", [True, False], ids=["vectors", "scalars"])
@pytest.mark.parametrize("name", VALUES)
def test_a_function_has_its_value_at_the_edges(name, vectors, libraries):
    x, expected = torch.tensor(VALUES[name], dtype=torch.float32).unbind(1)
    for library in libraries.values():
        actual = library.function(name, x, vectors=vectors)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0, equal_nan=True)
        assert torch.equal(actual.signbit() & ~actual.isnan(), expected.signbit())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["minimum", "maximum", "pow"])
def test_a_function_of_two_is_that_of_torch(name, dtype, libraries):
    values = torch.tensor([0.0, -0.0, 1.5, -2.0, 1e-40, math.inf, -math.inf, math.nan], dtype=dtype)
    x, y = torch.cartesian_prod(values, values).unbind(1)
    expected = getattr(torch, name)(x, y)
    for library in libraries.values():
        for vectors in (True, False):
            actual = library.function(name, x, y, vectors=vectors)
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=0, equal_nan=True)


def places(instance: surrogate.SurrogateFunction, dtype: torch.dtype) -> Tensor:
    """Zeros, denormals, kinks and what is next to them, large numbers, infinities, NaN."""
    tiny = torch.finfo(dtype).smallest_normal
    kinks = [v for p in map(float, instance.values) if p for v in (p, 1 / p, 0.5 / p)]
    sizes = [0.0, tiny / 8, tiny, 1.0, 1e3, 1e30, math.inf, math.nan, *kinks]
    x = torch.tensor(sizes, dtype=dtype)
    kinks = x[-len(kinks) :]
    around = [torch.nextafter(kinks, torch.full_like(kinks, end)) for end in (0.0, math.inf)]
    x = torch.cat([x, *around])
    if isinstance(instance, surrogate.SquarewaveFourierSeries):
        x = x[x != 1e30]  # a period is less than what floats of this size differ by
    return torch.cat([x, -x])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("part", ["gradient", "primitive"])
@pytest.mark.parametrize("instance", SURROGATES, ids=lambda s: type(s).__name__)
def test_a_surrogate_is_the_modules_at_zeros_kinks_and_infinities(instance, part, dtype, libraries):
    if part == "primitive" and not instance.has_primitive:
        return
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    other = type(instance)(*[v + 1 if isinstance(v, int) else 1.7 * v for v in instance.values])
    for each in (instance, other):
        x = places(each, dtype)
        expected = getattr(each, part)(x, *each.values)
        finite = expected[expected.isfinite() & (x.abs() < 1e3)]
        settings = {"rtol": tolerance, "atol": tolerance * finite.abs().max().item()}
        for library in libraries.values():
            for vectors in (True, False):
                actual = library.surrogate(each, part, x, vectors=vectors)
                torch.testing.assert_close(actual, expected, equal_nan=True, **settings)


@pytest.mark.parametrize("part", ["gradient", "primitive"])
@pytest.mark.parametrize("period", [8.0, 3.0])
@pytest.mark.parametrize("n", [2, 30, 500])
def test_a_square_wave_in_float32_is_that_in_float64(n, period, part, libraries):
    wave = surrogate.SquarewaveFourierSeries(n, period)
    sizes = torch.cat([torch.linspace(0, 2 * period, 501), torch.linspace(1e3, 1e5, 501)])
    peaks = (sizes / period).round() * (period / 2)
    x = torch.cat([sizes, -sizes, peaks, peaks + period / (7 * n)])
    odd = torch.arange(1, n, dtype=torch.float64) * 2 - 1
    angles = 2 * math.pi * torch.frac(x.double() / period).unsqueeze(1) * odd
    if part == "gradient":
        exact = angles.cos().sum(1) * (4 / period)
    else:
        exact = 0.5 + 2 / math.pi * (angles.sin() / odd).sum(1)
    settings = {"rtol": 0, "atol": 1e-5 * exact.abs().max().item()}
    assert_close = torch.testing.assert_close
    assert_close(getattr(wave, part)(x, n, period).double(), exact, **settings)
    for library in libraries.values():
        for vectors in (True, False):
            actual = library.surrogate(wave, part, x, vectors=vectors)
            assert_close(actual.double(), exact, **settings)
