"""torch.compile and opcheck: no graph break, dynamic T and B, well-formed operators."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor import config as inductor_config

from snnkernels import functional, neuron, surrogate
from snnkernels._backends import headers, operators

from .cases import CASES, assert_same_bits, lif_attributes, randn

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Without what earlier versions of the operators left in the compiler's caches on disk."""
    torch._dynamo.reset()
    with inductor_config.patch(force_disable_caches=True):
        yield


def arguments(
    tables: bool, states: bool, *, states_of: int = 2, store_v: bool = True, dtype=torch.float32
):
    """Of scan_forward, for the CubaLIF, or for the LIF, which has one state."""
    x = randn(37, 12, dtype=dtype).requires_grad_()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    attributes = lif_attributes()._replace(layout=[4, 0, 3, 3, 1, 1] if tables else [])
    if states_of == 2:
        attributes = attributes._replace(
            neuron=headers.NUMBERS["CubaLIF"],
            numbers=[0.0, 0.0, 0.5, 0.7, 1.0, 0.0, 2.0],
            layout=[4, 0, 3, 0, 3, 1, 1, 1] if tables else [],
            state_count=2,
            param_count=4,
        )
    shape = operators.states_shape(states_of, (12,))
    return (
        x,
        randn(*shape, dtype=wide, seed=2).requires_grad_() if states else None,
        torch.full((4 + 3,), 0.8, dtype=wide, requires_grad=True) if tables else None,
        *attributes,
        store_v,
        True,
    )


@pytest.mark.parametrize("states", [False, True], ids=["numbers", "states"])
@pytest.mark.parametrize("tables", [False, True], ids=["numbers", "tables"])
@pytest.mark.parametrize("states_of", [1, 2])
def test_opcheck_passes_for_the_forward_operator(states_of, tables, states):
    functional.lif(randn(2, 2, 2), backend="native")
    given = arguments(tables, states, states_of=states_of)
    torch.library.opcheck(torch.ops.snnkernels.scan_forward.default, given)


def backward_arguments(states_of, tables):
    given = arguments(tables, states=True, states_of=states_of)
    forward = [a.detach() if isinstance(a, torch.Tensor) else a for a in given]
    spikes, v_seq, states, checkpoints = torch.ops.snnkernels.scan_forward(*forward)
    gradients = torch.randn_like(spikes), torch.randn_like(v_seq), torch.randn_like(states)
    return (*forward[:3], checkpoints, *gradients, *forward[3:-2], tables)


@pytest.mark.parametrize("tables", [False, True], ids=["numbers", "tables"])
@pytest.mark.parametrize("states_of", [1, 2])
def test_opcheck_passes_for_the_backward_operator(states_of, tables):
    functional.lif(randn(2, 2, 2), backend="native")
    given = backward_arguments(states_of, tables)
    torch.library.opcheck(torch.ops.snnkernels.scan_backward.default, given)


@pytest.mark.parametrize("states_of", [1, 2])
def test_only_parameters_that_are_tables_take_memory_for_their_gradients(states_of):
    functional.lif(randn(2, 2, 2), backend="native")
    given = backward_arguments(states_of, tables=True)
    *_, sums = torch.ops.snnkernels.scan_backward(*given)
    assert sums.shape == (2, 12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_compiled_function_has_no_graph_break_and_the_same_results(case):
    def call(x, v):
        return case.function(x, v, return_v_seq=True, **case.settings)

    x, v = randn(20, 3, 8), randn(3, 8, seed=1)
    results = []
    for function in (call, torch.compile(call, fullgraph=True)):
        leaves = [x.clone().requires_grad_(), v.clone().requires_grad_()]
        outputs = function(*leaves)
        loss = sum(out.sum() for out in outputs)
        results.append([*outputs, *torch.autograd.grad(loss, leaves)])
    for compiled, eager in zip(results[1], results[0], strict=True):
        assert_same_bits(compiled.detach(), eager.detach())


def test_a_compiled_network_has_no_graph_break_and_carries_its_state():
    def build():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(6, 8),
            neuron.LIFNode(step_mode="m", surrogate_function=surrogate.ATan()),
            nn.Linear(8, 4),
            neuron.ParametricLIFNode(step_mode="m"),
        )

    eager, compiled = build(), build()
    step = torch.compile(compiled, fullgraph=True)
    for seed in range(3):
        x = randn(18, 5, 6, seed=seed) * 2
        expected, actual = eager(x), step(x)
        torch.testing.assert_close(actual, expected)
        expected.sum().backward()
        actual.sum().backward()
        functional.detach_net(eager)
        functional.detach_net(compiled)
        torch.testing.assert_close(compiled[1].v, eager[1].v)
    for a, e in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(a.grad, e.grad, rtol=1e-4, atol=1e-5)


NEURONS = [getattr(neuron, n) for n in neuron.__all__ if n.startswith("MultiStep")]


@pytest.mark.parametrize("backend", ["native", "torch"])
def test_every_neuron_compiles_one_behind_the_other(backend):
    def net():
        torch.manual_seed(0)
        made = [c(5) if c is neuron.MultiStepGLIFNode else c() for c in NEURONS]
        functional.set_backend(nn.Sequential(*made), backend)
        return nn.Sequential(*made)

    x = 2 * randn(5, 2, 3)
    eager, inner = net(), net()
    compiled = torch.compile(inner, backend="aot_eager", fullgraph=True)
    assert_same_bits(compiled(x), eager(x))
    for a, b in zip(inner, eager, strict=True):
        assert_same_bits(a.v, b.v)


def test_the_functions_of_all_neurons_compile():
    names = ("if_", "lif", "parametric_lif", "cuba_lif", "li", "qif", "eif")
    names += ("izhikevich", "alif", "klif", "clif", "ilif", "glif")

    def call(x):
        return [getattr(functional, name)(x, 0.25, backend="native")[0] for name in names]

    x = 2 * randn(5, 2, 3)
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    for a, b in zip(compiled(x), call(x), strict=True):
        assert_same_bits(a, b)


def test_steps_and_batch_may_be_dynamic_without_recompiling():
    counter = CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, dynamic=True, backend=counter)
    def call(x):
        spikes, v = functional.lif(x, tau=torch.full((8,), 2.0))
        return spikes.sum() + v.sum()

    counts = []
    for steps, batch in [(20, 3), (33, 5), (64, 2), (50, 7)]:
        x = randn(steps, batch, 8)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        call(a).backward()
        spikes, v = functional.lif(b, tau=torch.full((8,), 2.0))
        (spikes.sum() + v.sum()).backward()
        torch.testing.assert_close(a.grad, b.grad)
        counts.append(counter.frame_count)
    assert counts == [counts[0]] * 4


def test_channels_last_survives_compilation():
    @torch.compile(fullgraph=True)
    def call(x):
        return functional.lif(x)[0]

    x = randn(12, 3, 4, 5).contiguous(memory_format=torch.channels_last).view(4, 3, 3, 4, 5)
    assert call(x)[0].is_contiguous(memory_format=torch.channels_last)


def test_inference_compiles_under_no_grad():
    with torch.no_grad():
        x = randn(20, 3, 8)
        assert_same_bits(torch.compile(functional.lif, fullgraph=True)(x)[0], functional.lif(x)[0])


def test_the_operators_need_checkpoints_where_a_gradient_is_wanted():
    functional.lif(randn(2, 2, 2), backend="native")
    with pytest.raises(RuntimeError, match="keep=True"):
        torch.ops.snnkernels.scan_forward(*arguments(False, False)[:-1], False)
