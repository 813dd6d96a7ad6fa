import subprocess
import sys

import pytest

from snnkernels._build import description
from snnkernels._build.archs import parse_archs
from snnkernels._build.description import cpu_library, cuda_library, sources_digest

from .conftest import REPOSITORY


def names(library):
    return sorted(unit.object_name for unit in library.units)


def test_a_jit_build_compiles_each_source_once_for_this_cpu(csrc):
    library = cpu_library(csrc, native_flags=["-march=native"], machine="x86_64")
    assert names(library) == ["kernels_twice.cpp.o", "ops.cpp.o"]
    assert all("-march=native" in unit.flags for unit in library.units)
    kernels = next(unit for unit in library.units if unit.source.name.startswith("kernels_"))
    assert "-DSNN_CPU_ISA=native" in kernels.flags


def test_a_build_ahead_compiles_the_kernels_once_per_instruction_set(csrc):
    library = cpu_library(csrc, native_flags=None, machine="x86_64")
    assert names(library) == [
        "kernels_twice.cpp.avx2.o",
        "kernels_twice.cpp.avx512.o",
        "kernels_twice.cpp.baseline.o",
        "ops.cpp.o",
    ]
    ops = next(unit for unit in library.units if unit.source.name == "ops.cpp")
    assert "-DSNN_CPU_DISPATCH" in ops.flags
    assert "-DSNN_CPU_HAS_AVX512" in ops.flags
    assert not any("-march=native" in unit.flags for unit in library.units)


def test_a_build_ahead_for_another_processor_has_a_baseline_only(csrc):
    library = cpu_library(csrc, native_flags=None, machine="aarch64")
    assert names(library) == ["kernels_twice.cpp.baseline.o", "ops.cpp.o"]


def test_no_unit_is_compiled_with_loose_arithmetic(csrc):
    libraries = [
        cpu_library(csrc, native_flags=None, machine="x86_64"),
        cpu_library(csrc, native_flags=["-march=native"], machine="x86_64"),
        cuda_library(csrc, archs=parse_archs("9.0")),
    ]
    for unit in (unit for library in libraries for unit in library.units):
        assert not {"-ffast-math", "-Ofast", "--use_fast_math", "-mfma"} & set(unit.flags)
        assert {"-ffp-contract=off", "-fmad=false"} & set(unit.flags)


def test_a_jit_build_has_one_set_of_flags(csrc):
    (csrc / "cpu" / "driver.cpp").touch()
    library = cpu_library(csrc, native_flags=["-march=native"], machine="x86_64")
    assert "-O3" in library.shared_flags(cuda=False)
    assert library.shared_flags(cuda=True) == ()


def test_a_build_ahead_has_several_and_says_so(csrc):
    library = cpu_library(csrc, native_flags=None, machine="x86_64")
    with pytest.raises(ValueError, match="expected one set of flags, got 4"):
        library.shared_flags(cuda=False)


def test_the_avx2_level_assumes_no_more_than_the_dispatch_tests(csrc):
    library = cpu_library(csrc, native_flags=None, machine="x86_64")
    flags = {flag for unit in library.units if unit.variant == "avx2" for flag in unit.flags}
    assert {flag for flag in flags if flag.startswith("-m")} == {"-mavx2"}


def test_warnings_are_errors_on_request(csrc):
    host = cpu_library(csrc, native_flags=[], machine="x86_64", werror=True)
    device = cuda_library(csrc, archs=parse_archs("9.0"), werror=True)
    assert all("-Werror" in unit.flags for unit in host.units)
    assert all("-Werror=all-warnings" in unit.flags for unit in device.units)


def test_a_cuda_library_needs_an_architecture(csrc):
    with pytest.raises(ValueError, match="^archs: expected at least one"):
        cuda_library(csrc, archs=())


@pytest.mark.parametrize("name", ["include/twice.h", "ops.cpp", "cpu/kernels_twice.cpp"])
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
    assert description.csrc_dir() == csrc
    own = description.PACKAGE_DIR / "csrc"
    own.mkdir(parents=True)
    (own / "ops.cpp").touch()
    assert description.csrc_dir() == own


def test_the_description_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.path.insert(0, 'snnkernels')\n"
        "import _build.description as d\n"
        "print(len(d.cpu_library(d.csrc_dir(), native_flags=None, machine='x86_64').units))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1
