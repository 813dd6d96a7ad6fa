"""NVRTC compiles every kernel, without a GPU."""

import struct
import time
from dataclasses import replace
from importlib import import_module
from unittest.mock import Mock

import pytest
import torch

from snnkernels import _call, neuron, surrogate
from snnkernels._backends import headers
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


def compile_scan(nvrtc: toolkit.Nvrtc, program: Program, arch: tuple[int, int] = (9, 0)) -> bytes:
    compiled = programs.compile_program(program, nvrtc, arch)
    assert compiled.symbol.startswith("_ZN3snn4cuda")
    assert compiled.symbol.encode() in compiled.cubin
    return compiled.cubin


LIF = host.built_in_program("forward", "LIF", True, torch.float32, 4, False)
NOBITS = 8
"""ELF's kind of a section without content in the file."""

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
        width = structs.full_width(direction, dtype.itemsize, tables)
        compile_scan(
            nvrtc, host.built_in_program(direction, name, hard_reset, dtype, width, tables)
        )


def source_of(node: neuron.BaseNode) -> specification.NeuronSource:
    """What is compiled for a node as it stands; what it may learn has a value for each lane."""
    given = {name: getattr(node, name) for name in node.equations.params}
    learnt = [name for name in node.equations.learnable if given[name] is not None]
    given.update({name: torch.zeros(2) for name in learnt})
    x, function = torch.empty(1, 1, 2), node.surrogate_function
    return _call.specialized_source(_call.call_of(node.equations, x, (), given, function, "native"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("cls", COMPILED, ids=lambda cls: cls.__name__)
def test_every_neuron_that_is_printed_compiles(cls, dtype, nvrtc):
    compiled = source_of(cls(*[4] * (cls is neuron.GLIFNode)))  # the one that must know T
    for direction, plain in zip(DIRECTIONS, (True, False), strict=True):
        width = structs.full_width(direction, dtype.itemsize, compiled.tables != 0)
        element = host.ELEMENT_NUMBERS[dtype]
        compile_scan(nvrtc, programs.scan_program(compiled, direction, element, width, plain))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "node",
    [
        neuron.IFNode(v_reset=None),
        neuron.LIFNode(surrogate_function=surrogate.ATan()),
        neuron.LIFNode(tau=3.0, decay_input=False, v_reset=-1.0, detach_reset=True),
        neuron.ParametricLIFNode(),
        neuron.CubaLIFNode(surrogate_function=surrogate.Sigmoid(spiking=False)),
    ],
    ids=lambda node: type(node).__name__,
)
def test_every_neuron_of_the_library_compiles_for_one_configuration(node, dtype, nvrtc):
    compiled = source_of(node)
    assert compiled.neuron_type.startswith("WithOptions<") and "struct" not in compiled.header
    for direction in DIRECTIONS:
        element = host.ELEMENT_NUMBERS[dtype]
        width = structs.full_width(direction, dtype.itemsize, compiled.tables != 0)
        for plain in (True, False):
            compile_scan(nvrtc, programs.scan_program(compiled, direction, element, width, plain))


@pytest.mark.parametrize("capability", [(7, 5), (12, 1)], ids=["oldest", "newest"])
def test_old_and_new_gpus_have_code(capability, nvrtc):
    if 10 * capability[0] + capability[1] not in nvrtc.capabilities:
        pytest.skip(f"{nvrtc} does not know {capability}")
    for dtype in DTYPES:
        program = host.built_in_program("backward", "LIF", True, dtype, 1, False)
        compile_scan(nvrtc, program, capability)


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


def test_the_machine_code_is_a_whole_file(nvrtc):
    """ELF tells where its tables are, and each section where its content is."""
    code = compile_scan(nvrtc, LIF)
    programs_at, sections_at = struct.unpack_from("<QQ", code, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from("<4H", code, 54)
    ends = [programs_at + program_size * program_count, sections_at + section_size * section_count]
    for header in range(sections_at, ends[1], section_size):
        kind, (at, size) = code[header + 4], struct.unpack_from("<QQ", code, header + 24)
        ends.append(at if kind == NOBITS else at + size)
    assert code[:4] == b"\x7fELF" and program_count and section_count
    assert max(ends) <= len(code)


def test_a_compilers_log_is_told(nvrtc):
    with pytest.raises(toolkit.CompileError, match='(?s)^a.cu.*identifier "nothing" is undefined'):
        nvrtc.compile("__global__ void f() { nothing(); }", "a.cu", {}, [], "f")


CALLS = {
    **dict.fromkeys(("CreateProgram", "AddNameExpression", "CompileProgram"), "{}"),
    **dict.fromkeys(("GetCUBINSize", "GetCUBIN", "GetLoweredName", "DestroyProgram"), "{}"),
    **dict.fromkeys(("GetProgramLogSize", "GetProgramLog"), "{ nothing(); }"),
}
"""The calls that compile a kernel, and the body of one for which they are made."""


@pytest.mark.parametrize(("call", "body"), CALLS.items())
def test_no_call_of_nvrtc_fails_unseen(call, body, nvrtc, monkeypatch):
    bindings = import_module("cuda.bindings.nvrtc")
    error = bindings.nvrtcResult.NVRTC_ERROR_OUT_OF_MEMORY
    destroy = Mock(wraps=bindings.nvrtcDestroyProgram)
    monkeypatch.setattr(bindings, "nvrtcDestroyProgram", destroy)
    monkeypatch.setattr(bindings, f"nvrtc{call}", lambda *_: (error, None))
    with pytest.raises(toolkit.CompileError, match="^NVRTC_ERROR_OUT_OF_MEMORY$"):
        nvrtc.compile(f"__global__ void f() {body}", "a.cu", {}, [], "f")
    assert destroy.called == (call not in ("CreateProgram", "DestroyProgram"))


def test_a_neuron_taken_for_one_with_other_states_does_not_compile(nvrtc):
    compiled = replace(source_of(neuron.ALIFNode()), states=1)
    with pytest.raises(BuildError, match=r"(?s)could not compile.*not one number for each state"):
        compile_scan(nvrtc, programs.scan_program(compiled, "forward", 1, 2, True))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.ENVIRONMENT_VARIABLE, str(tmp_path))
    return tmp_path


def test_a_kernel_is_compiled_once_and_then_read(empty_cache, nvrtc, monkeypatch):
    start = time.perf_counter()
    first = programs.ensure(LIF, nvrtc, (9, 0))
    (entry,) = cache.entries()
    assert entry.manifest.device_type == "nvrtc"
    assert entry.manifest.target == "sm_90"
    assert entry.manifest.seconds <= time.perf_counter() - start
    monkeypatch.setattr(programs, "compile_program", None)
    assert programs.ensure(LIF, nvrtc, (9, 0)) == first


def test_a_truncated_kernel_is_compiled_anew(empty_cache, nvrtc):
    first = programs.ensure(LIF, nvrtc, (9, 0))
    (entry,) = cache.entries()
    entry.library.write_bytes(first.cubin[:100])
    again = programs.ensure(LIF, nvrtc, (9, 0))
    assert again.symbol == first.symbol
    assert entry.library.read_bytes() == again.cubin
    assert len(again.cubin) > 1000


def test_a_changed_header_another_gpu_and_another_compiler_are_compiled_anew(
    empty_cache, nvrtc, monkeypatch
):
    programs.ensure(LIF, nvrtc, (9, 0))
    programs.ensure(LIF, nvrtc, (8, 0))
    other = toolkit.Nvrtc((nvrtc.version[0], 99), nvrtc.capabilities)
    programs.ensure(LIF, other, (9, 0))
    headers = dict(programs.shared_headers(specification.csrc_dir()))
    headers["snnkernels/neurons.h"] += "// changed\n"
    monkeypatch.setattr(programs, "shared_headers", lambda csrc: headers)
    programs.ensure(LIF, nvrtc, (9, 0))
    assert len(cache.entries()) == 4


def test_an_unknown_gpu_is_refused_with_the_package_to_update(nvrtc):
    with pytest.raises(BuildError) as caught:
        compile_scan(nvrtc, LIF, (3, 5))
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
