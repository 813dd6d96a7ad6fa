"""What CONTRIBUTING.md says of adding a surrogate or a neuron: the places it names, and no other.

A copy of the sources gets a toy of each kind, and the tests that go through all surrogates and all
neurons run on the toys.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent

SURROGATE_STRUCT = """
struct ToySurrogate {
  template <class T, class P>
  static SNN_HD T gradient(T x, const P* p) {
    const T a = T(p[0]);
    return a / (T(1) + abs(x));
  }
  template <class T, class P>
  static SNN_HD T primitive(T x, const P* p) {
    const T a = T(p[0]);
    return a * select(x < T(0), -log1p(abs(x)), log1p(abs(x)));
  }
};
"""
SURROGATE_CLASS = '''

class ToySurrogate(SurrogateFunction):
    """g(x) = alpha sign(x) ln(1 + |x|), g'(x) = alpha / (1 + |x|)."""

    parameter_names = ("alpha",)

    def __init__(self, alpha: float = 0.7, spiking: bool = True) -> None:
        super().__init__(spiking, alpha=checks.number("alpha", alpha, above=0))

    @staticmethod
    def gradient(x: Tensor, alpha: float) -> Tensor:
        return alpha / (1 + x.abs())

    @staticmethod
    def primitive(x: Tensor, alpha: float) -> Tensor:
        soft = torch.log1p(x.abs())
        return alpha * torch.where(x < 0, -soft, soft)
'''
ZOO_CLASS = '''

class ToyNode(BaseNode):
    """H = V + (1 + V) X / tau. Source: this test."""

    @from_charge(limits=TAU, tau=2.0)
    def equations(x, v, *, tau):
        return v + (1 + v) * x / tau


class MultiStepToyNode(ToyNode, step_mode="m"):
    """``ToyNode`` on [T, B, ...]."""
'''
LIBRARY_STRUCT = """
struct ToyLIFCharge {
  static constexpr int kStates = 1;
  static constexpr int kParams = 1;
  static constexpr unsigned kLearnt = 0;
  static constexpr bool kLinear = true;
  static constexpr bool kDivides = false;

  template <class T>
  static SNN_HD T charge(T* state, T x, const T* p, T, const Options&) {
    return p[0] * state[0] + x;
  }

  template <class T>
  static SNN_HD T charge_adjoint(const T* before, T, const T* p, T, const Options&, T grad_h,
                                 T* grad_state, T* grad_p, T&) {
    grad_p[0] += grad_h * before[0];
    grad_state[0] = grad_h * p[0];
    return grad_h;
  }
};
template <class Reset>
using ToyLIF = ChargeFireReset<ToyLIFCharge, Reset>;
"""
LIBRARY_CLASS = '''

class ToyLIFNode(BaseNode):
    """H = beta V + X. Source: this test."""

    @from_charge(kernel="ToyLIF", limits={"beta": SHARE}, beta=0.5)
    def equations(x, v, *, beta):
        return beta * v + x


class MultiStepToyLIFNode(ToyLIFNode, step_mode="m"):
    """``ToyLIFNode`` on [T, B, ...]."""
'''
END_OF_HEADER = "\n}  // namespace snn\n"
HEADERS = "csrc/include/snnkernels"
FUNCTION = 'qif = _function_of("qif", neuron.QIFNode)\n'
LAST_SURROGATE = "X(SquarewaveFourierSeries, (n, T_period))"
LAST_NEURON = "X(CubaLIF, (v, i), (alpha, beta))"

TOYS = {
    "surrogate": [
        (f"{HEADERS}/surrogates.h", END_OF_HEADER, SURROGATE_STRUCT + END_OF_HEADER),
        (f"{HEADERS}/registry.h", LAST_SURROGATE, f"{LAST_SURROGATE} X(ToySurrogate, (alpha))"),
        ("snnkernels/surrogate/built_in.py", "", SURROGATE_CLASS),
    ],
    "neuron of the zoo": [
        ("snnkernels/neuron/nonlinear.py", "", ZOO_CLASS),
        (
            "snnkernels/functional.py",
            FUNCTION,
            f'{FUNCTION}toy = _function_of("toy", neuron.ToyNode)\n',
        ),
    ],
    "neuron of the library": [
        (f"{HEADERS}/neurons.h", END_OF_HEADER, LIBRARY_STRUCT + END_OF_HEADER),
        (f"{HEADERS}/registry.h", LAST_NEURON, f"{LAST_NEURON} X(ToyLIF, (v), (beta))"),
        ("snnkernels/neuron/leaky.py", "", LIBRARY_CLASS),
        (
            "snnkernels/functional.py",
            FUNCTION,
            f'{FUNCTION}toylif = _function_of("toylif", neuron.ToyLIFNode)\n',
        ),
    ],
}

USE = """
import torch
from snnkernels import functional, neuron, surrogate
from snnkernels._backends import kernels

compiled = []
kernels.neuron_source = lambda request, make=kernels.neuron_source: (
    compiled.append(request.neuron.split("#")[0]) or make(request)
)
x = torch.randn(9, 3, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
for function, node in (("toy", "ToyNode"), ("toylif", "ToyLIFNode")):
    results = []
    for backend in ("native", "torch"):
        fire = surrogate.ToySurrogate()
        out = getattr(neuron, f"MultiStep{node}")(backend=backend, surrogate_function=fire)(x)
        (grad,) = torch.autograd.grad(out.sum(), x)
        same = getattr(functional, function)(x, backend=backend, surrogate_function=fire)[0]
        assert torch.equal(out, same)
        results.append((out, grad))
    (out, grad), (expected, wanted) = results
    assert 0 < out.mean() < 1 and torch.equal(out, expected)
    torch.testing.assert_close(grad, wanted)
    assert node in neuron.__all__ and function in functional.__all__
assert "ToySurrogate" in surrogate.__all__
assert set(compiled) == {"ToyNode"}, compiled
"""


ASKED_FOR = {
    "tests/test_surrogate.py::test_the_derivative_of_every_surrogate_at_its_kinks_is_stated",
    "tests/test_surrogate.py::test_the_defaults_of_every_surrogate_are_those_stated",
    "tests/test_equations.py::test_every_neuron_has_a_plain_loop",
    "tests/test_equations.py::test_every_neuron_of_the_library_is_among_the_cases_of_other_tests",
    "tests/test_docs.py::test_every_surrogate_is_listed_with_its_defaults",
    "tests/test_docs.py::test_every_neuron_and_function_is_listed",
    "tests/test_docs.py::test_every_neuron_is_listed_with_its_own_arguments_and_their_defaults",
}
"""The tests that ask for what nobody but the author knows."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the sources with the toys in."""
    folder = tmp_path_factory.mktemp("additions")
    for name in ("csrc", "snnkernels", "tests", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "_lib")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for path in (ROOT / "pyproject.toml", *ROOT.glob("*.md")):
        shutil.copy(path, folder)
    for edits in TOYS.values():
        for name, before, after in edits:
            text = (folder / name).read_text(encoding="utf-8")
            assert not before or text.count(before) == 1, name
            text = text.replace(before, after) if before else text + after
            (folder / name).write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )


def test_a_toy_surrogate_and_toy_neurons_work_once_they_stand_in_the_places(copy):
    done = run(copy, "-c", USE)
    assert done.returncode == 0, done.stdout + done.stderr


def test_of_the_other_tests_those_alone_fail_that_ask_for_what_the_author_knows(copy):
    files = [f"tests/test_{name}.py" for name in ("surrogate", "equations", "parity", "docs")]
    which = "Toy or every_surrogate or every_neuron"
    done = run(copy, "-m", "pytest", "-q", "-rfE", "--tb=short", "-k", which, *files)
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    assert set(failed) == ASKED_FOR, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout)


@pytest.mark.parametrize("kind", TOYS)
def test_the_places_of_an_addition_are_those_that_contributing_names(kind):
    sections = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("\n### ")
    (section,) = [part for part in sections if part.lower().startswith(f"a {kind}\n")]
    numbered = re.findall(r"^\d\. `([^`]+)`", section, re.MULTILINE)
    assert numbered == [name for name, *_ in TOYS[kind]]


def test_contributing_names_the_files_that_ask_for_more():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for test in ASKED_FOR:
        assert f"`{test.split('::')[0]}`" in text
