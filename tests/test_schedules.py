"""Latency, phase, period and population encoders."""

from __future__ import annotations

import math
import pickle

import pytest
import torch

from snnkernels import encoding, functional

X = torch.tensor([[0.0, 0.25, 0.5], [0.77, 0.9, 1.0]])

ENCODERS = [
    (lambda: encoding.LatencyEncoder(10), X),
    (lambda: encoding.LatencyEncoder(10, "log"), X),
    (lambda: encoding.WeightedPhaseEncoder(8), X * (1 - 2**-8)),
    (lambda: encoding.PeriodicEncoder((torch.rand(7, 2, 3) < 0.5).float()), None),
    (lambda: encoding.PopulationEncoder(10, 5), X),
]


@pytest.mark.parametrize(("make", "x"), ENCODERS)
def test_step_by_step_all_at_once_and_encode_give_the_same_spikes(make, x):
    encoder = make()
    spikes = encoder.encode(x)
    assert len(spikes) == encoder.T
    assert ((spikes == 0) | (spikes == 1)).all() and spikes.any()
    steps = [encoder(x), *[encoder() for _ in range(2 * encoder.T - 1)]]
    assert torch.equal(torch.stack(steps), torch.cat([spikes, spikes]))
    functional.reset_net(encoder)
    assert encoder.t == 0 and encoder.spike is None
    functional.set_step_mode(encoder, "m")
    assert torch.equal(encoder(x), spikes)
    assert torch.equal(pickle.loads(pickle.dumps(encoder))(x), spikes)


@pytest.mark.parametrize("T", [1, 2, 7, 50])
def test_latency_is_the_rounded_formula(T):
    linear = encoding.LatencyEncoder(T).encode(X)
    log = encoding.LatencyEncoder(T, "log").encode(X)
    for where, x in enumerate(X.flatten().tolist()):
        at = round((T - 1) * (1 - x))
        assert linear.flatten(1)[:, where].nonzero().item() == at
        at = round(T - 1 - math.log(math.expm1(T - 1) * x + 1))
        assert log.flatten(1)[:, where].nonzero().item() == at


def test_the_phases_add_up_to_the_intensity():
    x = torch.arange(256) / 256
    spikes = encoding.WeightedPhaseEncoder(8).encode(x)
    weights = 0.5 ** torch.arange(1, 9)
    assert torch.equal((spikes * weights[:, None]).sum(0), x)


def test_a_period_goes_on_for_as_many_steps_as_are_asked_for():
    pattern = torch.tensor([[1.0], [0.0], [0.0]])
    encoder = encoding.PeriodicEncoder(pattern)
    assert encoder.encode(None, 7).flatten().tolist() == [1, 0, 0, 1, 0, 0, 1]


def test_the_population_answers_where_its_curves_are():
    encoder = encoding.PopulationEncoder(10, 5, x_min=-1.0, x_max=2.0)
    centres = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5])
    activation = encoder.activation(centres)
    torch.testing.assert_close(activation.diagonal(), torch.ones(5))
    sigma = 1 / 1.5
    assert activation[0, 1].item() == pytest.approx(math.exp(-1 / (2 * sigma**2)))
    spikes = encoder.encode(centres)
    assert spikes.shape == (10, 5, 5)
    assert torch.equal(spikes[0], torch.eye(5))
    assert not spikes[-1].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_spikes_keep_the_dtype(dtype):
    assert encoding.LatencyEncoder(5).encode(X.to(dtype)).dtype == dtype
    assert encoding.PopulationEncoder(5, 4).encode(X.to(dtype)).dtype == dtype


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: encoding.LatencyEncoder(0), ValueError, "T must be >= 1, got 0"),
        (lambda: encoding.LatencyEncoder(2.0), TypeError, "T must be an integer, got 2.0"),
        (lambda: encoding.LatencyEncoder(5, "exp"), ValueError, "enc_function must be one of"),
        (lambda: encoding.LatencyEncoder(800, "log").encode(X), ValueError, "at most 700"),
        (lambda: encoding.LatencyEncoder(5)(X + 1), ValueError, r"x must be in \[0, 1\], got .* 2"),
        (lambda: encoding.LatencyEncoder(5)(X * math.nan), ValueError, r"x must be in \[0, 1\]"),
        (lambda: encoding.LatencyEncoder(5)(), TypeError, "x must be a tensor .* got None"),
        (lambda: encoding.WeightedPhaseEncoder(3)(X), ValueError, r"x must be in \[0, 0.875\]"),
        (lambda: encoding.PopulationEncoder(5, 2), ValueError, "m must be >= 3, got 2"),
        (lambda: encoding.PopulationEncoder(5, 4, 1.0, 1.0), ValueError, "x_max must be finite"),
        (lambda: encoding.PeriodicEncoder([1, 0]), TypeError, "spike must be a tensor"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, words):
    with pytest.raises(error, match=words):
        call()
