"""NVRTC compiles every kernel, without a GPU."""

import time

import pytest
import torch

from snnkernels import neuron
from snnkernels._backends import headers, kernels
from snnkernels._backends.nvrtc import host, programs, structs, toolkit
from snnkernels._backends.nvrtc.programs import Program
from snnkernels._build import BuildError, cache, specification

from ..cases import DTYPES

DIRECTIONS = ["forward", "backward"]
COMPILED = [
    cls
    for name, cls in vars(neuron).items()
    if name in neuron.__all__
    and not name.startswith("MultiStep")
    and cls.equations.step is not None
    and cls.equations.kernel is None
]


def compile_scan(nvrtc: toolkit.Nvrtc, *axes: object, arch: tuple[int, int] = (9, 0)) -> bytes:
    compiled = programs.compile_program(host.scan_program(*axes), nvrtc, arch)
    assert compiled.symbol.startswith("_ZN3snn4cuda")
    assert compiled.symbol.encode() in compiled.cubin
    return compiled.cubin


NEURONS = list(headers.neurons())
BUILT_IN = [
    pytest.param(name, dtype, (row + column) % 2 == 0, id=f"{name}-{dtype}")
    for row, name in enumerate(NEURONS)
    for column, dtype in enumerate(DTYPES)
]
"""Each neuron in each dtype; both resets of each neuron, and both in each dtype."""


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("name", "dtype", "hard_reset"), BUILT_IN)
def test_every_built_in_neuron_compiles(name, dtype, hard_reset, direction, nvrtc):
    for tables in [False, True] if direction == "backward" else [False]:
        width = structs.full_width(dtype.itemsize, tables)
        compile_scan(nvrtc, direction, name, hard_reset, dtype, width, tables)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", COMPILED, ids=lambda cls: cls.__name__)
def test_every_neuron_that_is_printed_compiles(cls, dtype, nvrtc):
    node = cls(*[4] * (cls is neuron.GLIFNode))  # the one that must know T
    equations = cls.equations
    fixed, params = equations.split({name: getattr(node, name) for name in equations.params})
    tables = tuple(n in equations.learnable for n in params)
    key = node.surrogate_function.key
    compiled = kernels.neuron_source(kernels.Request(equations.key, fixed, tables, key, True))
    host.add_compiled_neuron(compiled)
    sizes = len(equations.states), len(params)
    for direction in DIRECTIONS:
        width = structs.full_width(dtype.itemsize, direction == "backward" and any(tables))
        compile_scan(nvrtc, direction, compiled.name, False, dtype, width, True, sizes)


@pytest.mark.parametrize("capability", [(7, 5), (12, 1)], ids=["oldest", "newest"])
def test_old_and_new_gpus_have_code(capability, nvrtc):
    if 10 * capability[0] + capability[1] not in nvrtc.capabilities:
        pytest.skip(f"{nvrtc} does not know {capability}")
    for dtype in DTYPES:
        compile_scan(nvrtc, "backward", "LIF", True, dtype, 1, False, arch=capability)


@pytest.mark.parametrize(
    "kernel",
    [
        *(f"encode_kernel<{t}>" for t in ("unsigned char", "unsigned short", "snn::uint64")),
        *("pack_kernel<unsigned, 4>", "pack_kernel<unsigned, 1>", "pack_kernel<unsigned char, 16>"),
        *("unpack_kernel<unsigned>", "unpack_kernel<snn::uint64>"),
    ],
)
def test_the_kernels_on_spikes_compile(kernel, nvrtc):
    programs.compile_program(Program("spikes.cu", f"snn::cuda::{kernel}"), nvrtc, (9, 0))


def test_a_neuron_taken_for_one_with_other_states_does_not_compile(nvrtc):
    node = neuron.ALIFNode()
    key = node.surrogate_function.key
    options = (("decay_input", True), ("detach_reset", False))
    compiled = kernels.neuron_source(
        kernels.Request(node.equations.key, options, (False,) * 5, key, True)
    )
    host.add_compiled_neuron(compiled)
    axes = ("forward", compiled.name, False, torch.float32, 2, False)
    compile_scan(nvrtc, *axes, (2, 5))
    with pytest.raises(BuildError, match=r"(?s)could not compile.*not one number for each state"):
        compile_scan(nvrtc, *axes, (1, 5))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path))
    return tmp_path


LIF = ("forward", "LIF", True, torch.float32, 2, False)


def test_a_kernel_is_compiled_once_and_then_read(empty_cache, nvrtc, monkeypatch):
    program = host.scan_program(*LIF)
    start = time.perf_counter()
    first = programs.ensure(program, nvrtc, (9, 0))
    (entry,) = cache.entries()
    assert entry.manifest.device_type == "nvrtc"
    assert entry.manifest.target == "sm_90"
    assert entry.manifest.seconds <= time.perf_counter() - start
    monkeypatch.setattr(programs, "compile_program", None)
    assert programs.ensure(program, nvrtc, (9, 0)) == first


def test_a_truncated_kernel_is_compiled_anew(empty_cache, nvrtc):
    program = host.scan_program(*LIF)
    first = programs.ensure(program, nvrtc, (9, 0))
    (entry,) = cache.entries()
    entry.library.write_bytes(first.cubin[:100])
    again = programs.ensure(program, nvrtc, (9, 0))
    assert again.symbol == first.symbol
    assert entry.library.read_bytes() == again.cubin
    assert len(again.cubin) > 1000


def test_a_changed_header_another_gpu_and_another_compiler_are_compiled_anew(
    empty_cache, nvrtc, monkeypatch
):
    program = host.scan_program(*LIF)
    programs.ensure(program, nvrtc, (9, 0))
    programs.ensure(program, nvrtc, (8, 0))
    other = toolkit.Nvrtc((nvrtc.version[0], 99), nvrtc.capabilities)
    programs.ensure(program, other, (9, 0))
    headers = dict(programs.shared_headers(specification.csrc_dir()))
    headers["snnkernels/neurons.h"] += "// changed\n"
    monkeypatch.setattr(programs, "shared_headers", lambda csrc: headers)
    programs.ensure(program, nvrtc, (9, 0))
    assert len(cache.entries()) == 4


def test_an_unknown_gpu_is_refused_with_the_package_to_update(nvrtc):
    with pytest.raises(BuildError) as caught:
        compile_scan(nvrtc, *LIF, arch=(3, 5))
    text = str(caught.value)
    assert "can't compile for this GPU, of compute capability 3.5" in text
    assert "pip install --upgrade " in text and "nvidia-cuda-nvrtc" in text


def test_every_header_that_a_source_reaches_is_found_by_the_directives_own_words():
    headers = {**programs.shared_headers(specification.csrc_dir()), "neuron.h": ""}
    texts = [path.read_text() for path in (specification.csrc_dir() / "nvrtc").glob("*.cu")]
    seen = set()
    while texts:
        new = set(programs._INCLUDE.findall(texts.pop())) - seen
        seen |= new
        assert new <= headers.keys()
        texts += [headers[name] for name in new]
    assert "snnkernels/neurons.h" in seen and "cuda_bf16.h" in seen
