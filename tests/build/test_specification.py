import subprocess
import sys

import pytest

from snnkernels._build import specification
from snnkernels._build.archs import parse_archs
from snnkernels._build.specification import (
    compiled_neuron,
    cpu_library,
    cuda_library,
    instruction_sets,
    sources_digest,
)

from .conftest import REPOSITORY, TOY


def test_all_sources_of_the_cpus_folder_have_the_instruction_set_that_is_asked_for(csrc):
    (csrc / "cpu" / "another.cpp").touch()
    spec = cpu_library(csrc, target=["-march=native"])
    assert {spec.title(source) for source in spec.sources} == {
        "ops.cpp",
        "cpu/another.cpp",
        "cpu/twice.cpp",
    }
    assert spec.cxx_flags[-1] == "-march=native"
    assert not spec.cuda_flags


def test_a_wheel_for_x86_has_three_instruction_sets_the_widest_first():
    assert list(instruction_sets("x86_64")) == ["avx512", "avx2", "baseline"]
    assert instruction_sets("AMD64") == instruction_sets("x86_64")


def test_a_wheel_for_another_processor_has_a_baseline_only():
    assert instruction_sets("aarch64") == {"baseline": ()}


def test_nothing_is_compiled_with_loose_arithmetic(csrc):
    specs = [cpu_library(csrc, target=flags) for flags in instruction_sets("x86_64").values()]
    specs.append(cuda_library(csrc, archs=parse_archs("9.0")))
    for spec in specs:
        flags = {*spec.cxx_flags, *spec.cuda_flags}
        assert not {"-ffast-math", "-Ofast", "--use_fast_math", "-mfma"} & flags
        assert "-ffp-contract=off" in spec.cxx_flags
        assert not spec.cuda_flags or "-fmad=false" in spec.cuda_flags


def test_the_avx2_library_assumes_no_more_than_what_chooses_it():
    assert instruction_sets("x86_64")["avx2"] == ("-mavx2",)


def test_a_compiled_neuron_has_the_flags_of_the_library(csrc, tmp_path):
    for whole in (
        cpu_library(csrc, target=["-march=native"], werror=True),
        cuda_library(csrc, archs=parse_archs("9.0"), werror=True),
    ):
        spec = compiled_neuron(whole, TOY)
        assert set(spec.cxx_flags) >= set(whole.cxx_flags)
        assert spec.cuda_flags == whole.cuda_flags
        placed = spec.written_into(tmp_path)
        assert all(source.is_absolute() for source in placed.sources)
        assert "SNN_COMPILED_NEURON(" in placed.sources[0].read_text()


def test_warnings_are_errors_on_request(csrc):
    host = cpu_library(csrc, target=[], werror=True)
    device = cuda_library(csrc, archs=parse_archs("9.0"), werror=True)
    assert "-Werror" in host.cxx_flags
    assert "-Werror" in device.cxx_flags
    assert "-Werror=all-warnings" in device.cuda_flags


def test_a_cuda_library_needs_an_architecture(csrc):
    with pytest.raises(ValueError, match="^archs: expected at least one"):
        cuda_library(csrc, archs=())


@pytest.mark.parametrize("name", ["include/twice.h", "ops.cpp", "cpu/twice.cpp"])
def test_the_digest_changes_with_any_file_of_the_library(csrc, name):
    before = sources_digest(csrc, "cpu")
    path = csrc / name
    path.write_text(path.read_text() + "\n")
    assert sources_digest(csrc, "cpu") != before


def test_the_digest_ignores_another_devices_sources(csrc):
    before = sources_digest(csrc, "cpu")
    (csrc / "cuda" / "twice.cu").write_text("")
    assert sources_digest(csrc, "cpu") == before


def test_an_installed_package_uses_its_own_sources(csrc):
    assert specification.csrc_dir() == csrc
    own = specification.PACKAGE_DIR / "csrc"
    own.mkdir(parents=True)
    (own / "ops.cpp").touch()
    assert specification.csrc_dir() == own


def test_a_specification_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.path.insert(0, 'snnkernels')\n"
        "import _build.specification as s\n"
        "print(len(s.cpu_library(s.csrc_dir(), target=[]).sources))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
