"""What is asked of a backend: a toy of one runs all that the package has, and auto's order."""

import pytest
import torch
from torch import nn

from snnkernels import BuildError, FallbackWarning, encoding, functional, layer, neuron, surrogate
from snnkernels._backends import headers, kernels, operators, selection
from snnkernels._backends.base import Backend
from snnkernels._call import route

from .cases import CASES, assert_same_bits, randn, run
from .test_compile_neuron import Adaptive

BACKENDS = dict(selection.BACKENDS)
NATIVE, CUPY = BACKENDS["native"], BACKENDS["cupy"]


class Toy(Backend):
    """The library's kernels for CPUs in another namespace, through which every call is noted."""

    name = "toy"
    summary = "the library's kernels, noted"
    devices = ("cpu",)
    namespace = "snnkernels_toy"

    def __init__(self):
        self.calls, self.neurons, self.library = [], [], None

    def load(self, device_type):
        NATIVE.load(device_type)
        if self.library is None:
            self.library = torch.library.Library(self.namespace, "DEF")
            for name, schema in headers.schemas().items():
                if "(Tensor" in schema.split("->")[0]:
                    self.library.define(schema)
                    self.library.impl(name, self.noted(name), "CPU")
            operators.register(self.namespace)
        return "a toy"

    def noted(self, name):
        def call(*args):
            self.calls.append(name)
            return getattr(torch.ops.snnkernels, name)(*args)

        return call

    def outlook(self, device_type):
        return "a toy, at its first use"

    def add_compiled_neuron(self, device_type, neuron):
        NATIVE.add_compiled_neuron(device_type, neuron)
        self.neurons.append(neuron.title)


TOY = Toy()


@pytest.fixture
def forgetful(monkeypatch):
    """Nothing is known of earlier choices."""
    monkeypatch.setattr(selection, "_settled", {})
    monkeypatch.setattr(selection, "_warned", set())
    monkeypatch.setattr(kernels, "_kernels", {})
    monkeypatch.setattr(route, "_routes", {})


@pytest.fixture
def toy(monkeypatch, forgetful):
    """One more backend, before the others."""
    monkeypatch.setattr(selection, "BACKENDS", {"toy": TOY, **BACKENDS})
    monkeypatch.setattr(selection, "NAMES", ("auto", "toy", *BACKENDS))
    TOY.calls.clear()
    TOY.neurons.clear()
    return TOY


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_new_backend_runs_the_neurons_of_the_library(toy, case):
    x = randn(9, 2, 5)
    outputs, gradients = run(case, x, "toy")
    assert toy.calls == ["scan_forward", "scan_backward"]
    expected, expected_gradients = run(case, x, "native")
    for ours, theirs in zip(outputs + gradients, expected + expected_gradients, strict=True):
        assert_same_bits(ours, theirs)


def test_a_new_backend_is_given_each_compiled_neuron(toy):
    x = randn(9, 2, 5).requires_grad_()
    out = Adaptive(step_mode="m", backend="toy")(x)
    assert toy.neurons == ["Adaptive"]
    assert toy.calls == ["scan_forward"]
    assert_same_bits(out, Adaptive(step_mode="m", backend="torch")(x))


def test_auto_takes_the_first_for_all_of_a_network(toy):
    net = nn.Sequential(
        encoding.PoissonEncoder(step_mode="m"),
        layer.Linear(512, 256, bias=False),
        neuron.LIFNode(step_mode="m"),
        nn.Linear(256, 3),
    )
    with functional.spike_storage():
        net(torch.rand(16, 64, 512) * 0.2).sum().backward()
    encoder = "poisson_encode"
    linear = "pack_spikes", "count_spikes", "spike_linear", "spike_linear_weight"
    lif, kept_by_linear = ("scan_forward", "scan_backward"), "unpack_spikes"
    assert set(toy.calls) == {encoder, *linear, *lif, kept_by_linear}


def test_set_backend_takes_its_name(toy):
    net = nn.Sequential(neuron.LIFNode(step_mode="m"), encoding.PoissonEncoder(backend="native"))
    functional.set_backend(net, "toy")
    net(torch.rand(4, 1, 3))
    assert toy.calls == ["scan_forward", "poisson_encode"]


def test_torch_compile_has_no_graph_break_on_it(toy):
    encoder = encoding.PoissonEncoder(step_mode="m", backend="toy")

    def call(x):
        return encoder(functional.lif(x, tau=3.0, backend="toy")[0])

    x = randn(12, 3, 6).requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_same_bits(compiled(x), call(x))
    assert "poisson_encode" in toy.calls


def test_it_refuses_what_has_no_kernel_as_the_others_do(toy):
    class Square(surrogate.ATan):
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(ValueError, match="backend='toy': the surrogate Square .*has no kernel"):
        functional.lif(randn(3, 2), surrogate_function=Square(), backend="toy")


@pytest.mark.parametrize(("name", "devices"), [("cupy", "cuda"), ("native", "cpu and cuda")])
def test_a_backend_by_name_refuses_devices_that_it_has_no_kernels_for(name, devices):
    with pytest.raises(
        ValueError,
        match=f"backend='{name}' has kernels for {devices}, got a tensor on 'meta'",
    ):
        functional.lif(randn(3, 2).to("meta"), backend=name)


def test_cupy_has_no_kernels_for_the_cpu():
    with pytest.raises(
        ValueError, match="backend='cupy' has kernels for cuda, got a tensor on 'cpu'"
    ):
        functional.lif(randn(3, 2), backend="cupy")


def test_an_unknown_backend_is_told_the_known_ones():
    with pytest.raises(ValueError, match="backend.*auto.*native.*cupy.*torch.*'tpu'"):
        functional.lif(randn(3, 2), backend="tpu")


def refuse(message):
    def method(device_type):
        raise BuildError(message)

    return method


def test_auto_tries_native_then_cupy_then_torch(monkeypatch):
    monkeypatch.setattr(NATIVE, "load", refuse("no nvcc"))
    monkeypatch.setattr(CUPY, "load", lambda device_type: "CuPy with NVRTC")
    choice = selection.resolve("auto", "cuda")
    assert choice == selection.Choice("cupy", "no nvcc\nCuPy with NVRTC")
    monkeypatch.setattr(CUPY, "load", refuse("no CuPy"))
    choice = selection.resolve("auto", "cuda")
    assert choice == selection.Choice("torch", "no nvcc\nno CuPy")
    for name, message in (("native", "no nvcc"), ("cupy", "no CuPy")):
        with pytest.raises(BuildError, match=message):
            selection.resolve(name, "cuda")


def test_auto_says_once_why_there_are_no_kernels(monkeypatch, forgetful, recwarn):
    monkeypatch.setattr(NATIVE, "load", refuse("no compiler"))
    for _ in range(2):
        functional.lif(randn(3, 2))
        assert [str(each.message) for each in recwarn] == [
            "snnkernels runs on the plain-PyTorch reference for 'cpu': no compiler"
        ]
    assert recwarn[0].category is FallbackWarning


def test_a_device_without_kernels_gets_the_reference_with_a_warning(forgetful):
    with pytest.warns(FallbackWarning, match="there are no kernels for 'meta'"):
        out, _ = functional.lif(randn(3, 2).to("meta"))
    assert out.device.type == "meta"


def test_torch_by_name_warns_of_nothing(forgetful, recwarn):
    functional.lif(randn(3, 2), backend="torch")
    assert not recwarn.list
    assert selection.resolve("torch", "cpu") == selection.Choice("torch", "plain PyTorch")


def test_info_says_why_neither_native_nor_cupy_is_used(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(NATIVE, "outlook", lambda device: refuse(f"no {device}")(device))
    monkeypatch.setattr(CUPY, "outlook", refuse("no CuPy"))
    assert selection.explain() == {
        "cpu": selection.Choice("torch", "no cpu"),
        "cuda": selection.Choice("torch", "no cuda\nno CuPy"),
    }
