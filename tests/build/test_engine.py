"""How kernels are built: by torch.utils.cpp_extension, told all it would look up, and by ninja."""

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from snnkernels._backends import selection
from snnkernels._build import build_file, loader, process, toolchain
from snnkernels._build.ahead import build_ahead
from snnkernels._build.archs import parse_archs
from snnkernels._build.errors import BuildError
from snnkernels._build.plan import plan_build
from snnkernels._build.specification import cuda_library, instruction_sets
from snnkernels._build.toolchain import Nvcc, Toolchain, find_cxx, find_ninja, torch_info

from .conftest import TOY, assert_ended, runs, write_program


@pytest.fixture
def calls(monkeypatch):
    """Record the arguments of each `cpp_extension.load`."""
    recorded = []
    load = cpp_extension.load

    def spy(**arguments):
        recorded.append(arguments)
        return load(**arguments)

    monkeypatch.setattr(cpp_extension, "load", spy)
    return recorded


def ensure_cpu(**options):
    return loader.ensure(plan_build("cpu"), **options)


def test_the_kernels_are_compiled_by_cpp_extension_in_a_fresh_folder_of_the_cache(
    csrc, tmp_path, calls
):
    ensure_cpu()
    ensure_cpu(force=True)
    folders = [Path(arguments["build_directory"]) for arguments in calls]
    assert len(set(folders)) == 2
    assert all(folder.is_relative_to(tmp_path / "cache") for folder in folders)
    assert not any(folder.exists() for folder in folders)
    arguments = calls[0]
    assert arguments["is_python_module"] is False
    assert arguments["with_cuda"] is False
    assert "-O3" in arguments["extra_cflags"]


def test_a_build_loads_nothing_and_needs_no_libtorch_python(csrc, tmp_path):
    entry, _ = ensure_cpu()
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()
    log = entry.log.read_text()
    assert "-ltorch_cpu" in log
    assert "torch_python" not in log
    loader.check_loads(entry, "cpu")
    assert str(entry.library) in Path("/proc/self/maps").read_text()


def test_a_failed_build_too_leaves_the_environment_and_cuda_home_alone(csrc, monkeypatch):
    monkeypatch.setenv("CC", "some-cc")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", "/before")
    (csrc / "ops.cpp").write_text("broken\n")
    before = dict(os.environ)
    with pytest.raises(BuildError, match=r"^compiling ops\.cpp failed"):
        ensure_cpu()
    assert dict(os.environ) == before
    assert cpp_extension.CUDA_HOME == "/before"


@pytest.mark.parametrize("name", ["cache with spaces", "$HOME", "it's"])
def test_odd_names_of_the_cache_and_the_compiler_do_no_harm(csrc, tmp_path, name, monkeypatch):
    program = write_program(tmp_path / name / "c++", 'exec c++ "$@"')
    monkeypatch.setenv("SNNKERNELS_CACHE_DIR", str(tmp_path / name / "cache"))
    monkeypatch.setattr(toolchain.shlex, "split", lambda text: [text])
    monkeypatch.setenv("CXX", str(program))
    assert loader.load("cpu").origin == "jit"


def test_a_compiler_with_a_launcher_and_flags_is_called_with_them(csrc, monkeypatch):
    (csrc / "ops.cpp").write_text("int f() { return NUMBER; }\n")
    monkeypatch.setenv("CXX", "env c++ -DNUMBER=4")
    assert loader.load("cpu").origin == "jit"


def test_flags_that_make_reads_reach_no_compiler(csrc, monkeypatch):
    for name in ("CXXFLAGS", "CFLAGS", "CPPFLAGS", "LDFLAGS"):
        monkeypatch.setenv(name, "-ffast-math")
    entry, _ = ensure_cpu()
    assert "-ffast-math" not in entry.log.read_text()


def test_a_neuron_and_a_wheel_are_built_by_the_same(toy, calls, tmp_path):
    loader.compiled_neuron_path("cpu", toy)
    build_ahead(["cpu"], tmp_path / "wheel")
    assert len(calls) == 1 + len(instruction_sets(platform.machine()))


def test_a_library_is_told_of_no_folder_of_this_machine(csrc, tmp_path):
    for path in build_ahead(["cpu"], tmp_path / "wheel"):
        dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True).stdout
        assert "Dynamic section" in dynamic
        assert "PATH)" not in dynamic


def test_commands_that_run_meanwhile_find_the_real_ninja(csrc, monkeypatch):
    versions = []
    load = cpp_extension.load

    def spy(**arguments):
        versions.append(subprocess.run(["ninja", "--version"], capture_output=True, text=True))
        return load(**arguments)

    monkeypatch.setattr(cpp_extension, "load", spy)
    ensure_cpu()
    assert re.match(r"\d+\.\d+", versions[0].stdout)


def test_builds_in_several_threads_do_not_wait_for_each_others_compilers(
    toy, tmp_path, monkeypatch
):
    barrier = tmp_path / "compiling"
    program = write_program(
        tmp_path / "c++",
        f"""
        case "$*" in *neuron.cpp*)
            echo >>{barrier}
            until [ "$(wc -l <{barrier})" -ge 2 ]; do sleep 0.05; done;;
        esac
        exec c++ "$@"
        """,
    )
    monkeypatch.setenv("CXX", str(program))
    monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", "30")
    neurons = [toy, replace(toy, header="// another")]
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda n: loader.compiled_neuron_path("cpu", n), neurons))
    assert len(set(paths)) == 2


def test_a_failure_outside_the_compilers_shows_what_torch_says(csrc, monkeypatch):
    def fail(**arguments):
        raise RuntimeError("no luck today")

    monkeypatch.setattr(cpp_extension, "load", fail)
    with pytest.raises(BuildError) as caught:
        ensure_cpu()
    message = str(caught.value)
    assert message.startswith("torch.utils.cpp_extension failed while building the CPU kernels")
    assert message.endswith("no luck today")


def test_without_setuptools_the_error_says_what_to_install(csrc, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.cpp_extension")
    monkeypatch.delattr("torch.utils.cpp_extension")
    monkeypatch.setitem(sys.modules, "setuptools", None)
    with pytest.raises(BuildError, match=r"(?s)does not import.*pip install 'setuptools<82'"):
        ensure_cpu()


class TestNinja:
    @pytest.fixture
    def empty_path(self, csrc, tmp_path, monkeypatch):
        cxx = find_cxx().command[0]
        folder = tmp_path / "path"
        folder.mkdir()
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setenv("CXX", cxx)
        return folder

    def test_the_one_of_the_package_is_used_where_none_is_on_path(self, empty_path):
        pytest.importorskip("ninja")
        assert Path(find_ninja()).name == "ninja"

    def test_one_that_does_not_run_is_passed_over(self, empty_path):
        pytest.importorskip("ninja")
        broken = write_program(empty_path / "ninja", "exit 1")
        assert find_ninja() != str(broken)

    def test_without_one_the_error_says_how_to_have_it(self, empty_path, monkeypatch):
        monkeypatch.setattr(toolchain.metadata, "files", lambda name: None)
        with pytest.raises(BuildError, match=r"(?s)no usable ninja.*none on PATH.*pip install nin"):
            loader.load("cpu")

    def test_the_kernels_build_where_none_is_on_path(self, csrc, tmp_path, monkeypatch):
        pytest.importorskip("ninja")
        folder = tmp_path / "path"
        folder.mkdir()
        for name in ("as", "ld"):
            (folder / name).symlink_to(shutil.which(name))
        monkeypatch.setenv("CXX", find_cxx().command[0])
        monkeypatch.setenv("PATH", str(folder))
        assert loader.load("cpu").origin == "jit"


def test_an_interrupted_build_ends_its_compilers(csrc, tmp_path, in_process, monkeypatch):
    started = tmp_path / "started"
    program = write_program(
        tmp_path / "c++",
        f'case "$*" in *" -c "*) echo $$ >>{started}; exec sleep 60;; esac; exec c++ "$@"',
    )
    monkeypatch.setenv("CXX", str(program))
    process = in_process(
        """
        import signal
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        loader.load("cpu")
        """
    )
    while not (started.exists() and started.read_text().strip()):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.terminate()
    process.communicate(timeout=60)
    assert [pid for pid in map(int, started.read_text().split()) if runs(pid)] == []


class TestHangingCompiler:
    """It ends at the limit, with all that it has started."""

    @pytest.fixture
    def started(self, csrc, tmp_path, monkeypatch):
        """The file to which $CXX writes the numbers of the programs it hangs in."""
        started = tmp_path / "started"
        script = f'case "$*" in *" -c "*) sleep 60 & echo $! >>{started}; wait;; esac'
        program = write_program(tmp_path / "bin" / "c++", f'{script}\nexec c++ "$@"')
        monkeypatch.setenv("CXX", str(program))
        monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", "1")
        return started

    def check(self, message, started, tmp_path):
        assert " took longer than 1 s, and was stopped\n" in message
        assert "to mend it: raise SNNKERNELS_BUILD_TIMEOUT (seconds) if it is slow" in message
        assert str(tmp_path / "bin" / "c++") in message
        assert_ended(started)
        left = sorted(path.name for path in (tmp_path / "cache").iterdir())
        assert left == ["locks", "logs"]

    def test_of_the_library(self, started, tmp_path):
        with pytest.raises(BuildError) as caught:
            loader.load("cpu")
        message = str(caught.value)
        assert message.startswith("compiling ops.cpp, cpu/twice.cpp of the CPU kernels of ")
        self.check(message, started, tmp_path)
        assert selection.resolve("auto", "cpu") == selection.Choice("torch", message)

    def test_of_a_compiled_neuron(self, started, toy, tmp_path):
        with pytest.raises(BuildError) as caught:
            loader.compiled_neuron_path("cpu", TOY)
        message = str(caught.value)
        assert message.startswith("compiling ")
        assert " of the CPU kernels of Toy took longer" in message
        self.check(message, started, tmp_path)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_that_does_not_end_when_it_is_told_to(self, started, tmp_path, monkeypatch):
        program = tmp_path / "bin" / "c++"
        program.write_text(program.read_text().replace("sleep", "trap '' TERM; sleep"))
        monkeypatch.setattr(process, "_STOP_SECONDS", 0.5)
        with pytest.raises(BuildError) as caught:
            loader.load("cpu")
        self.check(str(caught.value), started, tmp_path)


class TestCuda:
    """What cpp_extension writes for CUDA, with a toolkit made up."""

    @pytest.fixture
    def toolkit(self, tmp_path):
        cudart = tmp_path / "libcudart.so.13"
        cudart.touch()
        root = tmp_path / "cuda"
        include_dirs = (tmp_path / "runtime" / "include", root / "include")
        return Nvcc("PATH", "/my nvcc", "13.0", root, include_dirs, cudart, ("90",))

    @pytest.fixture
    def rules(self, csrc, tmp_path, toolkit, monkeypatch):
        """The lines of the build file, by what they set."""
        monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
        monkeypatch.setenv("CC", "some-cc")
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5")
        before = dict(os.environ)
        spec = cuda_library(csrc, archs=parse_archs("9.0+PTX"))
        tools = Toolchain(torch_info(), find_cxx(), find_ninja(), toolkit)
        work = tmp_path / "build"
        work.mkdir()
        build_file.write_build_file(spec, tools, work, jobs=2)
        assert dict(os.environ) == before
        assert cpp_extension.CUDA_HOME is None
        lines = (work / "build.ninja").read_text().splitlines()
        return dict(line.split(" = ", 1) for line in lines if " = " in line)

    def test_the_nvcc_and_the_toolkit_that_were_found_are_used(self, rules, toolkit):
        assert rules["nvcc"] == "'/my nvcc'"
        assert f"-isystem {toolkit.root}/include" in rules["cuda_cflags"]
        assert f"-L{toolkit.root}/lib64" in rules["ldflags"]

    def test_the_architectures_are_those_asked_for_whatever_the_environment_names(self, rules):
        found = [flag for flag in rules["cuda_cflags"].split() if flag.startswith("-gencode")]
        assert found == [f"-gencode=arch=compute_90,code={code}_90" for code in ("sm", "compute")]

    def test_the_host_compiler_is_the_one_that_was_found_whatever_cc_says(self, rules):
        found = [flag for flag in rules["cuda_cflags"].split() if "ccbin" in flag]
        assert found == [f"-ccbin={find_cxx().program}"]

    def test_headers_and_runtime_of_the_nvidia_packages_are_found(self, rules, toolkit, tmp_path):
        for flags in ("cflags", "cuda_cflags"):
            assert f"-isystem {toolkit.include_dirs[0]}" in rules[flags]
        assert "-L." in rules["ldflags"].split()
        assert (tmp_path / "build" / "libcudart.so").resolve() == toolkit.cudart
