"""The Poisson encoder: rates, reproducibility, shapes and errors."""

import copy
import pickle

import pytest
import torch

from snnkernels import encoding, functional, reference
from snnkernels.encoding import PoissonEncoder
from snnkernels.functional import poisson_encode

SHAPES = [(), (1,), (3, 7), (2, 3, 5, 4), (0, 4), (16, 33)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
BACKENDS = ["native", "torch"]

# Counter, key and the four words, from Random123's own tests.
KNOWN_ANSWERS = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


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


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_the_generator_gives_the_known_answers_of_philox(counter, key, expected):
    words = [[torch.tensor([int(w, 16)]) for w in text.split()] for text in (counter, key)]
    assert [f"{w.item():08x}" for w in reference.philox(*words)] == expected.split()


def numbers(steps, lanes, keys):
    """Philox in Python's own integers: u of every step and lane."""
    mask = 0xFFFFFFFF
    u = torch.empty(steps, lanes, dtype=torch.float64)
    for t in range(steps):
        for block in range((lanes + 3) // 4):
            a, b, c, d = block, 0, 0, 0
            k, m = keys[t] & mask, keys[t] >> 32 & mask
            for _ in range(10):
                p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
                a, b, c, d = q >> 32 ^ b ^ k, q & mask, p >> 32 ^ d ^ m, p & mask
                k, m = k + 0x9E3779B9 & mask, m + 0xBB67AE85 & mask
            for lane, word in zip(range(4 * block, lanes), (a, b, c, d), strict=False):
                u[t, lane] = (word >> 1) / 2**31
    return u


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_spikes_are_those_that_the_documents_define(backend):
    x, T = intensities((3, 7)), 5
    keys = seeded(lambda: torch.empty(T, dtype=torch.int64).random_()).tolist()
    spikes = seeded(lambda: poisson_encode(x, T, backend=backend))
    assert torch.equal(spikes.view(T, -1), (numbers(T, 21, keys) < x.view(1, -1)).float())


@pytest.mark.parametrize("spikes", [*DTYPES, torch.bool], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_both_backends_give_the_same_bits_at_every_size(dtype, spikes):
    for lanes in (0, 1, 3, 4, 15, 31, 33, 64, 129, 2047, 2049, 5000):
        x = intensities((lanes,), dtype) * 1.2 - 0.1
        native, torch_ = (
            seeded(lambda x=x, b=b: poisson_encode(x, 5, dtype=spikes, backend=b)) for b in BACKENDS
        )
        assert native.dtype == torch_.dtype == spikes
        assert torch.equal(native, torch_)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_threshold_is_exact_to_the_last_random_bit(dtype):
    lanes = 64
    u = numbers(1, lanes, seeded(lambda: torch.empty(1, dtype=torch.int64).random_()).tolist())[0]
    at = u.to(dtype)
    for x in (at, at.nextafter(torch.ones_like(at)), at.nextafter(torch.zeros_like(at))):
        for backend in BACKENDS:
            spikes = seeded(lambda x=x, b=backend: poisson_encode(x, 1, backend=b))
            assert torch.equal(spikes[0] == 1, u < x.double())


def test_the_encoder_gives_the_same_bits_on_any_number_of_threads():
    x = intensities((128, 784))
    known = torch.get_num_threads()
    drawn = []
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            drawn.append(seeded(lambda: poisson_encode(x, 20)))
    finally:
        torch.set_num_threads(known)
    assert all(torch.equal(drawn[0], spikes) for spikes in drawn[1:])


def test_a_generator_of_ones_own_is_drawn_from_and_moves_on():
    def generator():
        return torch.Generator().manual_seed(5)

    x, own = intensities((3, 7)), generator()
    first, second = (poisson_encode(x, 4, generator=own) for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(first, poisson_encode(x, 4, generator=generator()))
    assert torch.equal(torch.cat([first, second]), poisson_encode(x, 8, generator=generator()))


def test_the_keys_of_a_cuda_generator_are_the_same_drawn_singly_or_at_once():
    class Generator:
        """What a CUDA generator tells the host."""

        offset = 12

        def get_offset(self):
            return self.offset

        def set_offset(self, offset):
            assert offset % 4 == 0
            self.offset = offset

        def initial_seed(self):
            return self.seed

    def draw(counts, seed):
        generator = Generator()
        generator.seed = seed
        cpu = torch.device("cpu")
        return torch.cat([encoding.poisson._cuda_keys(count, cpu, generator) for count in counts])

    for seed in (0, 1, 2**64 - 1):
        assert torch.equal(draw([9], seed), draw([1] * 9, seed))
        assert torch.equal(draw([9], seed), draw([4, 0, 5], seed))
    assert not set(draw([1000], 0).tolist()) & set(draw([1000], 1).tolist())


def moments(p, T=2000, shape=(16, 33)):
    return seeded(lambda: poisson_encode(torch.full(shape, p), T)).double().view(T, -1)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
def test_counts_per_lane_follow_the_binomial_distribution(p):
    spikes = moments(p)
    T, lanes = spikes.shape
    counts = spikes.sum(0)
    variance = T * p * (1 - p)
    assert abs(counts.mean() - T * p) < 5 * (variance / lanes) ** 0.5
    assert abs(counts.var() / variance - 1) < 5 * (2 / lanes) ** 0.5


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_steps_and_neighbours_are_independent(p):
    spikes = moments(p)
    centred = (spikes - p) / (p * (1 - p)) ** 0.5
    pairs = {f"step {d}": (centred[d:], centred[:-d]) for d in (1, 2, 3, 4, 5)}
    pairs |= {f"lane {d}": (centred[:, d:], centred[:, :-d]) for d in (1, 2, 3, 4, 5, 8, 33)}
    for name, (a, b) in pairs.items():
        assert abs((a * b).mean()) < 5 / a.numel() ** 0.5, name


def test_the_patterns_of_four_lanes_pass_a_chi_square_test():
    spikes = moments(0.5).view(-1, 4)
    patterns = (spikes @ torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)).long()
    counts = patterns.bincount(minlength=16).double()
    expected = len(patterns) / 16
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert 3.5 < chi_square < 37.7  # 15 degrees of freedom, 0.1 % at either end


def test_streams_of_neighbouring_seeds_are_unrelated():
    x = torch.full((100, 100), 0.5)
    a, b = (seeded(lambda s=s: poisson_encode(x, 20), seed=s) * 2 - 1 for s in (1, 2))
    assert abs((a * b).mean()) < 5 / a.numel() ** 0.5


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
        spikes = seeded(lambda same=same: encoder.encode(same, 6))
        assert torch.equal(expected, spikes)
        assert spikes.stride() == (x.numel(), *same.stride())
    sequence = channels_last.expand(6, *x.shape).clone(memory_format=torch.preserve_format)
    spikes = seeded(lambda: PoissonEncoder("m")(sequence))
    assert torch.equal(expected, spikes)
    assert spikes.stride() == sequence.stride()


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
    with pytest.raises(ValueError, match=r"step_mode must be one of 's', 'm', got"):
        PoissonEncoder(mode)
    encoder = PoissonEncoder()
    with pytest.raises(ValueError, match=r"step_mode must be one of 's', 'm', got"):
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


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, "float32"], ids=str)
def test_a_dtype_that_spikes_cannot_have_is_refused_by_name(dtype):
    for call in (
        lambda: poisson_encode(torch.rand(3), 2, dtype=dtype),
        lambda: PoissonEncoder(dtype=dtype),
    ):
        with pytest.raises(TypeError, match="^dtype must be one of torch.float64, .* or None, got"):
            call()


def test_what_is_no_generator_is_refused_by_name():
    with pytest.raises(TypeError, match=r"^generator must be a torch.Generator, got 3 \(int\)$"):
        poisson_encode(torch.rand(3), 2, generator=3)


def test_an_encoder_keeps_its_dtype_and_backend_and_follows_set_backend():
    encoder = PoissonEncoder("m", dtype=torch.bool, backend="torch")
    assert encoder(torch.rand(4, 3)).dtype == torch.bool
    functional.set_backend(encoder, "native")
    assert encoder.backend == "native"
    with pytest.raises(ValueError, match="^backend must be one of"):
        PoissonEncoder(backend="cuda")


@pytest.mark.parametrize("spikes", [torch.float32, torch.bool], ids=str)
def test_opcheck_passes_for_the_operator(spikes):
    poisson_encode(torch.rand(3), 2, backend="native")
    keys = torch.empty(5, dtype=torch.int64).random_()
    for x in (torch.rand(5, 21), torch.rand(21).expand(5, 21), torch.rand(5, 21).requires_grad_()):
        torch.library.opcheck(torch.ops.snnkernels.poisson_encode.default, (x, keys, spikes))


def test_the_operator_refuses_keys_of_another_kind():
    poisson_encode(torch.rand(3), 2, backend="native")
    encode = torch.ops.snnkernels.poisson_encode
    with pytest.raises(RuntimeError, match="keys: expected int64"):
        encode(torch.rand(5, 3), torch.rand(5), torch.float32)
    with pytest.raises(RuntimeError, match=r"keys: expected \[5\]"):
        encode(torch.rand(5, 3), torch.empty(4, dtype=torch.int64), torch.float32)
    with pytest.raises(RuntimeError, match="dtype: expected float64"):
        encode(torch.rand(5, 3), torch.empty(5, dtype=torch.int64), torch.int32)


def test_a_compiled_encoder_has_no_graph_break_and_gives_the_same_spikes():
    x, encoder = intensities((6, 10)), PoissonEncoder()

    def call(x):
        return encoder.encode(x * 0.5, 7) + encoder(x)

    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True)
    assert torch.equal(seeded(lambda: compiled(x)), seeded(lambda: call(x)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_the_same_seed_gives_the_same_spikes_step_by_step_and_multi_step_on_a_gpu():
    x, encoder = intensities((128, 784)).cuda(), PoissonEncoder()
    by_step = seeded(lambda: torch.stack([encoder(x) for _ in range(9)]))
    assert torch.equal(by_step, seeded(lambda: encoder.encode(x, 9)))


@pytest.mark.gpu
@pytest.mark.parametrize("spikes", [*DTYPES, torch.bool], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_gpu_gives_the_bits_of_the_cpu_for_the_same_generator(dtype, spikes):
    for shape in [(), (3,), (33, 7), (128, 784), (2, 3, 5, 4)]:
        x = intensities(shape, dtype)
        expected, actual = (
            poisson_encode(p, 11, dtype=spikes, generator=torch.Generator().manual_seed(1))
            for p in (x, x.cuda())
        )
        assert torch.equal(actual.cpu(), expected)


@pytest.mark.gpu
def test_a_captured_graph_draws_new_spikes_at_each_replay():
    x = intensities((128, 784)).cuda()
    poisson_encode(x, 5)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        spikes = poisson_encode(x, 5)
    drawn = []
    for _ in range(2):
        graph.replay()
        drawn.append(spikes.clone())
    assert not torch.equal(*drawn)
    assert abs(drawn[0].mean() - x.mean()) < 0.01


@pytest.mark.gpu
def test_no_call_of_the_encoder_waits_for_the_gpu():
    x, encoder = intensities((128, 784)).cuda(), PoissonEncoder()
    encoder.encode(x, 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        encoder.encode(x, 5)
        encoder(x)
        poisson_encode(x, 5, generator=torch.Generator())
    finally:
        torch.cuda.set_sync_debug_mode("default")
