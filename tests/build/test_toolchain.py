import shutil
import sys

import pytest
import torch

from snnkernels.__main__ import main
from snnkernels._backends import selection
from snnkernels._build import toolchain
from snnkernels._build.errors import BuildError

from .conftest import assert_ended, write_program


@pytest.fixture(autouse=True)
def _fresh_probes(csrc):
    toolchain._query_cxx.cache_clear()
    toolchain._probe_nvcc.cache_clear()
    toolchain._why_not_ninja.cache_clear()


def fake_nvcc(path, version="13.0", root=None, archs=("75", "90", "121")):
    root = root or path.parent.parent
    (root / "include").mkdir(parents=True, exist_ok=True)
    (root / "include" / "cuda_runtime.h").touch()
    (root / "lib64").mkdir(exist_ok=True)
    (root / "lib64" / "libcudart.so").touch()
    listing = "\\n".join(f"compute_{arch}" for arch in archs)
    return write_program(
        path,
        f"""
        case "$*" in
          --version) echo "Cuda compilation tools, release {version}, V{version}.88";;
          --dryrun*) echo '#$ TOP={root}/bin/..' >&2; exit 1;;
          --list-gpu-arch) printf '{listing}\\n';;
        esac
        """,
    )


@pytest.fixture
def only_path(tmp_path, monkeypatch):
    """An empty folder as the whole PATH, and no toolkit anywhere else."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(toolchain, "_pip_files", lambda pattern: [])
    monkeypatch.setattr(toolchain, "DEFAULT_CUDA", str(tmp_path / "none"))
    return folder


def test_the_compiler_says_its_version_its_target_and_the_flags_for_this_cpu():
    cxx = toolchain.find_cxx()
    assert cxx.version.startswith(("g++ ", "clang "))
    assert len(cxx.target) == 64
    assert cxx.native_flags in (("-march=native",), ("-mcpu=native",), ())


def test_without_a_compiler_the_error_says_where_it_looked_and_what_to_install(only_path):
    with pytest.raises(BuildError) as caught:
        toolchain.find_cxx()
    message = str(caught.value)
    for name in ("c++", "g++", "clang++"):
        assert f"{name} on PATH: '{name}' is not there" in message
    assert "expected:   a C++17 compiler" in message
    assert "apt-get install g++" in message
    assert "meanwhile:  the plain-PyTorch reference is used" in message


def test_cxx_is_the_only_compiler_looked_at_when_it_is_set(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match=r"\$CXX: 'no-such-compiler' is not there"):
        toolchain.find_cxx()


def test_cxx_may_hold_a_launcher_and_flags(monkeypatch):
    monkeypatch.setenv("CXX", "env c++ -g0")
    cxx = toolchain.find_cxx()
    assert cxx.command == (shutil.which("env"), "c++", "-g0")
    assert cxx.program == "c++"


def test_a_compiler_that_fails_is_passed_over_and_the_next_one_is_used(only_path):
    real = "/usr/bin/c++"
    write_program(only_path / "c++", "echo broken >&2; exit 1")
    write_program(only_path / "g++", f'exec {real} "$@"')
    assert toolchain.find_cxx().origin == "g++ on PATH"
    assert "broken" in toolchain.cxx_probes()[0].problem


def test_a_compiler_without_cxx17_is_passed_over(only_path):
    write_program(only_path / "c++", "echo '#define __cplusplus 199711L'")
    assert toolchain.cxx_probes()[0].problem == "does not know C++17"


def test_other_target_flags_give_another_target(monkeypatch):
    plain = toolchain.find_cxx().target
    monkeypatch.setenv("CXX", "c++ -D__ANOTHER_TARGET__")
    assert toolchain.find_cxx().target != plain


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("'", "\"'\" can't be read: No closing quotation"),
        ('g++ "-O2', "'g++ \"-O2' can't be read: No closing quotation"),
        ('""', "'' is not there"),
        ("-O2 -g", "'-O2' is not there"),
        ("/", "'/' is not there"),
    ],
)
def test_a_cxx_that_names_no_compiler_is_quoted_in_the_error(text, problem, monkeypatch, capsys):
    monkeypatch.setenv("CXX", text)
    with pytest.raises(BuildError) as caught:
        toolchain.find_cxx()
    assert f"found:      $CXX: {problem}\n" in str(caught.value)
    assert "to mend it: unset CXX, or set it to a compiler that is there" in str(caught.value)
    assert selection.resolve("auto", "cpu") == selection.Choice("torch", str(caught.value))
    assert main(["info"]) == 0


def test_a_compiler_that_gives_no_answer_is_stopped_with_all_that_it_started(tmp_path, monkeypatch):
    started = tmp_path / "started"
    program = write_program(tmp_path / "c++", f"sleep 60 & echo $! >{started}; wait")
    monkeypatch.setattr(toolchain, "_QUERY_SECONDS", 1.0)
    monkeypatch.setenv("CXX", str(program))
    with pytest.raises(BuildError, match=r"\$CXX: .* gave no answer within 1 s, and was stopped"):
        toolchain.find_cxx()
    assert_ended(started)


CHANGING = [
    "-ffast-math",
    "-Ofast",
    "-funsafe-math-optimizations",
    "-ffinite-math-only",
    "-fno-signed-zeros",
    "-freciprocal-math",
    "-fassociative-math",
    "-ffp-contract=fast",
    "-ffp-contract=on",
    "-ffp-model=fast",
    "-fp-model=fast",
    "-fno-honor-nans",
    "-fapprox-func",
    "-fdenormal-fp-math=preserve-sign",
    "-fsingle-precision-constant",
    "-mfpmath=387",
    "-mdaz-ftz",
]


@pytest.mark.parametrize("flag", CHANGING)
def test_a_flag_that_changes_arithmetic_is_refused_by_name(flag, monkeypatch):
    monkeypatch.setenv("CXX", f"env c++ -g0 {flag} -O2")
    with pytest.raises(BuildError) as caught:
        toolchain.find_cxx()
    assert f"found:      $CXX: {flag} changes what is computed: leave it out\n" in str(caught.value)
    assert selection.resolve("auto", "cpu") == selection.Choice("torch", str(caught.value))


def test_flags_that_change_no_arithmetic_are_taken(monkeypatch):
    flags = "-O2 -ffp-contract=off -fno-fast-math -fsigned-zeros -DX=-Ofast-not -I/opt/x-Ofast/bin"
    monkeypatch.setenv("CXX", f"c++ {flags}")
    assert toolchain.find_cxx().command[1:] == tuple(flags.split())


@pytest.mark.parametrize(
    ("flag", "macro"),
    [
        ("-ffast-math", "__FAST_MATH__"),
        ("-ffinite-math-only", "__FINITE_MATH_ONLY__"),
        ("@{folder}/flags", "__FAST_MATH__"),
    ],
    ids=["fast", "finite", "file"],
)
def test_a_wrapper_that_adds_such_a_flag_is_told_by_its_macros(flag, macro, tmp_path, monkeypatch):
    (tmp_path / "flags").write_text("-ffast-math\n")
    script = f'exec c++ "$@" {flag.format(folder=tmp_path)}'
    monkeypatch.setenv("CXX", str(write_program(tmp_path / "c++", script)))
    with pytest.raises(BuildError, match=f"other rules than IEEE 754's: it defines {macro}"):
        toolchain.find_cxx()


@pytest.mark.parametrize("variable", ["NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS"])
@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("--use_fast_math", "--use_fast_math"),
        ("-G -use_fast_math", "-use_fast_math"),
        ("-fmad=true", "-fmad=true"),
        ("--fmad true", "--fmad true"),
        ("-ftz=true -lineinfo", "-ftz=true"),
        ("--prec-div=false", "--prec-div=false"),
        ("-prec-sqrt=false", "-prec-sqrt=false"),
        ("-Xcompiler -Ofast", "-Ofast"),
        ("-Xcompiler=-fPIC,-ffast-math", "-ffast-math"),
        ("--compiler-options '-O2 -ffinite-math-only'", "-ffinite-math-only"),
    ],
)
def test_a_flag_that_the_environment_gives_to_nvcc_is_refused_by_name(
    only_path, monkeypatch, variable, text, flag
):
    path = fake_nvcc(only_path / "nvcc")
    monkeypatch.setenv(variable, text)
    with pytest.raises(BuildError) as caught:
        toolchain.find_nvcc("13.0")
    assert f"{path} (PATH): {flag} changes what is computed: leave it out\n" in str(caught.value)
    assert f"or take such flags out of {variable}\n" in str(caught.value)


@pytest.mark.parametrize("text", ["-lineinfo", "-fmad=false --ftz=false -prec-div=true", "-O3"])
def test_a_harmless_one_is_taken_and_known(only_path, monkeypatch, text):
    fake_nvcc(only_path / "nvcc")
    monkeypatch.setenv("NVCC_APPEND_FLAGS", text)
    assert toolchain.find_nvcc("13.0").flags == f"NVCC_APPEND_FLAGS={text}"


def test_what_a_configuration_adds_is_told_by_nvccs_dry_run(only_path):
    path = fake_nvcc(only_path / "nvcc")
    plain = "-ftz=0 -prec_div=1 -prec_sqrt=1 -fmad=0"
    script = path.read_text()
    path.write_text(script.replace("exit 1;;", f"echo '#$ cicc -m64 {plain}' >&2; exit 1;;"))
    assert toolchain.find_nvcc("13.0")
    toolchain._probe_nvcc.cache_clear()
    loose = plain.replace("prec_div=1", "prec_div=0")
    path.write_text(script.replace("exit 1;;", f"echo '#$ cicc -m64 {loose}' >&2; exit 1;;"))
    with pytest.raises(BuildError, match="-prec_div=0 changes what is computed"):
        toolchain.find_nvcc("13.0")


def test_without_nvcc_the_error_says_where_it_looked(only_path):
    with pytest.raises(BuildError) as caught:
        toolchain.find_nvcc("13.0")
    message = str(caught.value)
    assert "found:      no nvcc" in message
    assert "expected:   nvcc 13.x, because torch was built for CUDA 13.0" in message
    assert "pip install 'cuda-toolkit[nvcc,crt,nvvm,cccl]==13.0.*', or set CUDA_HOME" in message


def test_an_nvcc_of_another_major_version_than_torchs_is_refused(only_path):
    path = fake_nvcc(only_path / "nvcc", version="12.8")
    with pytest.raises(BuildError) as caught:
        toolchain.find_nvcc("13.0")
    assert f"{path} (PATH): is 12.8, torch was built for CUDA 13.0" in str(caught.value)


def test_an_nvcc_of_another_minor_version_will_do(only_path):
    fake_nvcc(only_path / "nvcc", version="13.2")
    assert toolchain.find_nvcc("13.0").version == "13.2"


def test_cuda_home_is_the_only_place_looked_at_when_it_is_set(only_path, tmp_path, monkeypatch):
    fake_nvcc(only_path / "nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "empty"))
    with pytest.raises(BuildError, match=r"empty/bin/nvcc \(\$CUDA_HOME\): is not there"):
        toolchain.find_nvcc("13.0")


def test_a_wrapper_on_path_is_followed_to_the_real_toolkit(only_path, tmp_path):
    fake_nvcc(tmp_path / "cuda" / "bin" / "nvcc")
    write_program(only_path / "nvcc", f'exec {tmp_path}/cuda/bin/nvcc "$@"')
    nvcc = toolchain.find_nvcc("13.0")
    assert nvcc.root == tmp_path / "cuda"
    assert nvcc.include_dirs == (tmp_path / "cuda" / "include",)
    assert nvcc.cudart == tmp_path / "cuda" / "lib64" / "libcudart.so"
    assert nvcc.archs == ("75", "90", "121")


def test_a_fitting_toolkit_behind_an_unfitting_one_is_found(only_path, tmp_path, monkeypatch):
    fake_nvcc(only_path / "nvcc", version="12.8", root=tmp_path / "old")
    fake_nvcc(tmp_path / "new" / "bin" / "nvcc")
    monkeypatch.setattr(toolchain, "DEFAULT_CUDA", str(tmp_path / "new"))
    assert toolchain.find_nvcc("13.0").root == tmp_path / "new"


def test_a_toolkit_without_headers_is_refused(only_path):
    fake_nvcc(only_path / "nvcc")
    (only_path.parent / "include" / "cuda_runtime.h").unlink()
    with pytest.raises(BuildError, match=r"no cuda_runtime\.h"):
        toolchain.find_nvcc("13.0")


def test_a_torch_without_cuda_is_told_apart_from_a_missing_toolkit():
    with pytest.raises(BuildError, match="this torch has no CUDA"):
        toolchain.find_nvcc(None)


def test_a_torch_below_the_floor_is_refused(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.10.1+cu128")
    with pytest.raises(
        BuildError, match=r"(?s)too old.*torch 2\.10\.1\+cu128.*torch 2\.11 or newer"
    ):
        toolchain.torch_info()


def test_a_missing_torch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BuildError, match="needs torch at build time"):
        toolchain.torch_info()


@pytest.mark.parametrize(
    ("machine", "capability", "expected"),
    [
        ("x86_64", "AVX512", ["avx512", "avx2", "baseline"]),
        ("x86_64", "AVX2", ["avx2", "baseline"]),
        ("x86_64", "DEFAULT", ["baseline"]),
        ("x86_64", "of a later PyTorch", ["baseline"]),
        ("aarch64", "SVE256", ["baseline"]),
    ],
)
def test_the_instruction_sets_are_those_that_pytorch_finds(
    machine, capability, expected, monkeypatch
):
    monkeypatch.setattr(toolchain.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert list(toolchain.cpu_instruction_sets()) == expected
