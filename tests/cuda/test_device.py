"""The kernels on a GPU, against the reference."""

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from snnkernels import functional, neuron, surrogate
from snnkernels._backends import headers

from ..cases import CASES, DTYPES, RESETS, SURROGATES, Case, assert_same_bits, randn
from ..test_compile_neuron import Adaptive, TwoFires
from .near import assert_gradients_near, assert_near
from .ways import WAYS, lif

pytestmark = pytest.mark.gpu
Result = TypeVar("Result")
REPOSITORY = Path(__file__).resolve().parents[2]
K = headers.CHUNK["cuda"]
FEW_LANES = headers.LAUNCH["SNN_CUDA_FEW_LANES"]
SIZES = [(1, 1), (K - 1, 3), (K, 31), (K + 1, 129), (2 * K + 3, 1000), (4, 64)]
DIVIDES_OR_ADDS = [torch.float64, torch.float32]


@pytest.fixture(params=["native", "cupy"])
def kernels(request: pytest.FixtureRequest) -> str:
    """The backends that run kernels on a GPU."""
    if request.param == "cupy":
        pytest.importorskip("cupy", reason="needs CuPy")
    return str(request.param)


def run(
    case: Case, x: Tensor, backend: str, device: str, **overrides: object
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients, on the CPU; the leaves are made on `device`."""
    x = x.to(device).detach().requires_grad_()
    leaves, settings = [x], {**case.settings, **overrides}
    for name, value in settings.items():
        if isinstance(value, Tensor):
            settings[name] = value.to(device).detach().requires_grad_()
            leaves.append(settings[name])
    outputs = case.function(x, backend=backend, return_v_seq=True, **settings)
    loss = sum(
        (out.double() * randn(*out.shape, dtype=torch.float64, seed=seed).to(device)).sum()
        for seed, out in enumerate(outputs, start=10)
    )
    gradients = torch.autograd.grad(loss, leaves)
    return [o.detach().cpu() for o in outputs], [g.cpu() for g in gradients]


def compare(
    kernels: str, case: Case, x: Tensor, reference: str = "cpu", **overrides: object
) -> None:
    outputs, gradients = run(case, x, kernels, "cuda", **overrides)
    expected, expected_gradients = run(case, x, "torch", reference, **overrides)
    for actual, out in zip(outputs, expected, strict=True):
        assert_same_bits(actual, out)
    assert_gradients_near(gradients, expected_gradients)


@pytest.mark.parametrize("over", [0, 2, 3])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_wide_kernels_agree_in_every_layout(way, over, kernels):
    """From so many lanes on a thread takes several, if their number can be divided."""
    lanes = over + FEW_LANES * torch.cuda.get_device_properties(0).multi_processor_count
    for dtype in (torch.float32, torch.bfloat16):
        x = randn(K + 1, 1, lanes, dtype=dtype) * 1.5
        assert_near(lif(way, x, kernels, "cuda"), lif(way, x, "torch", "cpu"))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_have_the_bits_of_the_reference_on_the_cpu(case, v_reset, dtype, kernels):
    for steps, lanes in SIZES:
        compare(
            kernels,
            case,
            randn(steps, 1, lanes, dtype=dtype) * 1.5,
            v_reset=v_reset,
            surrogate_function=surrogate.ATan(),
        )


@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_have_the_bits_of_the_reference_on_the_gpu(case, v_reset, kernels):
    x = randn(2 * K + 3, 4, 100)
    ours = run(case, x, kernels, "cuda", v_reset=v_reset)[0]
    reference = run(case, x, "torch", "cuda", v_reset=v_reset)[0]
    for actual, expected in zip(ours, reference, strict=True):
        assert_same_bits(actual, expected)


@pytest.mark.parametrize("surrogate_function", SURROGATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", DIVIDES_OR_ADDS, ids=str)
def test_every_surrogate_gives_the_references_gradient(surrogate_function, dtype, kernels):
    compare(
        kernels, CASES[1], randn(K + 1, 2, 20, dtype=dtype), surrogate_function=surrogate_function
    )


@pytest.mark.parametrize("shape", [(), (6,), (6, 1, 1), (6, 4, 5), (3, 6, 4, 5)], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tensor_parameters_get_gradients(case, shape, kernels):
    base = {"v_reset": -0.1, "v_threshold": 0.8, **case.settings}
    tensors = {name: base[name] + 0.1 * torch.rand(shape) for name in case.learnable}
    # On the GPU, for PyTorch's sigmoid of w has other bits there than on the CPU.
    compare(kernels, case, randn(K + 3, 3, 6, 4, 5), "cuda", **tensors)


@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_primitive_passes_gradcheck(case, v_reset, kernels):
    def smooth(x: Tensor) -> Tensor:
        settings = {**case.settings, "v_reset": v_reset}
        sigmoid = surrogate.Sigmoid(spiking=False)
        return case.function(x, backend=kernels, surrogate_function=sigmoid, **settings)[0]

    x = randn(K + 2, 1, 3, dtype=torch.float64).cuda().requires_grad_()
    assert torch.autograd.gradcheck(smooth, x, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_near_float64(dtype, kernels):
    x = randn(K + 3, 8, 64, dtype=dtype)
    sigmoid = surrogate.Sigmoid(spiking=False)
    ours = run(CASES[1], x, kernels, "cuda", surrogate_function=sigmoid)
    exact = run(CASES[1], x.double(), "torch", "cpu", surrogate_function=sigmoid)
    resolution = torch.finfo(dtype).eps
    for actual, expected in zip(ours[0] + ours[1], exact[0] + exact[1], strict=True):
        error = (actual.double() - expected).norm() / expected.norm()
        assert error < 2 * resolution


def test_the_same_call_gives_the_same_bits(kernels):
    x = randn(3 * K, 16, 333)
    first, second = (run(CASES[1], x, kernels, "cuda", tau=torch.tensor(2.5)) for _ in range(2))
    for a, b in zip(first[0] + first[1], second[0] + second[1], strict=True):
        assert_same_bits(a, b)


def test_misaligned_storage_gives_the_same_bits(kernels):
    storage = randn(1 + 20 * 64).cuda()
    misaligned = storage[1:].view(20, 2, 32)
    assert_same_bits(fused(kernels, misaligned), fused(kernels, misaligned.clone()))
    wide = randn(20, 2, 33).cuda()
    assert_same_bits(fused(kernels, wide[:, :, :32]), fused(kernels, wide[:, :, :32].contiguous()))


def fused(kernels: str, x: Tensor, **settings: object) -> Tensor:
    return functional.lif(x, backend=kernels, **settings)[0]


def test_channels_last_is_kept(kernels):
    x = randn(9 * 2, 6, 4, 5).cuda().to(memory_format=torch.channels_last).view(9, 2, 6, 4, 5)
    spikes = fused(kernels, x)
    assert spikes.stride() == x.stride()
    assert_same_bits(spikes.contiguous(), fused(kernels, x.contiguous()))


def test_no_step_and_no_lane_are_fine(kernels):
    v = randn(2, 3).cuda().requires_grad_()
    spikes, after = functional.lif(torch.empty(0, 2, 3, device="cuda"), v, backend=kernels)
    assert spikes.shape == (0, 2, 3)
    assert_same_bits(after, v)
    (grad,) = torch.autograd.grad(after.sum(), v)
    assert_same_bits(grad, torch.ones_like(v))
    assert fused(kernels, torch.empty(5, 0, 3, device="cuda")).shape == (5, 0, 3)


def test_kernels_run_on_the_current_stream(kernels):
    x = randn(64, 64, 1024).cuda()
    expected = fused(kernels, x)
    stream = torch.cuda.Stream()
    late = torch.zeros_like(x)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(x)
        spikes = fused(kernels, late)
    stream.synchronize()
    assert_same_bits(spikes, expected)


def captured(step: Callable[[], Result]) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The graph of a step that ran once before, and what it gives."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = step()
    return graph, result


def test_a_captured_graph_replays_forward_and_backward(kernels):
    x = randn(2 * K + 1, 4, 100).cuda().requires_grad_()
    weight = randn(2 * K + 1, 4, 100, seed=1).cuda()

    def step() -> tuple[Tensor, Tensor]:
        spikes = fused(kernels, x)
        return spikes, torch.autograd.grad((spikes * weight).sum(), x)[0]

    graph, (spikes, grad) = captured(step)
    with torch.no_grad():
        x.copy_(randn(2 * K + 1, 4, 100, seed=7))
    graph.replay()
    torch.cuda.synchronize()
    expected = step()
    assert_same_bits(spikes, expected[0])
    assert_same_bits(grad, expected[1])


def test_a_captured_graph_replays_the_reference():
    x, node = randn(5, 4, 100).cuda(), neuron.LIFNode(step_mode="m", backend="torch")

    def step() -> Tensor:
        node.reset()
        spikes: Tensor = node(x)
        return spikes

    graph, spikes = captured(step)
    graph.replay()
    assert_same_bits(spikes, step())


def test_states_are_carried_between_graphs_of_torch_compile(kernels):
    node, eager = (neuron.LIFNode(step_mode="m", backend=kernels) for _ in range(2))
    compiled = torch.compile(node, mode="reduce-overhead")
    with torch.no_grad():
        for seed in range(6):
            x = randn(5, 4, 100, seed=seed).cuda()
            torch.compiler.cudagraph_mark_step_begin()
            assert_same_bits(compiled(x).clone(), eager(x))
            node.v = node.v.clone()
            assert_same_bits(node.v, eager.v)


def test_torch_compile_gives_the_same_bits_without_a_graph_break(kernels):
    def network(x: Tensor) -> Tensor:
        return fused(kernels, x * 2.0, tau=3.0) + 1.0

    x = randn(12, 4, 50).cuda().requires_grad_()
    compiled = torch.compile(network, fullgraph=True)
    assert_same_bits(compiled(x), network(x))
    ours = torch.autograd.grad(compiled(x).sum(), x)
    assert_gradients_near(list(ours), list(torch.autograd.grad(network(x).sum(), x)))


def test_autocast_keeps_the_element_type_of_the_layer_before(kernels):
    network = torch.nn.Sequential(
        torch.nn.Linear(32, 64), neuron.LIFNode(step_mode="m", backend=kernels)
    ).cuda()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        spikes = network(randn(10, 4, 32).cuda())
    assert spikes.dtype == torch.bfloat16
    spikes.float().sum().backward()
    assert network[0].weight.grad.isfinite().all()


@pytest.mark.skipif("torch.cuda.device_count() < 2", reason="needs a second GPU")
def test_a_second_device_is_used_while_the_first_is_current(kernels):
    x = randn(20, 3, 50)
    with torch.cuda.device(0):
        spikes = fused(kernels, x.to("cuda:1"))
    assert spikes.device == torch.device("cuda:1")
    assert_same_bits(spikes.cpu(), fused(kernels, x.to("cuda:0")).cpu())


def test_more_elements_than_32_bits_count_are_all_computed(kernels):
    steps, lanes = 3, 2**31 // 3 + 1000
    needed = 2 * 2 * steps * lanes + 3 * 4 * lanes
    free = torch.cuda.mem_get_info()[0]
    if free < needed * 1.2:
        pytest.skip(f"needs {needed * 1.2 / 2**30:.0f} GiB of GPU memory, {free / 2**30:.0f} free")
    x = torch.zeros(steps, 1, lanes, dtype=torch.bfloat16, device="cuda")
    x[:, :, ::1000] = 3.0
    x[:, :, -1] = 3.0
    with torch.no_grad():
        spikes = fused(kernels, x)
    assert x.numel() > 2**31
    assert int((spikes != 0).sum(dtype=torch.int64)) == int((x != 0).sum(dtype=torch.int64))
    assert bool((spikes[:, :, -1] == 1).all())
    assert bool((spikes[-1] == x[-1].clamp(max=1)).all())


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("compute-sanitizer") is None, reason="needs compute-sanitizer on PATH"
)
def test_compute_sanitizer_finds_no_bad_access(kernels):
    script = f"""
        import torch
        from snnkernels import functional
        for lanes in (1, 3, 64, 129):
            for steps in (1, 7, 8, 19):
                for dtype in (torch.float32, torch.float64, torch.float16):
                    x = torch.randn(steps, 1, lanes, device="cuda", dtype=dtype)
                    x.requires_grad_()
                    tau = torch.full((lanes,), 2.0, device="cuda", requires_grad=True)
                    functional.lif(x, tau=tau, backend="{kernels}")[0].sum().backward()
        torch.cuda.synchronize()
    """
    command = ["compute-sanitizer", "--tool=memcheck", "--error-exitcode=3", sys.executable, "-c"]
    done = subprocess.run(
        [*command, textwrap.dedent(script)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"},
        timeout=600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", [Adaptive, TwoFires], ids=lambda cls: cls.__name__)
def test_a_compiled_neuron_gives_what_its_step_gives(cls, dtype, kernels):
    found = []
    for backend, device in ((kernels, "cuda"), ("torch", "cpu")):
        x = randn(2 * K + 3, 3, 42, dtype=dtype).to(device).requires_grad_()
        node = cls(step_mode="m", backend=backend, surrogate_function=surrogate.ATan()).to(device)
        out = node(x)
        out = out if isinstance(out, tuple) else (out,)
        grads = torch.autograd.grad(sum(o.float().sum() for o in out), [x, *node.parameters()])
        found.append(([o.detach().cpu() for o in out], [g.cpu() for g in grads]))
    (outputs, gradients), (expected, wanted) = found
    for actual, e in zip(outputs, expected, strict=True):
        assert_same_bits(actual, e)
    assert_gradients_near(gradients, wanted)
