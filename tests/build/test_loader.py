import json
import os
import platform
import re
import shutil
import time
import warnings
from pathlib import Path

import pytest

from snnkernels._build import cache, engine, loader, plan, toolchain
from snnkernels._build.ahead import build_ahead
from snnkernels._build.archs import Arch
from snnkernels._build.errors import BuildError
from snnkernels._build.plan import plan_build
from snnkernels._build.specification import instruction_sets

from .conftest import wait_for, write_program


def ensure_cpu(**options):
    return loader.ensure(plan_build("cpu"), **options)


def leftovers(folder):
    return sorted(path.name for path in folder.glob(".tmp-*"))


def test_the_first_load_builds_and_the_next_process_finds_it_in_the_cache(csrc, monkeypatch):
    first = loader.load("cpu")
    monkeypatch.setattr(loader, "_outcomes", {})
    second = loader.load("cpu")
    assert (first.origin, second.origin) == ("jit", "cache")
    assert first.path == second.path
    assert first.path.is_file()


def test_a_second_load_in_the_process_is_instant_and_the_same(csrc):
    first = loader.load("cpu")
    start = time.perf_counter()
    assert loader.load("cpu") is first
    assert time.perf_counter() - start < 0.5


def test_a_device_that_is_not_known_is_refused_by_name(csrc):
    with pytest.raises(ValueError, match=r'^device_type: expected "cpu" or "cuda", got \'xpu\''):
        loader.load("xpu")


def test_an_entry_holds_the_library_its_manifest_and_its_log_and_nothing_else(csrc, tmp_path):
    entry, built = ensure_cpu()
    assert built
    assert sorted(path.name for path in entry.folder.iterdir()) == [
        "build.json",
        "build.log",
        entry.library.name,
    ]
    assert entry.manifest.size == entry.library.stat().st_size
    assert "cpu/twice.cpp" in entry.log.read_text()
    assert leftovers(tmp_path / "cache") == []


def test_progress_is_said_on_stderr_in_plain_lines(csrc, capfd):
    ensure_cpu(why="first use")
    out, err = capfd.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("snnkernels: building the CPU kernels: first use (")
    assert re.fullmatch(r"snnkernels:   \[3/3\] link at \d+\.\d s", lines[-2])
    assert re.fullmatch(r"snnkernels: built the CPU kernels after \d+\.\d s", lines[-1])


def test_verbose_shows_the_commands_and_what_they_print(csrc, capfd, monkeypatch):
    monkeypatch.setenv("SNNKERNELS_VERBOSE", "1")
    (csrc / "ops.cpp").write_text("int f() { int unused = 1; return 2; }\n")
    ensure_cpu()
    err = capfd.readouterr().err
    assert re.search(r"^\[1/3 \d+\.\d+\] /.* -c ", err, re.MULTILINE)
    assert "unused variable" in err


class TestKey:
    """The cache key changes with all that a build depends on."""

    @pytest.fixture
    def key(self, csrc):
        return lambda: plan_build("cpu").key

    def test_with_a_header(self, csrc, key):
        before = key()
        (csrc / "include" / "twice.h").write_text("inline int twice(int x) { return x + x; }\n")
        assert key() != before

    def test_with_a_flag(self, key, monkeypatch):
        before = key()
        monkeypatch.setenv("SNNKERNELS_WERROR", "1")
        assert key() != before

    def test_with_the_version_of_torch(self, key, monkeypatch):
        import torch

        before = key()
        monkeypatch.setattr(torch, "__version__", "2.99.0")
        assert key() != before

    def test_with_the_compiler_or_the_cpu(self, key, monkeypatch):
        before = key()
        monkeypatch.setenv("CXX", "c++ -D__OTHER_CPU__")
        assert key() != before

    @pytest.mark.parametrize("flag", ["-fno-inline", "-I /tmp", "-fno-unroll-loops"])
    def test_with_a_flag_of_cxx_that_no_macro_tells_of(self, key, flag, monkeypatch):
        monkeypatch.setenv("CXX", "c++")
        before = key()
        monkeypatch.setenv("CXX", f"c++ {flag}")
        assert key() != before

    def test_but_not_from_call_to_call(self, key):
        assert key() == key()


class TestFailedCompile:
    @pytest.fixture(autouse=True)
    def _broken_source(self, csrc):
        (csrc / "ops.cpp").write_text('#include "twice.h"\nint f() { return no_such_name; }\n')

    def test_the_error_answers_every_question(self, tmp_path):
        with pytest.raises(BuildError) as caught:
            loader.load("cpu")
        message = str(caught.value)
        lines = message.splitlines()
        assert lines[0] == ("compiling ops.cpp failed while building the CPU kernels of snnkernels")
        assert re.search(r"^  found:      g\+\+|^  found:      clang", message, re.MULTILINE)
        assert "\n  expected:   a C++17 compiler" in message
        assert "\n  to mend it: python -m snnkernels build --device cpu --force" in message
        assert "\n  meanwhile:  the plain-PyTorch reference is used, unless" in message
        assert re.search(r"ops\.cpp:2:\d+: error: .*no_such_name", message)
        log = re.search(r"^  log:        (.*)$", message, re.MULTILINE).group(1)
        assert log.startswith(str(tmp_path / "cache" / "logs"))
        assert "no_such_name" in Path(log).read_text()

    def test_the_failure_is_remembered_in_the_process(self, counting_cxx):
        with pytest.raises(BuildError) as first:
            loader.load("cpu")
        compiles = counting_cxx()
        start = time.perf_counter()
        with pytest.raises(BuildError) as second:
            loader.load("cpu")
        assert time.perf_counter() - start < 0.5
        assert second.value is first.value
        assert counting_cxx() == compiles

    def test_nothing_is_left_in_the_cache_but_the_log(self, tmp_path):
        with pytest.raises(BuildError):
            ensure_cpu()
        assert cache.entries() == []
        assert leftovers(tmp_path / "cache") == []

    def test_the_next_process_builds_when_the_source_is_mended(self, csrc, monkeypatch):
        with pytest.raises(BuildError):
            loader.load("cpu")
        (csrc / "ops.cpp").write_text("int f() { return 1; }\n")
        monkeypatch.setattr(loader, "_outcomes", {})
        assert loader.load("cpu").origin == "jit"


def test_a_failed_link_is_told_apart_from_a_failed_compile(csrc, tmp_path, monkeypatch):
    program = write_program(
        tmp_path / "c++",
        'case "$*" in *-shared*) echo "ld: cannot find -lc10"; exit 1;; esac; exec c++ "$@"',
    )
    monkeypatch.setenv("CXX", str(program))
    with pytest.raises(
        BuildError, match=r"(?s)^linking failed .*first error:\n    ld: cannot find"
    ):
        ensure_cpu()


def test_missing_sources_are_said_with_the_places_looked_at(csrc):
    (csrc / "ops.cpp").unlink()
    with pytest.raises(BuildError, match=r"(?s)sources are missing.*looked for ops\.cpp in"):
        loader.load("cpu")


def test_a_damaged_entry_is_built_again(csrc):
    entry, _ = ensure_cpu()
    entry.library.write_bytes(b"half")
    assert cache.entries() == []
    again, built = ensure_cpu()
    assert built
    assert again.library.stat().st_size == again.manifest.size


def test_a_cached_library_that_does_not_load_is_built_again(csrc):
    entry, _ = ensure_cpu()
    size = entry.manifest.size
    entry.library.unlink()
    entry.library.write_bytes(b"x" * size)
    assert loader.load("cpu").origin == "jit"


def test_force_builds_what_is_there(csrc, counting_cxx):
    ensure_cpu()
    compiles = counting_cxx()
    _, built = ensure_cpu(force=True)
    assert built
    assert counting_cxx() == 2 * compiles


class TestLock:
    def test_two_processes_at_once_build_once(self, counting_cxx, in_process, tmp_path):
        go = tmp_path / "go"
        code = f"""
            import time, torch
            print("ready", flush=True)
            while not Path({str(go)!r}).exists(): time.sleep(0.01)
            print(loader.load("cpu").origin)
        """
        processes = [in_process(code) for _ in range(3)]
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 3
        go.touch()
        results = [process.communicate(timeout=180) for process in processes]
        assert sorted(out.strip() for out, _ in results) == ["cache", "cache", "jit"]
        assert counting_cxx() == 2
        waiting = [err for _, err in results if " waits for " in err]
        assert waiting
        assert all("which is building the CPU kernels" in err for err in waiting)

    def test_a_lock_whose_owner_was_killed_holds_nobody_up(self, counting_cxx, in_process):
        killed = in_process(
            """
            import time
            root = cache.writable_dir()
            planned = plan.plan_build("cpu")
            name = planned.name
            with cache.locked(root, name, planned.what), cache.workspace(root, name):
                print("locked", flush=True)
                time.sleep(60)
            """
        )
        assert killed.stdout.readline() == "locked\n"
        killed.kill()
        killed.communicate()
        start = time.monotonic()
        entry, built = ensure_cpu()
        assert built
        assert time.monotonic() - start < 60
        assert leftovers(entry.folder.parent) == []

    def test_a_lock_file_left_behind_locks_nothing(self, csrc, tmp_path):
        name = plan_build("cpu").name
        locks = tmp_path / "cache" / "locks"
        locks.mkdir(parents=True)
        (locks / f"{name}.lock").touch()
        (locks / f"{name}.owner").write_text("process 1 (since 1970)")
        assert ensure_cpu()[1]

    def test_waiting_ends_at_the_timeout_and_names_the_owner(self, csrc, in_process, monkeypatch):
        owner = in_process(
            """
            import time
            planned = plan.plan_build("cpu")
            with cache.locked(cache.writable_dir(), planned.name, planned.what):
                print("locked", flush=True)
                time.sleep(60)
            """
        )
        assert owner.stdout.readline() == "locked\n"
        monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", "0.2")
        try:
            with pytest.raises(BuildError) as caught:
                ensure_cpu()
        finally:
            owner.kill()
            owner.communicate()
        message = str(caught.value)
        assert "gave up after 0.2 s" in message
        assert f"process {owner.pid} (since " in message
        assert "raise SNNKERNELS_BUILD_TIMEOUT" in message

    @pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
    def test_a_timeout_that_is_no_number_of_seconds_is_refused(self, csrc, text, monkeypatch):
        monkeypatch.setenv("SNNKERNELS_BUILD_TIMEOUT", text)
        with pytest.raises(ValueError, match="^SNNKERNELS_BUILD_TIMEOUT: expected seconds"):
            ensure_cpu()


class TestInterruption:
    def test_an_interrupted_build_leaves_nothing_half_written(
        self, csrc, tmp_path, in_process, monkeypatch
    ):
        started = tmp_path / "started"
        program = write_program(
            tmp_path / "c++",
            f'case "$*" in *" -c "*) echo $$ >{started}; exec sleep 60;; esac; exec c++ "$@"',
        )
        monkeypatch.setenv("CXX", str(program))
        process = in_process(
            """
            import signal, threading
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            loader.load("cpu")
            """
        )
        wait_for(started, process)
        process.terminate()
        _, err = process.communicate(timeout=60)
        assert "KeyboardInterrupt" in err
        assert "interrupted while building the CPU kernels" in err
        assert cache.entries() == []
        assert leftovers(tmp_path / "cache") == []

    def test_a_killed_build_leaves_no_entry_and_its_rubbish_goes_with_the_next(
        self, csrc, tmp_path, in_process, monkeypatch
    ):
        started = tmp_path / "started"
        program = write_program(
            tmp_path / "c++",
            f'case "$*" in *-shared*) echo $$ >{started}; sleep 2;; esac; exec c++ "$@"',
        )
        monkeypatch.setenv("CXX", str(program))
        process = in_process('loader.load("cpu")')
        wait_for(started, process)
        process.kill()
        process.communicate()
        assert cache.entries() == []
        assert len(leftovers(tmp_path / "cache")) == 1
        assert ensure_cpu()[1]
        assert leftovers(tmp_path / "cache") == []


class TestCacheFolder:
    @pytest.fixture
    def unwritable(self, csrc, tmp_path, monkeypatch):
        """A cache folder that nobody can make, root included: its parent is a file."""
        (tmp_path / "file").touch()
        monkeypatch.setenv("SNNKERNELS_CACHE_DIR", str(tmp_path / "file" / "cache"))
        monkeypatch.setattr(cache, "temporary_dir", lambda: tmp_path / "spare")
        return tmp_path / "spare"

    def test_a_cache_that_cannot_be_written_gives_way_to_a_temporary_one(self, unwritable):
        with pytest.warns(RuntimeWarning, match=r"can't be written \(Not a directory\)"):
            entry, _ = ensure_cpu()
        assert entry.folder.parent == unwritable

    def test_the_warning_comes_once_and_the_temporary_entry_is_found_again(self, unwritable):
        with pytest.warns(RuntimeWarning, match="SNNKERNELS_CACHE_DIR"):
            ensure_cpu()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert ensure_cpu()[1] is False
            ensure_cpu(force=True)

    def test_with_nowhere_to_write_the_error_names_both_places(self, unwritable, monkeypatch):
        monkeypatch.setattr(cache, "temporary_dir", lambda: unwritable.parent / "file" / "spare")
        with pytest.raises(BuildError) as caught:
            ensure_cpu()
        message = str(caught.value)
        assert "file/cache: Not a directory" in message
        assert "file/spare: Not a directory" in message
        assert "export SNNKERNELS_CACHE_DIR=" in message

    def test_a_temporary_folder_that_others_can_write_is_not_trusted(self, unwritable):
        unwritable.mkdir()
        unwritable.chmod(0o777)
        with pytest.raises(BuildError, match="others can write it"):
            ensure_cpu()

    def test_a_read_only_cache_is_still_read(self, csrc, tmp_path, monkeypatch):
        entry, _ = ensure_cpu()
        monkeypatch.setattr(cache, "writable_dir", lambda: pytest.fail("nothing to write"))
        assert ensure_cpu() == (entry, False)

    def test_the_default_is_the_users_own_cache(self, monkeypatch, tmp_path):
        monkeypatch.delenv("SNNKERNELS_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        assert str(cache.user_dir()).startswith(str(tmp_path))
        assert cache.user_dir().name == "snnkernels"


class TestWithoutTheCompilerThatBuilt:
    @pytest.fixture(autouse=True)
    def _built_then_uninstalled(self, csrc, monkeypatch):
        ensure_cpu()
        monkeypatch.setenv("CXX", "no-such-compiler")

    def test_what_it_built_still_loads(self):
        assert loader.load("cpu").origin == "cache"

    def test_info_says_so(self):
        assert loader.outlook("cpu").startswith("in the cache, its compiler is gone: ")

    def test_but_not_on_another_cpu(self, monkeypatch):
        monkeypatch.setattr(loader, "cpu_identity", lambda: "another")
        with pytest.raises(BuildError, match="no usable C"):
            loader.load("cpu")

    def test_but_not_on_a_cpu_of_which_nothing_is_known(self, monkeypatch):
        monkeypatch.setattr(loader, "cpu_identity", lambda: "")
        with pytest.raises(BuildError, match="no usable C"):
            loader.load("cpu")

    def test_but_not_for_other_sources(self, csrc):
        (csrc / "ops.cpp").write_text("int changed;\n")
        with pytest.raises(BuildError, match="no usable C"):
            loader.load("cpu")

    def test_but_not_for_another_torch(self, monkeypatch):
        import torch

        monkeypatch.setattr(torch, "__version__", "2.99.0")
        with pytest.raises(BuildError, match="no usable C"):
            loader.load("cpu")


class TestPrebuilt:
    @pytest.fixture
    def prebuilt(self, csrc):
        build_ahead(["cpu"], loader.PREBUILT_DIR)
        return loader.prebuilt("cpu")[0]

    def test_a_library_beside_the_package_is_loaded_without_a_build(self, prebuilt, tmp_path):
        library = loader.load("cpu")
        assert (library.path, library.origin) == (prebuilt, "prebuilt")
        assert not (tmp_path / "cache").exists()

    def test_it_holds_only_the_library_and_its_manifest(self, prebuilt):
        assert sorted(path.name for path in prebuilt.parent.iterdir()) == [
            "build.json",
            prebuilt.name,
        ]

    def test_it_is_not_taken_for_other_launch_constants(self, prebuilt, monkeypatch):
        monkeypatch.setattr(loader, "LAUNCH_FLAGS", ("-DSNN_CPU_CHUNK=4",))
        path, problem = loader.prebuilt("cpu")
        assert path is None
        assert "has other launch constants than -DSNN_CPU_CHUNK=4" in problem

    def test_it_is_the_widest_that_the_cpu_has(self, prebuilt, monkeypatch):
        names = list(instruction_sets(platform.machine()))
        for wider in range(len(names)):
            monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda n=wider: names[n:])
            assert loader.prebuilt("cpu")[0].parent.name == f"cpu-{names[wider]}"

    def test_what_a_wheel_lacks_is_passed_over_for_a_narrower_one(self, prebuilt, monkeypatch):
        monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda: ["avx1024", "baseline"])
        assert loader.prebuilt("cpu")[0].parent.name == "cpu-baseline"

    def test_a_narrower_one_is_taken_and_named_where_the_widest_is_spoilt(
        self, prebuilt, monkeypatch, capfd
    ):
        wide = prebuilt.parents[1] / "cpu-avx1024"
        shutil.copytree(prebuilt.parent, wide)
        (wide / "build.json").unlink()
        monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda: ["avx1024", "baseline"])
        library = loader.load("cpu")
        assert library.path.parent.name == "cpu-baseline"
        expected = f"{wide / prebuilt.name} has no manifest: {library.path} is loaded in its place"
        assert expected in capfd.readouterr().err

    def test_so_is_one_where_the_widest_does_not_load(self, prebuilt, monkeypatch, capfd):
        wide = prebuilt.parents[1] / "cpu-avx1024"
        shutil.copytree(prebuilt.parent, wide)
        (wide / prebuilt.name).write_bytes(b"x")
        manifest = cache.read_manifest(wide / "build.json")
        manifest.of(wide / prebuilt.name, 1.0).write(wide / "build.json")
        monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda: ["avx1024", "baseline"])
        assert loader.load("cpu").path.parent.name == "cpu-baseline"
        assert f"{wide / prebuilt.name} does not load (" in capfd.readouterr().err

    def test_what_a_killed_build_ahead_left_goes_with_the_next(self, prebuilt):
        root = prebuilt.parents[1]
        (root / ".tmp-cpu-baseline-killed").mkdir()
        build_ahead(["cpu"], root)
        assert {path.name for path in root.iterdir()} == {
            f"cpu-{name}" for name in instruction_sets(platform.machine())
        }

    @pytest.mark.parametrize("mode", [0o700, 0o755, 0o777])
    def test_those_may_read_it_who_may_read_the_folder_above(self, csrc, tmp_path, mode):
        root = tmp_path / "wheel"
        root.mkdir()
        root.chmod(mode)
        before = os.umask(0o077)
        try:
            built = build_ahead(["cpu"], root)
        finally:
            os.umask(before)
        for path in built:
            assert path.parent.stat().st_mode & 0o777 == mode & 0o755
            assert {file.stat().st_mode & 0o444 for file in path.parent.iterdir()} == {mode & 0o444}

    def test_one_that_this_cpu_cannot_run_is_built_but_not_tried(self, csrc, tmp_path, monkeypatch):
        tried = []
        monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda: ["baseline"])
        monkeypatch.setattr(engine, "check_library", lambda path, *_: tried.append(path))
        built = build_ahead(["cpu"], tmp_path / "wheel")
        assert len(built) == len(instruction_sets(platform.machine()))
        assert len(tried) == 1

    def test_one_from_other_sources_is_passed_over_with_the_reason(self, prebuilt, csrc, capfd):
        (csrc / "include" / "twice.h").write_text("inline int twice(int x) { return x + x; }\n")
        assert loader.load("cpu").origin == "jit"
        assert f"{prebuilt} was built from other sources" in capfd.readouterr().err


class TestCudaPlans:
    """What a CUDA build would be, with a toolkit and GPUs made up."""

    @pytest.fixture(autouse=True)
    def _toolkit(self, csrc, tmp_path, monkeypatch):
        import torch

        from snnkernels._build.toolchain import Nvcc

        root = tmp_path / "cuda"
        nvcc = Nvcc("PATH", "nvcc", "13.0", root, (root,), root, ("75", "80", "90", "120"))
        monkeypatch.setattr(plan, "find_nvcc", lambda cuda: nvcc)
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    @pytest.fixture
    def gpus(self, monkeypatch):
        return lambda *found: monkeypatch.setattr(toolchain, "gpu_capabilities", lambda: found)

    def test_the_gpus_here_choose_the_architectures(self, gpus):
        gpus((8, 0), (9, 0))
        assert plan_build("cuda").target == "8.0;9.0"

    def test_a_gpu_newer_than_nvcc_gets_the_newest_as_ptx(self, gpus):
        gpus((13, 0))
        assert plan_build("cuda").target == "12.0+PTX"

    @pytest.mark.parametrize("name", ["SNNKERNELS_CUDA_ARCH", "TORCH_CUDA_ARCH_LIST"])
    def test_the_environment_chooses_before_the_gpus(self, gpus, name, monkeypatch):
        gpus((8, 0))
        monkeypatch.setenv(name, "9.0+PTX")
        assert plan_build("cuda").target == "9.0+PTX"

    def test_an_argument_chooses_before_the_environment(self, gpus, monkeypatch):
        gpus()
        monkeypatch.setenv("SNNKERNELS_CUDA_ARCH", "9.0")
        assert plan_build("cuda", archs=[Arch(8, 0)]).target == "8.0"

    def test_no_gpu_and_no_list_is_an_error_that_says_how_to_give_one(self, gpus):
        gpus()
        with pytest.raises(BuildError, match=r"(?s)no GPU architecture.*SNNKERNELS_CUDA_ARCH=9\.0"):
            plan_build("cuda")

    def test_an_unreadable_list_names_its_variable(self, gpus, monkeypatch):
        monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
        with pytest.raises(BuildError, match="TORCH_CUDA_ARCH_LIST=Hopper"):
            plan_build("cuda")

    def test_an_architecture_that_nvcc_does_not_know_is_named_with_those_it_does(self):
        with pytest.raises(BuildError, match=r"(?s)architecture 7\.0\n.*7\.5, 8\.0, 9\.0, 12\.0"):
            plan_build("cuda", archs=[Arch(7, 0)])

    def test_other_flags_that_nvcc_takes_from_the_environment_make_another_key(self, monkeypatch):
        from dataclasses import replace

        before = plan_build("cuda", archs=[Arch(9, 0)])
        nvcc = replace(plan.find_nvcc("13.0"), flags="NVCC_APPEND_FLAGS=-lineinfo")
        monkeypatch.setattr(plan, "find_nvcc", lambda cuda: nvcc)
        after = plan_build("cuda", archs=[Arch(9, 0)])
        assert before.key != after.key
        assert before.family != after.family

    def test_a_build_made_ahead_for_more_architectures_serves_the_gpu_here(self, gpus, tmp_path):
        ahead = plan_build("cuda", archs=[Arch(8, 0), Arch(9, 0)])
        self.put_in_cache(ahead, tmp_path)
        gpus((9, 0))
        assert loader.find_entry(plan_build("cuda")).manifest.key == ahead.key
        gpus((12, 0))
        assert loader.find_entry(plan_build("cuda")) is None

    def test_a_build_of_other_sources_does_not(self, gpus, csrc, tmp_path):
        self.put_in_cache(plan_build("cuda", archs=[Arch(9, 0)]), tmp_path)
        gpus((9, 0))
        assert loader.find_entry(plan_build("cuda")) is not None
        (csrc / "cuda" / "twice.cu").write_text("")
        assert loader.find_entry(plan_build("cuda")) is None

    def put_in_cache(self, planned, tmp_path):
        folder = tmp_path / "cache" / planned.name
        folder.mkdir(parents=True)
        library = folder / planned.spec.file_name
        library.write_bytes(b"")
        planned.manifest.of(library, 1.0).write(folder / cache.MANIFEST)


class TestOutlook:
    """What `info` says about a device, without building."""

    def test_before_the_first_use_it_names_the_compiler(self, csrc, tmp_path):
        assert "builds at first use with" in loader.outlook("cpu")
        assert not (tmp_path / "cache").exists()

    def test_after_a_build_it_names_the_entry(self, csrc):
        entry, _ = ensure_cpu()
        assert loader.outlook("cpu") == f"in the cache: {entry.library}"

    def test_after_a_load_it_says_so(self, csrc):
        path = loader.load("cpu").path
        assert loader.outlook("cpu") == f"loaded from {path} (jit)"

    def test_without_a_compiler_it_says_why(self, csrc, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(BuildError, match="no usable C\\+\\+ compiler"):
            loader.outlook("cpu")

    def test_after_a_failed_load_it_is_the_same_error(self, csrc, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(BuildError) as caught:
            loader.load("cpu")
        monkeypatch.delenv("CXX")
        with pytest.raises(BuildError) as foreseen:
            loader.outlook("cpu")
        assert str(foreseen.value) == str(caught.value)

    def test_without_sources_it_says_so(self, csrc):
        (csrc / "ops.cpp").unlink()
        with pytest.raises(BuildError, match="sources are missing"):
            loader.outlook("cpu")


def test_a_manifest_of_another_version_is_no_entry(csrc):
    entry, _ = ensure_cpu()
    path = entry.folder / cache.MANIFEST
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "unknown": 1}))
    assert cache.entries() == []


@pytest.mark.parametrize("text", ["many", "0", "-2", "1.5"])
def test_max_jobs_that_is_no_count_is_refused(csrc, text, monkeypatch):
    monkeypatch.setenv("MAX_JOBS", text)
    with pytest.raises(ValueError, match="^MAX_JOBS: expected a positive whole number"):
        ensure_cpu()


def test_the_environment_of_the_caller_is_left_alone(csrc):
    before = dict(os.environ)
    loader.load("cpu")
    assert dict(os.environ) == before
