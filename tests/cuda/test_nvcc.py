"""What nvcc makes of the kernels, without a GPU: no warnings, spills or contracted arithmetic."""

import os
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

from benchmarks.machine_code import disassembler
from snnkernels import neuron, surrogate
from snnkernels._backends import kernels
from snnkernels._build import BuildError, cache, loader, specification
from snnkernels._build.archs import parse_archs
from snnkernels._build.build_file import write_build_file
from snnkernels._build.plan import Plan, plan_build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc on PATH"),
]
CSRC = specification.csrc_dir()
FLOAT32 = str(CSRC / "cuda" / "kernels_float32.cu")
EXACT = re.compile(r"ChargeFireReset<snn::(?:IF|LIF|ParametricLIF|CubaLIF)Charge,.*float")


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def nvcc(spec: specification.Specification, *command: str) -> str:
    """Call nvcc with the flags of a library."""
    return call("nvcc", *spec.cuda_flags, *(f"-I{path}" for path in spec.include_dirs), *command)


def demangled(text: str) -> str:
    return subprocess.run(
        ["c++filt"], input=text, capture_output=True, text=True, timeout=600
    ).stdout


@pytest.fixture(scope="session")
def archs() -> tuple[str, ...]:
    """The oldest and the newest architecture that this nvcc knows, and one that is common."""
    known = re.findall(r"compute_(\d+)", call("nvcc", "--list-gpu-arch"))
    numbers = sorted(map(int, known))
    return str(numbers[0]), "90", str(numbers[-1])


def plan_of(*archs: str) -> Plan:
    try:
        return plan_build("cuda", archs=parse_archs(";".join(archs)))
    except BuildError as error:
        missing = pytest.fail if torch.version.cuda and os.environ.get("CI") else pytest.skip
        missing(f"needs a torch with CUDA and its nvcc: {str(error).splitlines()[0]}")


@pytest.fixture(scope="session")
def library(archs: tuple[str, ...]) -> cache.Entry:
    """The whole library, compiled with warnings as errors; it may be in the cache already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SNNKERNELS_WERROR", "1")
        return loader.ensure(plan_of(*archs))[0]


@pytest.fixture(scope="session")
def compiled(library: cache.Entry) -> dict[str, str]:
    """By the name of each CUDA source, what ptxas says of its kernels."""
    parts = re.split(r"^\[\d+/\d+ [\d.]+\] (.*)\n", library.log.read_text(), flags=re.MULTILINE)
    named = [(re.search(r"/(\w+)\.cu\b", command), said) for command, said in pairs(parts)]
    return {name[1]: demangled(said) for name, said in named if name}


def pairs(parts: list[str]) -> list[tuple[str, str]]:
    """What matched and what followed it, of a text that is split by a pattern."""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def kernel_reports(text: str) -> list[tuple[str, str, str]]:
    """Of each kernel: name, architecture, report."""
    parts = re.split(r"Compiling entry function '(.*)' for '(sm_\w+)'", text)
    return list(zip(parts[1::3], parts[2::3], parts[3::3], strict=True))


def test_what_sees_torch_compiles_with_the_headers_of_the_one_here(tmp_path):
    seen = [path.name for path in (CSRC / "cuda").iterdir() if "<torch/" in path.read_text()]
    assert seen == ["driver.cpp"]
    planned = plan_of("90")
    write_build_file(planned.spec, planned.tools, tmp_path, jobs=1)
    call("ninja", "-C", str(tmp_path), "driver.o")


def test_every_unit_compiles_without_warnings_for_old_and_new_gpus(compiled, archs):
    assert len(compiled) == len(list((CSRC / "cuda").glob("*.cu")))
    for name, text in compiled.items():
        assert "warning" not in text, name
        assert {arch for _, arch, _ in kernel_reports(text)} == {f"sm_{a}" for a in archs}


def test_no_float32_kernel_spills_registers(compiled, archs):
    reports = kernel_reports(compiled["kernels_float32"])
    assert len(reports) == len(archs) * 26
    for kernel, arch, report in reports:
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
        assert spilled and not any(spilled), f"{kernel} for {arch}: {report}"


def test_no_kernel_on_spikes_spills_registers(compiled, archs):
    reports = kernel_reports(compiled["kernels_spikes"])
    assert len(reports) == len(archs) * (4 + 2 * 4 + 4)
    for kernel, arch, report in reports:
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
        assert spilled and not any(spilled), f"{kernel} for {arch}: {report}"


def functions(listing: str, pattern: str) -> list[tuple[str, str]]:
    """Name and body of each function of a listing whose functions begin as in the pattern."""
    found = pairs(re.split(pattern, demangled(listing)))
    return [(name, body) for name, body in found if EXACT.search(name)]


def test_forward_steps_reach_ptxas_without_fused_multiply_adds(archs, tmp_path):
    ptx = tmp_path / "kernels.ptx"
    spec = specification.cuda_library(CSRC, archs=parse_archs(archs[0]))
    flags = tuple(flag for flag in spec.cuda_flags if not flag.startswith("-gencode"))
    target = f"-arch=compute_{archs[0]}"
    nvcc(replace(spec, cuda_flags=flags), target, "-ptx", FLOAT32, "-o", str(ptx))
    found = functions(ptx.read_text(), r"\.entry (.*)\(")
    forward = [(name, body) for name, body in found if "forward_kernel<" in name]
    assert len(forward) == 8
    for name, body in forward:
        assert not re.search(r"\bfma\.", body), name
        assert "add.f32" in body or "add.rn.f32" in body, name


@pytest.mark.skipif(disassembler() is None, reason="needs cuobjdump")
def test_forward_kernels_that_do_not_divide_have_no_fused_multiply_adds(library, archs):
    """A correctly rounded division is made of them, so the LIF's own kernels are left out."""
    listing = call(str(disassembler()), "-sass", "-arch", f"sm_{archs[0]}", str(library.library))
    found = functions(listing, r"Function : (.*)\n")
    forward = [f for f in found if "forward_kernel<" in f[0] and "<snn::LIFCharge," not in f[0]]
    assert len(forward) == 6 * len(("float32", "float16", "bfloat16"))
    for name, body in forward:
        assert "FADD" in body, name
        assert not re.search(r"\b[FD]FMA\b", body), name


@pytest.fixture(scope="session")
def compiled_report(archs: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> str:
    """What ptxas says of a compiled neuron with a custom surrogate, warnings as errors."""
    folder = tmp_path_factory.mktemp("neuron")
    node = neuron.ALIFNode(surrogate_function=surrogate.custom(lambda x, a: a / (a + x * x), a=2.0))
    forms = ("number", "number", "table", "number", "shared table")
    options = (("decay_input", True), ("detach_reset", False))
    key = node.surrogate_function.key
    compiled = kernels.neuron_source(
        kernels.Request(node.equations.key, options, forms, key, True, True)
    )
    whole = specification.cuda_library(CSRC, archs=parse_archs(archs[-1]), werror=True)
    spec = specification.compiled_neuron(whole, compiled).written_into(folder)
    return nvcc(spec, "-c", str(spec.sources[0]), "-o", str(folder / "neuron.o"))


def test_a_compiled_neurons_kernels_compile_without_warnings_or_spills(compiled_report):
    reports = kernel_reports(demangled(compiled_report))
    assert len(reports) == 2 * (2 * 8 - 1)  # two widths each, but one in float64 backward
    for kernel, arch, report in reports:
        spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
        assert spilled and not any(spilled), f"{kernel} for {arch}: {report}"
