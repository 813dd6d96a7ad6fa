"""The Poisson encoder: rates, reproducibility, shapes and errors."""

import copy
import pickle

import pytest
import torch

from snnkernels.encoding import PoissonEncoder

SHAPES = [(), (1,), (3, 7), (2, 3, 5, 4), (0, 4), (16, 33)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def intensities(shape, dtype=torch.float32):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7)).to(
        dtype
    )


def seeded(function, seed=3):
    torch.manual_seed(seed)
    return function()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spikes_keep_shape_and_dtype_and_are_zero_or_one(shape, dtype):
    x = intensities(shape, dtype)
    spikes = PoissonEncoder()(x)
    assert spikes.shape == x.shape
    assert spikes.dtype == dtype
    assert ((spikes == 0) | (spikes == 1)).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_same_seed_gives_the_same_spikes_step_by_step_and_multi_step(shape, dtype):
    x, T = intensities(shape, dtype), 9
    encoder = PoissonEncoder()
    by_step = seeded(lambda: torch.stack([encoder(x) for _ in range(T)]))
    at_once = seeded(lambda: encoder.encode(x, T))
    sequence = seeded(lambda: PoissonEncoder("m")(x.expand(T, *shape)))
    assert torch.equal(by_step, at_once)
    assert torch.equal(by_step, sequence)


def test_another_seed_gives_other_spikes_and_the_next_call_goes_on():
    x, encoder = intensities((16, 33)), PoissonEncoder()
    first = seeded(lambda: encoder(x), seed=1)
    assert not torch.equal(first, encoder(x))
    assert not torch.equal(first, seeded(lambda: encoder(x), seed=2))
    assert torch.equal(first, seeded(lambda: encoder(x), seed=1))


def test_the_spikes_are_those_of_rand_like_in_float32():
    x = intensities((16, 33))
    assert torch.equal(
        seeded(lambda: PoissonEncoder()(x)), seeded(lambda: (torch.rand_like(x) <= x).to(x))
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_intensities_fire_as_their_float32_values(dtype):
    x, encoder = intensities((16, 33), dtype), PoissonEncoder()
    half = seeded(lambda: encoder.encode(x, 20))
    assert torch.equal(half.float(), seeded(lambda: encoder.encode(x.float(), 20)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_rate_follows_the_intensity(dtype):
    T = 20_000
    x = torch.tensor([0.004, 0.1, 0.5, 0.9, 0.996], dtype=dtype)
    rate = seeded(lambda: PoissonEncoder().encode(x, T)).double().mean(0)
    p = x.double()
    assert ((rate - p).abs() < 5 * (p * (1 - p) / T).sqrt()).all()


def test_each_step_of_a_sequence_fires_by_its_own_intensity():
    x_seq = torch.tensor([0.0, 1.0, 0.0, 1.0]).view(4, 1, 1).expand(4, 8, 3)
    assert torch.equal(PoissonEncoder("m")(x_seq), x_seq)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_never_fires_one_always_does_and_values_outside_act_as_the_nearer_bound(dtype):
    x = torch.tensor([0.0, -3.0, -torch.inf, torch.nan, 1.0, 2.5, torch.inf], dtype=dtype)
    spikes = PoissonEncoder().encode(x.repeat(1000), 100).view(100, 1000, 7)
    assert (spikes[..., :4] == 0).all()
    assert (spikes[..., 4:] == 1).all()


def test_the_memory_format_does_not_change_the_spikes():
    x, encoder = intensities((2, 3, 5, 4)), PoissonEncoder()
    expected = seeded(lambda: encoder.encode(x, 6))
    channels_last = x.contiguous(memory_format=torch.channels_last)
    strided = x.transpose(1, 3).contiguous().transpose(1, 3)
    for same in (channels_last, strided):
        assert torch.equal(expected, seeded(lambda same=same: encoder.encode(same, 6)))


def test_no_steps_give_an_empty_sequence():
    assert PoissonEncoder().encode(torch.rand(2, 3), 0).shape == (0, 2, 3)
    assert PoissonEncoder("m")(torch.rand(0, 2, 3)).shape == (0, 2, 3)


def test_the_input_is_left_alone_and_no_gradient_flows_through():
    x = intensities((3, 7)).requires_grad_()
    kept = x.detach().clone()
    spikes = PoissonEncoder().encode(x, 4)
    assert not spikes.requires_grad
    assert torch.equal(x, kept)


def test_the_step_mode_can_be_changed_and_survives_a_copy_and_a_pickle():
    encoder = PoissonEncoder()
    encoder.step_mode = "m"
    for same in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert same.step_mode == "m"
    assert repr(encoder) == "PoissonEncoder(step_mode='m')"


@pytest.mark.parametrize("mode", ["x", "", None, 1])
def test_an_unknown_step_mode_is_refused_by_name(mode):
    with pytest.raises(ValueError, match=r"step_mode must be 's' or 'm', got"):
        PoissonEncoder(mode)
    encoder = PoissonEncoder()
    with pytest.raises(ValueError, match=r"step_mode must be 's' or 'm', got"):
        encoder.step_mode = mode


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64], ids=str)
def test_intensities_that_are_not_floating_point_are_refused_by_name(dtype):
    for call in (PoissonEncoder(), PoissonEncoder("m"), lambda x: PoissonEncoder().encode(x, 2)):
        with pytest.raises(TypeError, match=rf"^x must hold intensities .* got {dtype}$"):
            call(torch.ones(2, 3, dtype=dtype))


def test_what_is_no_tensor_is_refused_by_name():
    with pytest.raises(TypeError, match="^x must be a tensor, got list$"):
        PoissonEncoder()([0.5])


def test_a_sequence_without_dimensions_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^x must be \[T, B, \.\.\.\] in step mode 'm'"):
        PoissonEncoder("m")(torch.tensor(0.5))


def test_a_wrong_number_of_steps_is_refused_by_name():
    with pytest.raises(ValueError, match="^T must be >= 0, got -1$"):
        PoissonEncoder().encode(torch.rand(3), -1)
    with pytest.raises(TypeError, match="^T must be an integer, got float$"):
        PoissonEncoder().encode(torch.rand(3), 2.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_same_seed_gives_the_same_spikes_step_by_step_and_multi_step_on_a_gpu():
    x, encoder = intensities((128, 784)).cuda(), PoissonEncoder()
    by_step = seeded(lambda: torch.stack([encoder(x) for _ in range(9)]))
    assert torch.equal(by_step, seeded(lambda: encoder.encode(x, 9)))
