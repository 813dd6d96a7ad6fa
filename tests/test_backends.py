"""What is asked of a backend: a toy of one runs all that the package has, and auto's order."""

import pytest
import torch
from torch import nn

from snnkernels import BuildError, FallbackWarning, encoding, functional, layer, neuron, surrogate
from snnkernels._backends import headers, operators, selection
from snnkernels._backends.base import KernelBackend

from .cases import CASES, assert_same_bits, forget_kernels, randn, run
from .test_compile_neuron import Adaptive

BACKENDS = dict(selection.BACKENDS)
NATIVE, CUPY = BACKENDS["native"], BACKENDS["cupy"]


class Toy(KernelBackend):
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

    def add_compiled_neuron(self, device_type, neuron, *, spare):
        NATIVE.add_compiled_neuron(device_type, neuron, spare=spare)
        self.neurons.append(neuron.title)


TOY = Toy()


@pytest.fixture
def forgetful(monkeypatch):
    """Nothing is known of earlier choices."""
    monkeypatch.setattr(selection, "_settled", {})
    monkeypatch.setattr(selection, "_warned", set())
    forget_kernels(monkeypatch)


@pytest.fixture
def toy(monkeypatch, forgetful):
    """One more backend, after the others."""
    monkeypatch.setattr(selection, "BACKENDS", {**BACKENDS, "toy": TOY})
    monkeypatch.setitem(selection.KERNEL_DEVICES, "toy", TOY.devices)
    TOY.calls.clear()
    TOY.neurons.clear()
    return TOY


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_new_backend_runs_the_neurons_of_the_library(toy, case):
    x = randn(9, 2, 5)
    outputs, gradients = run(case, x, "toy")
    assert toy.calls == ["eager_forward", "eager_backward"]
    expected, expected_gradients = run(case, x, "native")
    for ours, theirs in zip(outputs + gradients, expected + expected_gradients, strict=True):
        assert_same_bits(ours, theirs)


def test_a_new_backend_is_given_each_compiled_neuron(toy):
    x = randn(9, 2, 5).requires_grad_()
    out = Adaptive(step_mode="m", backend="toy")(x)
    assert toy.neurons == ["Adaptive"]
    assert toy.calls == ["eager_forward"]
    assert_same_bits(out, Adaptive(step_mode="m", backend="torch")(x))


LINEAR = {"pack_spikes", "count_spikes", "spike_linear", "spike_linear_weight"}


def test_a_new_backend_adds_up_spikes_in_linear_layers(toy):
    x, weight = (torch.rand(1024, 512) < 0.1).float(), randn(256, 512).requires_grad_()
    functional.linear(x, weight, backend="toy").sum().backward()
    assert set(toy.calls) == LINEAR


def test_auto_takes_the_first_for_all_of_a_network(toy, monkeypatch):
    monkeypatch.setattr(selection, "BACKENDS", {"toy": TOY, **BACKENDS})
    net = nn.Sequential(
        encoding.PoissonEncoder(step_mode="m"),
        layer.Linear(512, 256, bias=False),
        neuron.LIFNode(step_mode="m"),
        nn.Linear(256, 3),
    )
    with functional.spike_storage():
        net(torch.rand(16, 64, 512) * 0.2).sum().backward()
    others = {"poisson_encode", "eager_forward", "eager_backward", "unpack_spikes"}
    assert set(toy.calls) == LINEAR | others


def test_spikes_are_unpacked_by_the_backend_that_packed_them(toy, monkeypatch):
    weight = randn(4, 64).requires_grad_()
    with monkeypatch.context() as first, functional.spike_storage():
        first.setattr(selection, "BACKENDS", {"toy": TOY, **BACKENDS})
        y = nn.functional.linear((torch.rand(8, 64) < 0.5).float(), weight)
    monkeypatch.setattr(selection, "_settled", {})
    y.sum().backward()
    assert toy.calls == ["pack_spikes", "unpack_spikes"]


def test_set_backend_takes_its_name(toy):
    net = nn.Sequential(neuron.LIFNode(step_mode="m"), encoding.PoissonEncoder(backend="native"))
    functional.set_backend(net, "toy")
    net(torch.rand(4, 1, 3))
    assert toy.calls == ["eager_forward", "poisson_encode"]


def test_torch_compile_has_no_graph_break_on_it(toy):
    encoder = encoding.PoissonEncoder(step_mode="m", backend="toy")

    def call(x):
        return encoder(functional.lif(x, tau=3.0, backend="toy")[0])

    x = randn(12, 3, 6)
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(x)
    assert toy.calls == ["scan_forward", "poisson_encode"]
    assert_same_bits(compiled, call(x))


def test_it_refuses_what_has_no_kernel_as_the_others_do(toy):
    class Square(surrogate.ATan):
        def forward(self, x):
            return super().forward(x)

    with pytest.raises(
        ValueError, match="backend='toy': the surrogate Square .*; use backend='auto' or 'torch'"
    ):
        functional.lif(randn(3, 2), surrogate_function=Square(), backend="toy")


@pytest.mark.parametrize(
    ("name", "devices", "other"),
    [("cupy", "cuda", "cpu"), ("native", "cpu and cuda", "meta"), ("toy", "cpu", "meta")],
)
def test_a_backend_by_name_refuses_devices_that_it_has_no_kernels_for(toy, name, devices, other):
    message = f"backend='{name}' has kernels for {devices}, got a tensor on '{other}'"
    with pytest.raises(ValueError, match=message):
        functional.lif(randn(3, 2, 2).to(other), backend=name)


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
