"""How kernels are built: by torch.utils.cpp_extension, told all it would look up, and by ninja."""

import io
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.utils import cpp_extension

from snnkernels._backends import selection
from snnkernels._build import build_file, loader, plan, process, specification, toolchain
from snnkernels._build.ahead import build_ahead
from snnkernels._build.archs import parse_archs
from snnkernels._build.errors import BuildError
from snnkernels._build.plan import plan_build
from snnkernels._build.specification import cuda_library, instruction_sets
from snnkernels._build.toolchain import Nvcc, Toolchain, find_cxx, find_ninja, torch_info

from .conftest import TOY, assert_ended, runs, wait_for, write_program


@pytest.fixture
def on_load(monkeypatch):
    """Give a function to call with the module and the arguments before `cpp_extension.load`."""

    def give(function):
        helper_with = build_file._helper

        def changed(*arguments):
            helper = helper_with(*arguments)
            load = helper.load
            helper.load = lambda **arguments: (function(helper, arguments), load(**arguments))[1]
            return helper

        monkeypatch.setattr(build_file, "_helper", changed)

    return give


@pytest.fixture
def calls(on_load):
    """The arguments of each `cpp_extension.load`."""
    recorded = []
    on_load(lambda helper, arguments: recorded.append(arguments))
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


def test_the_environment_and_torchs_own_module_stay_as_they_are(csrc, monkeypatch, on_load):
    monkeypatch.setenv("CC", "some-cc")
    monkeypatch.setenv("CXX", "env c++ -DX")
    variables, module = dict(os.environ), dict(vars(cpp_extension))
    seen = []
    on_load(lambda *_: seen.append((dict(os.environ), dict(vars(cpp_extension)))))
    ensure_cpu()
    assert seen == [(variables, module)]
    assert (dict(os.environ), dict(vars(cpp_extension))) == (variables, module)


def test_cpp_extension_starts_no_ninja(csrc, tmp_path, monkeypatch):
    planned = plan_build("cpu")
    monkeypatch.setattr(subprocess, "Popen", None)
    built = build_file.write_build_file(planned.spec, planned.tools, tmp_path, jobs=1)
    assert (tmp_path / "build.ninja").is_file()
    assert not built.exists()


@pytest.mark.parametrize("name", ["cache with spaces", "$HOME", "it's", "a:b", "a|b"])
def test_odd_names_of_the_cache_and_the_compiler_do_no_harm(toy, tmp_path, name, monkeypatch):
    program = write_program(tmp_path / name / "c++", 'exec c++ "$@"')
    monkeypatch.setenv("SNNKERNELS_CACHE_DIR", str(tmp_path / name / "cache"))
    monkeypatch.setattr(toolchain.shlex, "split", lambda text: [text])
    monkeypatch.setenv("CXX", str(program))
    assert loader.load("cpu").origin == "jit"
    assert loader.compiled_neuron_path("cpu", toy).is_file()


@pytest.mark.parametrize("name", ["with spaces", "$HOME", "it's", "a:b"])
def test_nor_do_those_of_the_sources(toy, csrc, name, capfd, monkeypatch):
    package = csrc.parent.parent / name / "snnkernels"
    csrc.parent.rename(package.parent)
    monkeypatch.setattr(specification, "PACKAGE_DIR", package)
    ensure_cpu()
    said = re.findall(r"\[\d/4\] (.*) at", capfd.readouterr().err)
    assert set(said) == {"ops.cpp", "cpu/twice.cpp", "cpu/convert.cpp", "link"}
    assert loader.compiled_neuron_path("cpu", toy).is_file()


@pytest.mark.parametrize("name", ["with spaces", "$HOME", "it's"])
def test_nor_does_that_of_torchs_folder(csrc, in_process, tmp_path, name):
    (csrc / "ops.cpp").write_text("#include <torch/headeronly/macros/Export.h>\n")
    packages = tmp_path / name
    packages.mkdir()
    (packages / "torch").symlink_to(torch_info().root)
    process = in_process('print(loader.load("cpu").origin)', packages)
    out, err = process.communicate(timeout=120)
    assert out == "jit\n", err
    (log,) = (tmp_path / "cache").glob("cpu-*/build.log")
    assert name.replace("'", "'\"'\"'") in log.read_text()


@pytest.mark.parametrize(
    "command", ["./tools/c++", "env ./tools/c++", "c++ -include ./tools/one.h"]
)
def test_tools_may_be_named_from_the_folder_that_one_is_in(toy, tmp_path, command, monkeypatch):
    write_program(tmp_path / "tools" / "c++", 'exec /usr/bin/env c++ "$@"')
    (tmp_path / "tools" / "one.h").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXX", command)
    assert loader.load("cpu").origin == "jit"
    assert loader.compiled_neuron_path("cpu", toy).is_file()


@pytest.mark.parametrize(("text", "expected"), [("3", "-j3"), ("", None)])
def test_as_many_compilers_run_as_max_jobs_says_or_there_are_cores(
    csrc, monkeypatch, text, expected
):
    monkeypatch.setenv("MAX_JOBS", text)
    commands = []
    start = process.start
    monkeypatch.setattr(process, "start", lambda c, **o: commands.append(c) or start(c, **o))
    ensure_cpu()
    (ninja,) = (command for command in commands if "-v" in command)
    assert ninja[-1] == (expected or f"-j{len(os.sched_getaffinity(0))}")


def test_no_launcher_is_put_before_the_compiler(csrc, tmp_path, monkeypatch):
    write_program(tmp_path / "path" / "ccache", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    assert ensure_cpu()[1]


def test_a_process_without_a_stdout_builds_too(csrc, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert ensure_cpu()[1]


def test_a_ninja_that_does_not_start_or_is_killed_is_named(csrc, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "find_ninja", lambda: str(tmp_path / "ninja"))
    with pytest.raises(BuildError, match=r"(?s)^ninja failed while .*No such file"):
        ensure_cpu()
    write_program(tmp_path / "ninja", "kill -KILL $$")
    with pytest.raises(BuildError, match=r"(?s)^ninja failed while .*ninja ended with -9$"):
        ensure_cpu()


def test_the_output_of_a_stopped_program_may_be_closed_while_it_is_read():
    output, lines = io.StringIO(), queue.SimpleQueue()
    output.close()
    process._read(SimpleNamespace(stdout=output), lines)
    assert lines.get(timeout=1) == ""


def test_a_limit_may_be_endless(csrc, monkeypatch):
    monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", "inf")
    assert ensure_cpu()[1]


def test_colours_that_ninja_is_asked_for_do_not_hide_what_failed(csrc, monkeypatch):
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    (csrc / "ops.cpp").write_text("broken\n")
    with pytest.raises(BuildError, match=r"^compiling ops\.cpp failed"):
        ensure_cpu()


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


needs_readelf = pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf")


def dynamic_section(library):
    command = ["readelf", "-d", str(library)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout
    assert "Dynamic section" in found
    return found


@needs_readelf
def test_a_library_is_told_of_no_folder_of_this_machine(csrc, tmp_path):
    for path in build_ahead(["cpu"], tmp_path / "wheel"):
        assert "PATH)" not in dynamic_section(path)


@needs_readelf
def test_a_neuron_is_linked_to_nothing_of_torchs(toy, monkeypatch):
    monkeypatch.setenv("CXX", "c++ -Wl,--no-as-needed")  # which is the default of some
    path = loader.compiled_neuron_path("cpu", toy)
    assert "torch" not in dynamic_section(path)


def test_neurons_are_built_side_by_side(toy, tmp_path, monkeypatch):
    """Each by the compiler and the ninja that were found, in as many threads as there are."""
    count = 8
    barrier = tmp_path / "compiling"
    program = write_program(
        tmp_path / "c++",
        f"""
        case "$*" in *neuron.cpp*)
            echo >>{barrier}
            until [ "$(wc -l <{barrier})" -ge {count} ]; do sleep 0.05; done;;
        esac
        exec c++ "$@"
        """,
    )
    monkeypatch.setenv("CXX", f"env {program} -DX")
    monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", "30")
    neurons = [replace(toy, header=f"// {number}") for number in range(count)]
    with ThreadPoolExecutor(count) as pool:
        paths = list(pool.map(lambda n: loader.compiled_neuron_path("cpu", n), neurons))
    assert len(set(paths)) == count
    (head,) = {(path.parent / "build.log").read_text().splitlines()[0] for path in paths}
    assert head.endswith(find_ninja())


def test_a_failure_outside_the_compilers_shows_what_torch_says(csrc, on_load):
    def fail(*_):
        raise RuntimeError("no luck today")

    on_load(fail)
    with pytest.raises(BuildError) as caught:
        ensure_cpu()
    message = str(caught.value)
    assert message.startswith("torch.utils.cpp_extension failed while building the CPU kernels")
    assert message.endswith("no luck today")


def test_without_setuptools_the_error_says_what_to_install(csrc, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.cpp_extension")
    monkeypatch.delattr("torch.utils.cpp_extension")
    monkeypatch.setitem(sys.modules, "setuptools", None)
    expected = r"(?s)^torch\.utils.*does not import.*pip install 'setuptools<82'"
    with pytest.raises(BuildError, match=expected):
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
    wait_for(started, process)
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
        root = tmp_path / "my cuda"
        include_dirs = (tmp_path / "runtime" / "include", root / "include")
        return Nvcc("PATH", "/my nvcc", "13.0", root, include_dirs, cudart, ("90",))

    @pytest.fixture
    def rules(self, csrc, tmp_path, toolkit, monkeypatch):
        """The lines of the build file, by what they set."""
        monkeypatch.setenv("CC", "some-cc")
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "7.5")
        spec = cuda_library(csrc, archs=parse_archs("9.0+PTX"))
        tools = Toolchain(torch_info(), find_cxx(), find_ninja(), toolkit)
        work = tmp_path / "build"
        work.mkdir()
        build_file.write_build_file(spec, tools, work, jobs=4)
        lines = (work / "build.ninja").read_text().splitlines()
        return dict(line.split(" = ", 1) for line in lines if " = " in line)

    def test_the_nvcc_and_the_toolkit_that_were_found_are_used(self, rules, toolkit):
        assert rules["nvcc"] == "'/my nvcc'"
        assert f"-isystem '{toolkit.root}/include'" in rules["cuda_cflags"]
        assert f"-L'{toolkit.root}'/lib64" in rules["ldflags"]

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
        assert "--threads=4" in rules["cuda_cflags"].split()
        assert (tmp_path / "build" / "libcudart.so").resolve() == toolkit.cudart
