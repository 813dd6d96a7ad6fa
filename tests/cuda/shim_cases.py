"""Run by test_shim.py under `shim.plugin`: sizes and layouts at the edges of the CUDA kernels."""

import pytest
import torch

from snnkernels import functional, surrogate
from snnkernels._backends import headers

from ..cases import (
    CASES,
    DTYPES,
    RESETS,
    Case,
    assert_same_bits,
    randn,
    run,
)
from .near import assert_gradients_near, assert_near
from .shim.plugin import last_grid, multiprocessors, set_multiprocessors
from .ways import WAYS, lif

K = headers.CHUNK["cuda"]
SIZES = [(1, 1), (K - 1, 3), (K, 31), (K + 1, 129), (2 * K + 3, 1000), (1, 2), (2 * K, 64), (4, 6)]
FORWARD_WIDTH = {torch.float64: 2, torch.float32: 4, torch.float16: 8, torch.bfloat16: 8}
BACKWARD_WIDTH = {torch.float64: 1, torch.float32: 2, torch.float16: 4, torch.bfloat16: 4}
SUMS_LANES = 2
FEW_LANES = headers.LAUNCH["SNN_CUDA_FEW_LANES"]
PARAMETERS = {"numbers": None, "scalar": (), "per_lane": (-1,)}


def forward_width(dtype: torch.dtype, lanes: int) -> int:
    """The lanes to a thread that a dense sequence should get on a GPU that they keep busy."""
    full = FORWARD_WIDTH[dtype]
    return 1 if lanes % full else full


def backward_width(dtype: torch.dtype, lanes: int, *, sums: bool = False) -> int:
    """The same of a backward kernel; ``sums``: of one that sums gradients of parameters."""
    full = min(BACKWARD_WIDTH[dtype], SUMS_LANES) if sums else BACKWARD_WIDTH[dtype]
    return 1 if lanes % full else full


@pytest.fixture
def gpu_of_four_multiprocessors():
    set_multiprocessors(4)
    yield
    set_multiprocessors(0)


def compare(case: Case, x: torch.Tensor, *, exact: bool = True, **overrides: object) -> int:
    """Compare with the reference; return the lanes to a thread that the forward kernel took."""
    expected = run(case, x, "torch", **overrides)
    run(case, x, "native", gradients=False, **overrides)
    width = last_grid()[0]
    found = run(case, x, "native", **overrides)
    tensors = any(isinstance(overrides.get(name), torch.Tensor) for name in case.learnable)
    sums = tensors or "w" in case.learnable  # r = sigmoid(w) is one
    wide = backward_width(x.dtype, x[0].numel(), sums=sums)
    keeps_busy = exact and multiprocessors() == 0
    assert last_grid()[0] == (wide if keeps_busy else 1)
    assert_near(found, expected, exact)
    return width


def parameters(
    case: Case, shape: tuple[int, ...] | None, lanes: int, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    if shape is None:
        return {}
    base = {"v_reset": -0.1, "v_threshold": 0.8, **case.settings}
    full = [lanes if size == -1 else size for size in shape]
    return {name: base[name] + 0.1 * torch.rand(full, dtype=dtype) for name in case.learnable}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("v_reset", [0.0, None], ids=["hard", "soft"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_size_agrees_with_and_without_states(case, v_reset, shape, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for steps, lanes in SIZES:
        x = randn(steps, 1, lanes, dtype=dtype) * 1.5
        settings = {"v_reset": v_reset, **parameters(case, shape, lanes, wide)}
        if v_reset is None:
            settings["v_reset"] = None
        states = {"v": randn(1, lanes, dtype=wide, seed=1)}
        if case.name == "cuba":
            states["i"] = randn(1, lanes, dtype=wide, seed=2)
        assert compare(case, x, **settings) == forward_width(dtype, lanes)
        assert compare(case, x, **settings, **states) == forward_width(dtype, lanes)


@pytest.mark.usefixtures("gpu_of_four_multiprocessors")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_few_lanes_have_a_thread_each(case, dtype):
    for steps, lanes in SIZES:
        assert compare(case, randn(steps, 1, lanes, dtype=dtype) * 1.5) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_primitive_is_emitted_by_the_kernels_of_one_lane(case, v_reset, dtype):
    smooth = surrogate.Sigmoid(spiking=False)
    x = randn(2 * K + 3, 2, 17, dtype=dtype)
    width = compare(case, x, exact=False, v_reset=v_reset, surrogate_function=smooth)
    assert width == 1


def test_several_lanes_to_a_thread_need_every_row_to_begin_where_a_vector_may():
    lif = Case("lif", functional.lif, {"tau": 2.0})
    storage = randn(1 + 5 * 24)
    aligned = randn(5, 2, 12)
    assert compare(lif, aligned) == 4
    assert width_of(storage[1:].view(5, 2, 12)) == 1
    assert width_of(storage[:120].view(5, 24)[:, :12].unsqueeze(1)) == 4
    assert width_of(randn(5, 1, 13)[:, :, :12]) == 1
    assert width_of(randn(1, 1, 13)[:, :, :12]) == 4
    assert width_of(aligned, v=randn(25)[1:].view(2, 12)) == 1


def width_of(x: torch.Tensor, **states: torch.Tensor) -> int:
    spikes = functional.lif(x, backend="native", **states)[0]
    width = last_grid()[0]
    assert_same_bits(spikes, functional.lif(x, backend="torch", **states)[0])
    return width


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("stride", [40, 41])
def test_gradients_come_in_any_layout(offset, stride):
    x = randn(2 * K + 1, 1, 40).requires_grad_()
    storage = randn(offset + stride * x.shape[0])
    grad = storage[offset:].view(x.shape[0], stride)[:, :40].unsqueeze(1)
    spikes, _, v_seq = functional.lif(x, backend="native", return_v_seq=True)
    native = torch.autograd.grad([spikes, v_seq], x, [grad, grad])
    assert last_grid()[0] == (1 if offset or stride % 2 else 2)
    spikes, _, v_seq = functional.lif(x, backend="torch", return_v_seq=True)
    assert_gradients_near(list(native), list(torch.autograd.grad([spikes, v_seq], x, [grad, grad])))


@pytest.mark.parametrize("lanes", [64, 66, 67])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_wide_kernels_agree_in_every_layout(way, lanes):
    for dtype in (torch.float32, torch.bfloat16):
        x = randn(K + 1, 1, lanes, dtype=dtype) * 1.5
        assert_near(lif(way, x, "native", "cpu"), lif(way, x, "torch", "cpu"))


def test_no_step_and_no_lane_are_fine():
    v = randn(1, 6).requires_grad_()
    _, after, v_seq = functional.lif(randn(0, 1, 6), v, backend="native", return_v_seq=True)
    assert v_seq.shape == (0, 1, 6)
    assert_same_bits(after, v)
    (grad,) = torch.autograd.grad(after.sum(), v)
    assert_same_bits(grad, torch.ones(1, 6))
    assert functional.lif(randn(4, 1, 0), backend="native")[0].shape == (4, 1, 0)


@pytest.mark.usefixtures("gpu_of_four_multiprocessors")
def test_blocks_shrink_until_every_multiprocessor_has_one():
    for lanes, threads in [(1, 32), (4 * 32, 32), (4 * 64, 64), (4 * 128, 128)]:
        functional.if_(randn(1, 1, lanes), backend="native")
        assert last_grid() == (1, threads, max(1, lanes // threads))


@pytest.mark.usefixtures("gpu_of_four_multiprocessors")
def test_threads_take_several_lanes_once_there_are_many():
    for lanes, width in [(4 * FEW_LANES - 4, 1), (4 * FEW_LANES, 4)]:
        functional.if_(randn(1, 1, lanes), backend="native")
        assert last_grid()[0] == width
