"""Run by test_shim.py under both plugins: the CUDA kernels that serve one configuration each."""

import pytest
import torch

from snnkernels import functional, surrogate
from snnkernels._backends import headers, kernels

from ..cases import CASES, DTYPES, Case, assert_same_bits, forget_kernels, randn, run
from .near import assert_near
from .shim.plugin import is_plain, last_grid
from .shim_cases import K, backward_width
from .ways import WAYS, lif

NAMED = {case.name: case for case in CASES}
LIF = NAMED["lif"]
SIZES = [(1, 1), (K, 32), (K + 1, 12), (2 * K + 3, 64), (2 * K, 7)]


@pytest.fixture(autouse=True)
def specialized(monkeypatch):
    """As on a GPU: no call runs the library's own kernels."""
    monkeypatch.setattr(kernels, "SPECIALIZED", {"cpu"})
    forget_kernels(monkeypatch)
    yield
    assert names()
    assert not names() & set(headers.NUMBERS.values())


def spikes_alone(
    case: Case, x: torch.Tensor, backend: str, **overrides: object
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """As ``run`` of what most layers do: no potentials, no gradient of the last states."""
    settings = {**case.settings, **overrides}
    tensors = {name: t.clone() for name, t in settings.items() if isinstance(t, torch.Tensor)}
    leaves = [x.clone(), *tensors.values()]
    for leaf in leaves:
        leaf.requires_grad_()
    spikes = case.function(leaves[0], backend=backend, **{**settings, **tensors})[0]
    return [spikes.detach()], list(torch.autograd.grad(spikes, leaves, randn(*x.shape).to(x)))


def compare(case: Case, x: torch.Tensor, *, exact: bool = True, **overrides: object) -> None:
    for ran, plain in ((run, False), (spikes_alone, True)):
        found = ran(case, x, "native", **overrides)
        assert is_plain() == plain
        assert_near(found, ran(case, x, "torch", **overrides), exact)


@pytest.mark.parametrize(
    ("name", "v_reset"),
    [
        ("if", None),
        ("lif", 0.0),
        ("lif_without_input_decay", -0.1),
        ("plif", 0.0),
        ("cuba", -0.1),
    ],
)
def test_every_size_and_dtype_agrees(name, v_reset):
    for dtype in DTYPES:
        for steps, lanes in SIZES:
            compare(NAMED[name], randn(steps, 1, lanes, dtype=dtype) * 1.5, v_reset=v_reset)


@pytest.mark.parametrize("decay_input", [False, True], ids=["x", "decayed x"])
@pytest.mark.parametrize("detach_reset", [False, True], ids=["attached", "detached"])
def test_options_are_those_of_the_call(detach_reset, decay_input):
    x = randn(2 * K + 1, 3, 8) * 1.5
    options = {"decay_input": decay_input, "detach_reset": detach_reset}
    compare(LIF, x, tau=2.0, v_reset=0.0, **options)


def names() -> set[int]:
    """The numbers of the kernels that are for one configuration."""
    found = kernels._kernels.items()
    return {kernel[1] for (request, *_), kernel in found if kernel[0] and request.specialized}


def test_another_number_needs_no_other_kernel():
    x = randn(K, 1, 8)
    for tau, v_threshold, alpha in [(3.0, 0.9, 2.0), (5.0, 1.0, 4.0)]:
        function = surrogate.Sigmoid(alpha)
        compare(LIF, x, tau=tau, v_threshold=v_threshold, surrogate_function=function)
    assert len(names()) == 1


def test_minus_zero_is_not_the_zero_that_has_a_shorter_reset():
    for v_reset in (-0.0, 0.0):
        compare(NAMED["plif"], randn(K, 1, 8) * 2, v_reset=v_reset)
    assert len(names()) == 2


@pytest.mark.parametrize("by_lane", [False, True], ids=["shared", "by lane"])
def test_tables_are_shared_or_by_lane(by_lane):
    for dtype in (torch.float32, torch.bfloat16):
        x = randn(2 * K + 3, 2, 16, dtype=dtype)
        for tau in [2 + torch.rand(16)] if by_lane else [torch.tensor(2.5), torch.tensor([2.5])]:
            compare(LIF, x, tau=tau, v_threshold=torch.tensor(0.8))
            assert last_grid()[0] == backward_width(dtype, 32, sums=by_lane)


def test_the_primitive_is_emitted():
    smooth = surrogate.Sigmoid(spiking=False)
    x = randn(K + 2, 2, 9)
    compare(NAMED["if"], x, exact=False, v_reset=None, surrogate_function=smooth)


@pytest.mark.parametrize("lanes", [64, 66, 67])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_wide_kernels_agree_in_every_layout(way, lanes):
    layout, loss, _, potentials = way
    for dtype in (torch.float32, torch.bfloat16):
        x = randn(K + 1, 1, lanes, dtype=dtype) * 1.5
        expected = lif(way, x, "torch", "cpu", **LIF.settings)
        assert_near(lif(way, x, "native", "cpu", **LIF.settings), expected)
        rows_are_dense = layout in ("dense", "at an odd place") and loss != "summed over time"
        assert is_plain() == (rows_are_dense and not potentials)


@pytest.mark.parametrize("steps", [2 * K, 2 * K + 1], ids=["whole chunks", "a step more"])
def test_an_infinite_potential_in_the_last_step_leaves_gradients_finite(steps):
    x = randn(steps, 1, 8)
    x[-1, 0, 3] = torch.inf
    found = spikes_alone(LIF, x, "native", v_reset=0.0)
    assert found[1][0].isfinite().all()
    assert_near(found, spikes_alone(LIF, x, "torch", v_reset=0.0))


def network(x: torch.Tensor, tau: torch.Tensor | float) -> torch.Tensor:
    return functional.lif(x * 1.5, **{**LIF.settings, "tau": tau}, backend="native")[0]


@pytest.mark.parametrize("tau", [2.3, torch.tensor(2.5), 2 + torch.rand(8)], ids=["", "shared", ""])
def test_a_compiled_function_has_no_graph_break_and_the_same_results(tau):
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager", dynamic=True)
    for steps in (K, K + 3):
        x = randn(steps, 2, 8)
        assert_same_bits(compiled(x, tau), network(x, tau))


class Network(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return network(x, 2.3)


def test_what_is_exported_keeps_to_the_librarys_kernels():
    x = randn(K, 2, 8)
    exported = torch.export.export(Network(), (x,))
    targets = [node for node in exported.graph.nodes if "scan_forward" in str(node.target)]
    assert [headers.NUMBERS["LIF"] in node.args for node in targets] == [True]
    spikes = network(x, 2.3)
    assert_same_bits(exported.module()(x), spikes)
    traced = torch.jit.trace(Network(), x)
    assert f"value={headers.NUMBERS['LIF']}" in str(traced.graph)
    assert_same_bits(traced(x), spikes)
