"""The memory that the CPU kernels keep for their next outputs."""

import os

import pytest
import torch

from snnkernels import functional, memory

SHAPE = (16, 8, 1024)
OUTPUT_BYTES = 4 * 16 * 8 * 1024


def infer(x):
    with torch.no_grad():
        return functional.lif(x, backend="native")[0]


@pytest.fixture(autouse=True)
def _empty_cache():
    memory.empty_cache()
    yield
    memory.empty_cache()


def test_a_freed_output_is_kept_and_handed_out_again():
    x = torch.rand(SHAPE)
    spikes = infer(x)
    address = spikes.data_ptr()
    assert memory.cached_bytes() == 0
    del spikes
    assert OUTPUT_BYTES <= memory.cached_bytes() < 2 * OUTPUT_BYTES
    assert infer(x).data_ptr() == address


def test_an_output_in_use_is_never_handed_out_again():
    x = torch.rand(SHAPE)
    kept = [infer(x + k) for k in range(3)]
    assert len({spikes.data_ptr() for spikes in kept}) == 3
    for k, spikes in enumerate(kept):
        assert torch.equal(spikes, functional.lif(x + k, backend="torch")[0])


def test_a_view_keeps_its_output_alive():
    x = torch.rand(SHAPE)
    view = infer(x)[3:5]
    expected = view.clone()
    infer(torch.zeros(SHAPE))
    assert memory.cached_bytes() < 2 * OUTPUT_BYTES
    assert torch.equal(view, expected)


def test_emptying_the_cache_gives_everything_back():
    infer(torch.rand(SHAPE))
    assert memory.cached_bytes() > 0
    memory.empty_cache()
    assert memory.cached_bytes() == 0


def test_the_limit_is_kept_and_the_longest_idle_goes_first():
    before = memory.limit_cache(int(1.5 * OUTPUT_BYTES))
    try:
        x = torch.rand(SHAPE)
        first, second = infer(x), infer(x)
        address = second.data_ptr()
        del first, second
        assert 0 < memory.cached_bytes() <= int(1.5 * OUTPUT_BYTES)
        assert infer(x).data_ptr() == address
    finally:
        assert memory.limit_cache(before) == int(1.5 * OUTPUT_BYTES)


def test_without_the_cache_nothing_is_kept_and_torch_allocates():
    with memory.without_cache():
        spikes = infer(torch.rand(SHAPE))
        assert spikes.untyped_storage().resizable()
        del spikes
        assert memory.cached_bytes() == 0


def test_overlapping_contexts_leave_the_cache_as_it_was():
    first, second = memory.without_cache(), memory.without_cache()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert infer(torch.rand(SHAPE)).untyped_storage().resizable()
    second.__exit__(None, None, None)
    infer(torch.rand(SHAPE))
    assert memory.cached_bytes() > 0


def test_sizes_that_no_longer_occur_do_not_pile_up():
    largest = 64
    for batch in range(8, largest + 1, 5):
        infer(torch.rand(16, batch, 1024))
    assert memory.cached_bytes() <= 1.25 * 4 * 16 * largest * 1024


def test_a_limit_beyond_64_bits_is_no_limit():
    before = memory.limit_cache(2**70)
    assert memory.limit_cache(before) == 2**63 - 1


def test_small_outputs_stay_with_torch():
    assert infer(torch.rand(4, 2, 8)).untyped_storage().resizable()


def test_outputs_from_the_cache_pickle_share_and_copy_like_any_tensor(tmp_path):
    spikes = infer(torch.rand(SHAPE))
    expected = spikes.clone()
    torch.save(spikes, tmp_path / "spikes.pt")
    assert torch.equal(torch.load(tmp_path / "spikes.pt"), expected)
    assert torch.equal(spikes.share_memory_(), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_can_use_the_cache():
    x = torch.rand(SHAPE)
    infer(x)
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        os._exit(0 if memory.cached_bytes() > 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("limit", "error", "message"),
    [
        (-1, ValueError, "limit must be >= 0 bytes, got -1"),
        (1.5, TypeError, "limit must be an integer number of bytes, got 1.5"),
        (True, TypeError, "limit must be an integer number of bytes, got True"),
    ],
)
def test_a_bad_limit_is_refused_by_name(limit, error, message):
    with pytest.raises(error, match=message):
        memory.limit_cache(limit)
