"""The native kernels against the plain-PyTorch reference: the same bits, the same gradients."""

from __future__ import annotations

import pytest
import torch

from snnkernels import functional, neuron, surrogate
from snnkernels._core import firing

from .cases import (
    CASES,
    DTYPES,
    RESETS,
    SURROGATES,
    Case,
    assert_gradients_close,
    assert_same_bits,
    randn,
    run,
)
from .properties import given, settings, st

EXACT = [torch.float64, torch.float32]


def compare(case: Case, x: torch.Tensor, **overrides: object) -> None:
    outputs, gradients = run(case, x, "native", **overrides)
    expected, expected_gradients = run(case, x, "torch", **overrides)
    for actual, out in zip(outputs, expected, strict=True):
        assert_same_bits(actual, out)
    assert_gradients_close(gradients, expected_gradients)
    assert 0 < outputs[0].double().mean() < 1 or x.numel() < 100


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("detach_reset", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_have_the_references_bits_and_gradients_agree(case, v_reset, detach_reset, dtype):
    x = randn(37, 3, 43, dtype=dtype) * 1.5
    compare(
        case,
        x,
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=surrogate.ATan(),
    )


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("surrogate_function", SURROGATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_surrogate_gives_the_references_gradient(case, surrogate_function, dtype):
    compare(case, randn(19, 2, 21, dtype=dtype), surrogate_function=surrogate_function)


@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("detach_reset", [False, True], ids=["attached", "detached"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_carried_states_enter_and_receive_gradients(case, detach_reset, v_reset):
    states = {"v": randn(3, 17, seed=5)}
    if case.name == "cuba":
        states["i"] = randn(3, 17, seed=6)
    compare(case, randn(20, 3, 17), v_reset=v_reset, detach_reset=detach_reset, **states)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_calls_with_carried_state_equal_one_long_call(case):
    x = randn(40, 4, 9)
    whole, _ = run(case, x, "native", gradients=False)
    names = ["v", "i"] if case.name == "cuba" else ["v"]
    state: dict[str, torch.Tensor] = {}
    parts = []
    for piece in x.split([13, 27]):
        out, _ = run(case, piece, "native", gradients=False, **state)
        parts.append(out[0])
        state = dict(zip(names, out[1:], strict=False))
    assert_same_bits(torch.cat(parts), whole[0])
    assert_same_bits(state["v"], whole[1])


SHAPES_OF_PARAMETERS = {
    "scalar": (),
    "one_element": (1,),
    "per_channel": (6,),
    "per_channel_aligned": (6, 1, 1),
    "per_neuron": (6, 4, 5),
    "per_row": (1, 4, 1),
    "scattered": (6, 1, 5),
    "per_example": (3, 1, 1, 1),
    "per_lane": (3, 6, 4, 5),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("shape", SHAPES_OF_PARAMETERS.values(), ids=SHAPES_OF_PARAMETERS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tensor_parameters_of_every_shape_get_gradients(case, shape, layout):
    x = randn(18 * 3, 6, 4, 5).to(memory_format=layout).view(18, 3, 6, 4, 5)
    base = {"v_reset": -0.1, "v_threshold": 0.8, **case.settings}
    tensors = {
        name: base[name] + 0.1 * torch.rand(shape, generator=torch.Generator().manual_seed(k))
        for k, name in enumerate(case.learnable)
    }
    compare(case, x, **tensors)


def test_a_mix_of_numbers_and_tables_keeps_them_apart():
    x = randn(18, 3, 6)
    case = Case("lif", functional.lif)
    compare(case, x, tau=torch.rand(6) + 1.5, v_threshold=0.7, v_reset=-torch.rand(3, 6))
    compare(case, x, tau=2.5, v_threshold=torch.rand(6) + 0.5, v_reset=0.0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nan_and_infinity_pass_through_as_in_the_reference(case):
    x = randn(25, 2, 30)
    x[3, 0, 4], x[5, 1, 2], x[7, 0, 0] = float("nan"), float("inf"), -float("inf")
    for v_reset in RESETS.values():
        outputs, _ = run(case, x, "native", gradients=False, v_reset=v_reset)
        expected, _ = run(case, x, "torch", gradients=False, v_reset=v_reset)
        assert expected[1].isnan().any()
        for actual, out in zip(outputs, expected, strict=True):
            assert_same_bits(actual, out)


@pytest.mark.parametrize("dtype", EXACT, ids=str)
@pytest.mark.parametrize("v_reset", [0.0, -0.1], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_infinite_thresholds_silence_neurons_or_have_them_fire_and_gradients_agree(
    case, v_reset, dtype
):
    thresholds = torch.tensor([float("inf"), 1.0, -float("inf")], dtype=dtype)
    settings = {"v_threshold": thresholds, "v_reset": v_reset}
    outputs, gradients = run(case, randn(20, 40, 3, dtype=dtype), "native", **settings)
    _, expected = run(case, randn(20, 40, 3, dtype=dtype), "torch", **settings)
    assert outputs[0][..., 0].sum() == 0
    assert outputs[0][..., 2].all()
    assert all(g.isfinite().all() for g in expected)
    assert_gradients_close(gradients, expected)


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_a_threshold_far_from_the_potential_costs_the_gradient_no_digits(backend):
    gradients = []
    for dtype in (torch.float32, torch.float64):
        x = torch.full((1, 1, 40), 1e-6, dtype=dtype, requires_grad=True)
        _, v = functional.if_(
            x, v_threshold=-0.5, surrogate_function=surrogate.ATan(), backend=backend
        )
        gradients += torch.autograd.grad(v.sum(), x)
    torch.testing.assert_close(gradients[0].double(), gradients[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("sign", [1, -1], ids=["above", "below"])
@pytest.mark.parametrize("v_reset", RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_unused_last_state_adds_nothing_to_gradients_even_where_it_is_infinite(
    case, v_reset, sign
):
    gradients = []
    for backend in ("native", "torch"):
        x = randn(18, 1, 40)
        x[-1, 0, 3] = sign * float("inf")
        x.requires_grad_()
        settings = {**case.settings, "v_reset": v_reset, "backend": backend}
        spikes = case.function(x, surrogate_function=surrogate.ATan(), **settings)[0]
        gradients += torch.autograd.grad(spikes.sum(), x)
    assert gradients[1].isfinite().all()
    assert_gradients_close(gradients[:1], gradients[1:])


@pytest.mark.parametrize("return_v_seq", [True, False], ids=["with_v_seq", "without_v_seq"])
@pytest.mark.parametrize("v_threshold", [0.9, -1.0], ids=["above_zero", "below_zero"])
@pytest.mark.parametrize("v_reset", [0.0, -0.0, -0.25, None], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_zeros_keep_their_sign_and_infinities_their_nan(case, v_reset, v_threshold, return_v_seq):
    x = randn(9, 2, 150).round()
    x[x == 1] = -0.0
    x[2, 0, 4], x[3, 1, 70], x[7, 1, 140] = float("inf"), -float("inf"), float("nan")
    settings = {**case.settings, "v_reset": v_reset, "v_threshold": v_threshold, "v": -0.0}
    if case.name == "cuba":
        settings["i"] = -0.0
    with torch.no_grad():
        native, reference = (
            case.function(x, backend=name, return_v_seq=return_v_seq, **settings)
            for name in ("native", "torch")
        )
    for actual, out in zip(native, reference, strict=True):
        assert_same_bits(actual, out)
        signs = actual.signbit() == out.signbit()
        assert (signs | out.isnan()).all()


@settings(max_examples=60, deadline=None)
@given(
    case=st.sampled_from(CASES),
    steps=st.integers(0, 50),
    batch=st.integers(0, 4),
    features=st.integers(0, 70),
    v_reset=st.sampled_from([0.0, -0.3, None]),
    detach_reset=st.booleans(),
    surrogate_function=st.sampled_from(SURROGATES),
    dtype=st.sampled_from(EXACT),
    seed=st.integers(0, 1000),
)
def test_any_size_and_setting_agrees(
    case, steps, batch, features, v_reset, detach_reset, surrogate_function, dtype, seed
):
    x = randn(steps, batch, features, dtype=dtype, seed=seed)
    outputs, gradients = run(
        case,
        x,
        "native",
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=surrogate_function,
    )
    expected, expected_gradients = run(
        case,
        x,
        "torch",
        v_reset=v_reset,
        detach_reset=detach_reset,
        surrogate_function=surrogate_function,
    )
    for actual, out in zip(outputs, expected, strict=True):
        assert_same_bits(actual, out)
    assert_gradients_close(gradients, expected_gradients)


SHARED_OUT = {
    "one_for_each_of_few": ((33, 5, 300), (300,)),
    "one_for_all_of_many": ((2, 131, 310), ()),
    "one_for_each_channel_of_many": ((2, 3, 2, 90, 91), (2,)),
    "one_for_each_of_many": ((2, 2, 40001), (40001,)),
}


@pytest.mark.parametrize(("shape", "size"), SHARED_OUT.values(), ids=SHARED_OUT)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_same_call_gives_the_same_bits_on_any_number_of_threads(case, shape, size):
    x = randn(*shape)
    parameter = {case.learnable[0]: torch.full(size, 1.3)}
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3, 1):
            torch.set_num_threads(count)
            outputs, gradients = run(case, x, "native", **parameter)
            results.append(outputs + gradients)
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert_same_bits(a, b)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_of_the_first_and_the_last_parameter_are_not_mixed_up(case):
    x = randn(20, 2, 5)
    first, last = case.learnable[0], "v_reset"
    tables = {first: 0.1 * torch.rand(5) + case.settings.get(first, 1.0), last: -torch.rand(2, 5)}
    expected, ours = run(case, x, "torch", **tables), run(case, x, "native", **tables)
    assert_gradients_close(ours[1], expected[1])


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_primitive_meets_a_threshold_of_each_neuron(case):
    """On so many lanes that a thread takes several blocks of them."""
    x = randn(20, 3, 300)
    smooth = {"surrogate_function": surrogate.Sigmoid(spiking=False)}
    smooth["v_threshold"] = torch.rand(300) + 0.5
    expected, ours = run(case, x, "torch", **smooth), run(case, x, "native", **smooth)
    for actual, e in zip(ours[0], expected[0], strict=True):
        torch.testing.assert_close(actual, e)
    assert_gradients_close(ours[1], expected[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_half_precision_gradients_beat_the_reference_run_in_that_dtype(case, dtype):
    """Against float64, on inputs whose spikes agree, since a flipped spike is no rounding error."""
    x = randn(16, 8, 64, dtype=dtype)
    exact = run(case, x.double(), "torch", surrogate_function=surrogate.Sigmoid(spiking=False))
    ours = run(case, x, "native", surrogate_function=surrogate.Sigmoid(spiking=False))
    naive = _run_in_dtype(case, x)
    for k, (e, o, n) in enumerate(zip(exact[0][:2], ours[0][:2], naive[0], strict=True)):
        assert _error(o, e) <= 2 * _error(n, e), f"output {k}"
    assert _error(ours[1][0], exact[1][0]) <= 2 * _error(naive[1], exact[1][0])


def _error(actual: torch.Tensor, exact: torch.Tensor) -> float:
    return ((actual.double() - exact).norm() / exact.norm()).item()


def _run_in_dtype(case: Case, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The reference with state and arithmetic in x's own dtype."""
    equations = {
        "if": neuron.IFNode.equations,
        "lif": neuron.LIFNode.equations,
        "plif": neuron.ParametricLIFNode.equations,
        "cuba": neuron.CubaLIFNode.equations,
    }[case.name.split("_")[0]]
    values = {**equations.params, **case.settings}
    for name, (to, function) in equations.derived.items():
        values[to] = function(torch.tensor(values.pop(name))).item()
    values = {
        name: torch.tensor(value, dtype=x.dtype) if isinstance(value, float) else value
        for name, value in values.items()
    }
    x = x.clone().requires_grad_()
    states = [torch.zeros_like(x[0]) for _ in equations.states]
    spikes, potentials = [], []
    with firing.with_surrogate(surrogate.Sigmoid(spiking=False)):
        for step in x:
            s, *states = equations.step(step, *states, **values)
            spikes.append(s)
            potentials.append(states[0])
    outputs = [torch.stack(spikes), *states, torch.stack(potentials)]
    loss = sum(
        (out.double() * randn(*out.shape, dtype=torch.float64, seed=seed)).sum()
        for seed, out in enumerate(outputs, start=10)
    )
    (grad,) = torch.autograd.grad(loss, [x])
    return [outputs[0].detach(), states[0].detach()], grad


@pytest.mark.parametrize("flush", [False, True], ids=["subnormals", "flushed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_elements_of_16_bits_are_read_and_rounded_as_torch_does(dtype, flush):
    every = torch.arange(2**16).to(torch.int16).view(dtype)
    shuffled = every[torch.randperm(2**16, generator=torch.Generator().manual_seed(0))]
    x = torch.stack([every, shuffled]).unsqueeze(1)
    expected = torch.stack([every, (every.float() + shuffled.float()).to(dtype)]).unsqueeze(1)
    torch.set_flush_denormal(flush)
    try:
        _, _, v_seq = functional.if_(x, v_threshold=1e38, return_v_seq=True, backend="native")
    finally:
        torch.set_flush_denormal(False)
    quiet = x.isinf().any(0) | x.isnan().any(0) | (expected.float().abs() >= 1e38).any(0)
    if flush and dtype == torch.bfloat16:  # then sums of subnormal float32 are 0
        quiet |= (x.abs() < 1e-37).any(0) | (expected.abs() < 1e-37).any(0)
    assert quiet.float().mean() < 0.2
    assert_same_bits(v_seq[:, ~quiet], expected[:, ~quiet])
