"""The surrogates: registry, gradient against primitive, kernel against module."""

from __future__ import annotations

import gc
import inspect
import pickle
import warnings

import pytest
import torch
from torch import nn

from snnkernels import FallbackWarning, functional, neuron, surrogate
from snnkernels._backends import headers, kernels, selection
from snnkernels.surrogate import of_functions

from .cases import SURROGATES, generator

WITH_PRIMITIVE = [s for s in SURROGATES if s.has_primitive]
KINKS = {
    "PiecewiseQuadratic": (-1.0, 0.0, 1.0),
    "Rect": (-0.5, 0.5),
    "PiecewiseLeakyReLU": (-1.0, 1.0),
    "LeakyKReLU": (0.0,),
    "LogTailedReLU": (0.0, 1.0),
}


def name_of(instance: object) -> str:
    return type(instance).__name__


def away_from_kinks(instance: surrogate.SurrogateFunction) -> torch.Tensor:
    x = torch.linspace(-3.01, 3.02, 601, dtype=torch.float64)
    for kink in (0.0, *KINKS.get(name_of(instance), ())):
        x = x[(x - kink).abs() > 1e-3]
    return x


def test_the_registry_names_the_modules_and_their_parameters():
    assert headers.surrogates() == {
        name: cls.parameter_names for cls, name in surrogate.BUILT_IN.items()
    }


def test_a_custom_surrogate_may_have_as_many_parameters_as_the_kernels_hold():
    assert headers.limits()["kMaxSurrogateParams"] == of_functions._MAX_PARAMETERS


@pytest.mark.parametrize("instance", WITH_PRIMITIVE, ids=name_of)
def test_the_gradient_is_the_slope_of_the_primitive(instance):
    x = away_from_kinks(instance)
    step = 1e-6
    slope = (
        instance.primitive(x + step, *instance.values)
        - instance.primitive(x - step, *instance.values)
    ) / (2 * step)
    torch.testing.assert_close(instance.gradient(x, *instance.values), slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("instance", SURROGATES, ids=name_of)
def test_a_surrogate_alone_steps_forward_and_follows_its_gradient_backward(instance):
    x = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    spikes = instance(x)
    assert torch.equal(spikes, (x >= 0).double())
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    torch.testing.assert_close(grad, instance.gradient(x.detach(), *instance.values))


@pytest.mark.parametrize("parameters", ["default", "other"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("instance", SURROGATES, ids=name_of)
def test_the_kernels_gradient_is_the_modules(instance, dtype, parameters):
    """One step of an IF neuron from v = 0 with threshold 0 and soft reset hands it x itself."""
    if parameters == "other":
        instance = type(instance)(*[_other(v) for v in instance.values])
    x = torch.cat([torch.linspace(-30, 30, 1003), torch.tensor([0.0, -0.0])])
    x = x.to(dtype).view(1, 1, -1).requires_grad_()
    spikes, _ = functional.if_(
        x, v_threshold=0.0, v_reset=None, surrogate_function=instance, backend="native"
    )
    (grad,) = torch.autograd.grad(spikes.sum(), x)
    exact = instance.gradient(x.detach().double(), *instance.values).to(dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    atol = tolerance * exact.abs().max().item()
    torch.testing.assert_close(grad, exact, rtol=tolerance, atol=atol)


def _other(value: float) -> float:
    return value + 1 if isinstance(value, int) else 1.7 * value + 0.1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("instance", WITH_PRIMITIVE, ids=name_of)
def test_without_spiking_the_kernel_emits_the_primitive(instance, dtype):
    smooth = type(instance)(*instance.values, spiking=False)
    x = torch.linspace(-8, 8, 801).to(dtype).view(1, 1, -1)
    out, _ = functional.if_(
        x, v_threshold=0.0, v_reset=None, surrogate_function=smooth, backend="native"
    )
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(out, smooth(x), rtol=tolerance, atol=tolerance)


def test_what_has_no_primitive_says_so():
    with pytest.raises(ValueError, match="FakeNumericalGradient has no primitive"):
        surrogate.FakeNumericalGradient(spiking=False)
    with pytest.raises(ValueError, match="no primitive"):
        surrogate.FakeNumericalGradient().set_spiking_mode(False)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("instance", SURROGATES, ids=name_of)
def test_parameters_out_of_range_are_refused_by_name(instance, bad):
    for name in instance.parameter_names:
        expected = TypeError if name == "n" else ValueError
        with pytest.raises(expected, match=name):
            type(instance)(**{name: bad})


@pytest.mark.parametrize("instance", SURROGATES, ids=name_of)
def test_parameters_of_the_wrong_kind_are_refused_by_name(instance):
    name = instance.parameter_names[0]
    with pytest.raises(TypeError, match=f"{name} must be"):
        type(instance)(**{name: "2"})


def test_spiking_must_be_a_boolean():
    with pytest.raises(TypeError, match="spiking must be True or False, got 1"):
        surrogate.Sigmoid(spiking=1)


def test_the_defaults_of_every_surrogate_are_those_stated():
    defaults = {
        name: [
            p.default
            for p in inspect.signature(cls).parameters.values()
            if p.name not in ("spiking", "self")
        ]
        for cls, name in surrogate.BUILT_IN.items()
    }
    assert defaults == {
        "Sigmoid": [4.0],
        "ATan": [2.0],
        "Erf": [2.0],
        "PiecewiseQuadratic": [1.0],
        "PiecewiseExp": [1.0],
        "SoftSign": [2.0],
        "SuperSpike": [1.0],
        "FastSigmoid": [25.0],
        "Rect": [1.0],
        "Gaussian": [0.5],
        "NonzeroSignLogAbs": [1.0],
        "PiecewiseLeakyReLU": [1.0, 0.01],
        "LeakyKReLU": [0.0, 1.0],
        "LogTailedReLU": [0.0],
        "S2NN": [4.0, 1.0],
        "QPseudoSpike": [2.0],
        "FakeNumericalGradient": [0.3],
        "SquarewaveFourierSeries": [2, 8.0],
    }


@pytest.mark.parametrize("instance", SURROGATES, ids=name_of)
def test_surrogates_survive_pickling(instance):
    copy = pickle.loads(pickle.dumps(instance))
    assert copy.values == instance.values and type(copy) is type(instance)


class TutorialSurrogate(torch.autograd.Function):
    """The tutorial's way to write one: sigmoid's gradient, by hand."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        s = torch.sigmoid(4 * x)
        return grad_output * 4 * s * (1 - s)


class MySurrogate(nn.Module):
    def forward(self, x):
        return TutorialSurrogate.apply(x)


class OtherSurrogate(MySurrogate):
    pass


def test_a_users_own_surrogate_runs_on_the_reference_with_one_warning():
    x = torch.randn(6, 2, 5, generator=generator(), requires_grad=True)
    node = neuron.LIFNode(step_mode="m", surrogate_function=MySurrogate())
    with pytest.warns(FallbackWarning, match="surrogate MySurrogate has no kernel") as caught:
        out = node(x)
    functional.reset_net(node)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        node(x)
    assert len(caught) == 1
    (grad,) = torch.autograd.grad(out.sum(), x)
    expected = neuron.LIFNode(step_mode="m", backend="torch")(x)
    (expected_grad,) = torch.autograd.grad(expected.sum(), x)
    assert torch.equal(out, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_a_users_own_surrogate_is_refused_where_native_is_asked_for_by_name():
    with pytest.raises(ValueError, match="native.*the surrogate OtherSurrogate has no kernel"):
        functional.lif(torch.randn(3, 2), surrogate_function=OtherSurrogate(), backend="native")


def test_a_subclass_of_a_built_in_surrogate_is_a_users_own():
    class Steeper(surrogate.ATan):
        @staticmethod
        def gradient(x, alpha):
            return 10 * surrogate.ATan.gradient(x, alpha)

    x = torch.zeros(1, 1, 3, requires_grad=True)
    out, _ = functional.if_(x, v_threshold=0.0, surrogate_function=Steeper(), backend="torch")
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, torch.full_like(x, 10.0))


AT_KINKS = {
    "Sigmoid": {0: 1.0},
    "ATan": {0: 1.0},
    "Erf": {0: 1.1283791670955126},
    "PiecewiseQuadratic": {0: 1.0, 1: 0.0, -1: 0.0},
    "PiecewiseExp": {0: 0.5},
    "SoftSign": {0: 1.0},
    "SuperSpike": {0: 1.0},
    "FastSigmoid": {0: 1.0},
    "Rect": {0: 1.0, 0.5: 0.0, -0.5: 0.0},
    "Gaussian": {0: 0.7978845608028654},
    "NonzeroSignLogAbs": {0: 1.0},
    "PiecewiseLeakyReLU": {0: 0.5, 1: 0.5, -1: 0.5},
    "LeakyKReLU": {0: 1.0},
    "LogTailedReLU": {0: 0.0, 1: 1.0},
    "S2NN": {0: 1.0},
    "QPseudoSpike": {0: 1.0},
    "FakeNumericalGradient": {0: 0.3, 1 / 0.3: 0.3, -1 / 0.3: 0.3},
    "SquarewaveFourierSeries": {0: 0.5},
}
"""The gradient of each surrogate as it is by default, at 0 (of either sign) and at its kinks."""


def test_the_derivative_of_every_surrogate_at_its_kinks_is_stated():
    assert set(AT_KINKS) == set(surrogate.BUILT_IN.values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("backend_name", ["native", "torch"])
@pytest.mark.parametrize("spiking", [True, False], ids=["spiking", "smooth"])
@pytest.mark.parametrize("name", AT_KINKS)
def test_the_derivative_at_a_kink_is_the_one_stated(name, spiking, backend_name, dtype):
    cls, at = getattr(surrogate, name), AT_KINKS[name]
    if not spiking and not cls().has_primitive:
        return
    x = torch.tensor([*at, -0.0], dtype=dtype).view(1, 1, -1).requires_grad_()
    out, _ = functional.if_(
        x,
        torch.full((1, len(at) + 1), -0.0, dtype=dtype),  # -0 + -0 is -0
        v_threshold=0.0,
        v_reset=None,
        surrogate_function=cls(spiking=spiking),
        backend=backend_name,
    )
    (grad,) = torch.autograd.grad(out.sum(), x)
    expected = torch.tensor([*at.values(), at[0]], dtype=dtype)
    torch.testing.assert_close(grad.flatten(), expected, rtol=2e-6, atol=0)


def test_the_boxcar_ends_at_the_same_number_everywhere():
    edge = torch.tensor(0.5 / 1.7, dtype=torch.float32)
    x = torch.stack([torch.nextafter(edge, torch.tensor(end)) for end in (0.0, 1.0)] + [edge])
    grads = []
    for backend_name in ("native", "torch"):
        x = x.detach().view(1, 1, -1).requires_grad_()
        box = surrogate.Rect(1.7)
        out, _ = functional.if_(
            x, v_threshold=0.0, v_reset=None, surrogate_function=box, backend=backend_name
        )
        grads.append(torch.autograd.grad(out.sum(), x)[0])
    assert torch.equal(*grads)


SMOOTH = [type(s)(*s.values, spiking=False) for s in WITH_PRIMITIVE]


@pytest.mark.parametrize("instance", SMOOTH, ids=name_of)
def test_a_primitive_can_be_differentiated_twice_in_pytorch(instance):
    x = away_from_kinks(instance)[::60].requires_grad_()
    assert torch.autograd.gradcheck(instance, x)
    assert torch.autograd.gradgradcheck(instance, x)


def test_a_primitive_passes_through_pytorchs_transforms():
    smooth = surrogate.SoftSign(spiking=False)
    x = torch.linspace(-1, 1, 6, dtype=torch.float64)
    slope = smooth.gradient(x, *smooth.values)
    tangent = torch.func.jvp(smooth, (x,), (torch.full_like(x, 2.0),))[1]
    torch.testing.assert_close(tangent, 2 * slope)
    torch.testing.assert_close(torch.vmap(torch.func.grad(smooth))(x), slope)
    hessian = torch.func.hessian(lambda x: smooth(x).sum())(x)
    expected = torch.func.jacrev(lambda x: smooth.gradient(x, *smooth.values))(x)
    torch.testing.assert_close(hessian, expected)


def test_a_primitive_compiles_without_a_break_to_the_same_derivative():
    torch._dynamo.reset()
    compiled = torch.compile(surrogate.Rect(spiking=False), fullgraph=True, backend="aot_eager")
    x = torch.tensor([-0.5, 0.25, 0.5], requires_grad=True)
    (grad,) = torch.autograd.grad(compiled(x).sum(), x)
    assert grad.tolist() == [0.0, 1.0, 0.0]


def silence(module, *arguments):
    """As a forward hook, as one before it or as a backward hook: 0 in place of a tensor."""
    given = arguments[-1]
    return tuple(t * 0 for t in given) if isinstance(given, tuple) else given * 0


HOOKS = {
    "forward": lambda module: module.register_forward_hook(silence),
    "forward_pre": lambda module: module.register_forward_pre_hook(silence),
    "full_backward": lambda module: module.register_full_backward_hook(silence),
    "full_backward_pre": lambda module: module.register_full_backward_pre_hook(silence),
}


@pytest.mark.parametrize("hook", HOOKS)
def test_a_surrogates_hooks_run_on_the_reference_or_are_refused(hook, monkeypatch):
    monkeypatch.setattr(selection, "_warned", set())
    sigmoid = surrogate.Sigmoid()
    x = torch.full((3, 2, 4), 0.3, requires_grad=True)
    node = neuron.IFNode(v_threshold=0.2, step_mode="m", surrogate_function=sigmoid)

    def run():
        functional.reset_net(node)
        out = node(x)
        return out.detach(), *torch.autograd.grad(out.sum(), x)

    expected = run()
    handle = HOOKS[hook](sigmoid)
    with pytest.warns(FallbackWarning, match="surrogate Sigmoid with hooks"):
        assert any(not torch.equal(a, e) for a, e in zip(run(), expected, strict=True))
    node.backend = "native"
    with pytest.raises(ValueError, match="the surrogate Sigmoid with hooks .* has no kernel"):
        run()
    handle.remove()
    assert all(torch.equal(a, e) for a, e in zip(run(), expected, strict=True))


def test_an_instance_with_a_forward_of_its_own_is_refused_where_native_is_asked_for():
    function = surrogate.ATan()
    function.forward = torch.zeros_like
    with pytest.raises(ValueError, match="ATan with hooks or a forward of its own"):
        functional.lif(torch.randn(3, 2), surrogate_function=function, backend="native")


def fresh() -> surrogate.SurrogateFunction:
    return surrogate.custom(gradient=lambda x, width: width / (1 + x.square()), width=0.5)


def custom_classes() -> int:
    gc.collect()
    return sum(cls.__name__ == "Custom" for cls in surrogate.SurrogateFunction.__subclasses__())


def test_custom_surrogates_of_fresh_functions_do_not_pile_up():
    kept = fresh()
    for _ in range(200):
        fresh()
    assert custom_classes() <= 100
    again = surrogate.custom(gradient=type(kept).gradient, width=0.7)
    assert type(again) is type(kept)


def test_equal_code_made_anew_is_not_loaded_anew():
    x = torch.randn(4, 2, 3)
    loaded = []
    for _ in range(3):
        functional.if_(x, surrogate_function=fresh(), backend="native")
        loaded.append(len(selection.BACKENDS["native"]._added))
    assert loaded[0] == loaded[2]


def test_what_is_remembered_of_kernels_is_bounded(monkeypatch):
    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(kernels, "_MOST_REMEMBERED", 4)
    for number in range(10):
        kernels.kernel_for("IF", (), (), f"Custom#{number}", True, False, "torch", "cpu")
        assert 1 <= len(kernels._kernels) <= 4


def test_a_surrogate_without_a_kernel_has_no_source_of_kernels():
    node = neuron.LIFNode(surrogate_function=OtherSurrogate())
    with pytest.raises(ValueError, match="^the surrogate OtherSurrogate has no kernel; those of"):
        node.source()
