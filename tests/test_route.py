"""What a call remembers of the calls before it."""

import pytest
import torch

from snnkernels import functional, neuron, surrogate
from snnkernels._call import route

from .cases import assert_same_bits, randn

X = randn(5, 2, 3)


@pytest.fixture
def routes(monkeypatch):
    """The arguments of each route that is found, from none remembered on."""
    made = []
    make_route = route._route
    monkeypatch.setattr(route, "_route", lambda *args: made.append(args) or make_route(*args))
    monkeypatch.setattr(route, "_routes", {})
    return made


def test_the_route_of_a_call_is_found_once(routes):
    for _ in range(3):
        functional.lif(X)
    assert len(routes) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"tau": 3.0},
        {"v_threshold": 0.5},
        {"v_reset": -0.0},
        {"v_reset": None},
        {"v": 0.25},
        {"decay_input": False},
        {"detach_reset": True},
        {"backend": "torch"},
        {"surrogate_function": surrogate.ATan()},
        {"surrogate_function": surrogate.Sigmoid(alpha=2.0)},
        {"surrogate_function": surrogate.Sigmoid(spiking=False)},
    ],
    ids=str,
)
def test_other_arguments_take_another_route(routes, change):
    before = functional.lif(X)
    changed = functional.lif(X, **change)
    assert len(routes) == 2
    expected = functional.lif(X, **{**change, "backend": "torch"})
    for actual, out in zip(changed, expected, strict=True):
        torch.testing.assert_close(actual, out)
    assert_same_bits(functional.lif(X)[0], before[0])


def test_a_surrogate_that_is_set_anew_takes_another_route(routes):
    function = surrogate.Sigmoid()
    functional.lif(X, surrogate_function=function)
    function.alpha = 2.0
    functional.lif(X, surrogate_function=function)
    assert len(routes) == 2


def test_what_is_no_number_is_refused_though_it_equals_one_that_is_remembered():
    functional.lif(X, tau=1.0)
    with pytest.raises(TypeError, match="tau must be a number, got True"):
        functional.lif(X, tau=True)
    with pytest.raises(TypeError, match="decay_input must be True or False, got 1"):
        functional.lif(X, decay_input=1)


def test_routes_do_not_pile_up(routes, monkeypatch):
    monkeypatch.setattr(route, "_MOST_REMEMBERED", 3)
    for k in range(10):
        functional.lif(X, tau=2.0 + k)
        assert len(route._routes) <= 3


def test_the_route_of_a_neuron_is_found_once_and_again_for_other_numbers(routes):
    node, reference = (neuron.ALIFNode(step_mode="m", backend=b) for b in ("native", "torch"))
    for count, change in enumerate([{}, {"kappa": 0.5}, {"v_reset": -0.0}, {"v": 0.25}], start=1):
        for name, value in change.items():
            setattr(node, name, value)
            setattr(reference, name, value)
        before = {name: getattr(node, name) for name in node.equations.states}
        for _ in range(2):
            for name, value in before.items():
                setattr(node, name, value)
            out = node(X)
        assert len([args for args in routes if args[0].backend == "native"]) == count
        assert_same_bits(out, reference(X))
        assert_same_bits(node.v, reference.v)
        node.reset()
        reference.reset()
