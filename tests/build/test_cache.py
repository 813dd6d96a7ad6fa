"""What the cache trusts: whole, undamaged, its owner's; and what is said where it can't be."""

import contextlib
import json
import os
import platform
import subprocess
from pathlib import Path

import pytest

from snnkernels.__main__ import main
from snnkernels._backends import selection
from snnkernels._build import cache, engine, loader, toolchain
from snnkernels._build.errors import BuildError
from snnkernels._build.plan import plan_build
from snnkernels._build.toolchain import find_cxx

from .conftest import TOY, write_program

X86 = platform.machine() in ("x86_64", "AMD64")


def ensure_cpu(**options):
    return loader.ensure(plan_build("cpu"), **options)


def leftovers(folder):
    return sorted(path.name for path in folder.glob(".tmp-*"))


def refused(load=lambda: loader.load("cpu")):
    """The error of asking by name; asked for as auto, the same one explains the fallback."""
    with pytest.raises(BuildError) as caught:
        load()
    choice = selection.resolve("auto", "cpu")
    assert choice.name == "torch"
    assert choice.reason in (str(caught.value), str(loader._outcomes["cpu"]))
    return str(caught.value)


@pytest.fixture(params=["library", "neuron"])
def load(request, toy, monkeypatch):
    """Load the device's library, or a compiled neuron's, as a new process would: its path."""

    def load():
        monkeypatch.setattr(loader, "_outcomes", {})
        if request.param == "neuron":
            return loader.compiled_neuron_path("cpu", TOY)
        return loader.load("cpu").path

    return load


def garbage(content):
    return b"x" * len(content)


def zeros_behind_the_header(content):
    return content[:4096] + bytes(len(content) - 4096)


def one_bit_flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class TestDamage:
    @pytest.mark.parametrize("damage", [garbage, zeros_behind_the_header, one_bit_flipped])
    def test_what_is_damaged_is_built_again_before_it_is_loaded(self, load, damage, monkeypatch):
        path = ensure_path(load, monkeypatch)
        content = path.read_bytes()
        overwrite(path, damage(content))
        assert load() == path
        assert path.read_bytes() != damage(content)
        monkeypatch.setattr(engine, "make", None)
        load()  # healed for the next process too

    def test_a_process_survives_zero_pages_behind_an_intact_header(self, csrc, in_process):
        entry, _ = ensure_cpu()
        overwrite(entry.library, zeros_behind_the_header(entry.library.read_bytes()))
        for origin in ("jit", "cache"):
            process = in_process('print(loader.load("cpu").origin)')
            out, err = process.communicate(timeout=120)
            assert (process.returncode, out) == (0, f"{origin}\n"), err

    def test_without_a_compiler_the_damage_ends_in_an_error_by_name(self, csrc, monkeypatch):
        entry, _ = ensure_cpu()
        overwrite(entry.library, garbage(entry.library.read_bytes()))
        monkeypatch.setenv("CXX", "no-such-compiler")
        assert "no usable C++ compiler" in refused()

    def test_what_fits_its_hash_but_does_not_load_is_built_once_more(self, load, monkeypatch):
        path = ensure_path(load, monkeypatch)
        forge(path)
        assert load() == path
        assert path.read_bytes()[1:4] == b"ELF"

    def test_the_content_is_read_once_in_a_process(self, load, monkeypatch):
        path = ensure_path(load, monkeypatch)
        reads = []
        read_bytes = Path.read_bytes
        monkeypatch.setattr(cache, "_digest", cache.functools.cache(cache._digest.__wrapped__))
        monkeypatch.setattr(Path, "read_bytes", lambda p: reads.append(p) or read_bytes(p))
        load()
        load()
        assert reads.count(path) == 1

    def test_a_manifest_without_the_hash_is_no_entry(self, csrc):
        entry, _ = ensure_cpu()
        path = entry.folder / cache.MANIFEST
        fields = json.loads(path.read_text())
        del fields["digest"]
        path.write_text(json.dumps(fields))
        assert cache.entries() == []


def ensure_path(load, monkeypatch):
    """Build what `load` loads, and load nothing: what is mapped must not be overwritten."""
    with monkeypatch.context() as patch:
        patch.setattr(loader, "_load_library", lambda path, device_type: None)
        return load()


def overwrite(path, content):
    """Give a file another content, and keep its size and its time."""
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def forge(library):
    """Make a library garbage, and its manifest fit."""
    overwrite(library, garbage(library.read_bytes()))
    manifest = library.parent / cache.MANIFEST
    fields = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**fields, "digest": cache.digest(library)}))


class TestWhatTheCompilerMade:
    """It is tried out in another process, and kept only if it loads there."""

    def check_nothing_is_kept(self, message, load):
        said = refused(load)
        assert message in said
        assert "does not load" in said.splitlines()[0]
        assert "to mend it: set CXX" in said
        assert cache.entries() == []
        assert leftovers(cache.user_dir()) == []

    def test_an_empty_file_is_refused(self, load, tmp_path, monkeypatch):
        script = """
        case "$*" in *-shared*)
          while [ "$1" != -o ]; do shift; done
          : >"$2"; exit 0
        esac
        exec c++ "$@"
        """
        monkeypatch.setenv("CXX", str(write_program(tmp_path / "bin" / "c++", script)))
        self.check_nothing_is_kept("file too short", load)

    def test_one_that_ends_the_process_that_loads_it_is_refused(self, csrc):
        (csrc / "ops.cpp").write_text(
            "__attribute__((constructor)) void f() { __builtin_trap(); }\n"
        )
        self.check_nothing_is_kept("ends the process by signal ", lambda: loader.load("cpu"))

    def test_a_unit_without_its_symbol_is_refused(self, toy, csrc, monkeypatch):
        (csrc / "cpu" / "compiled_scan.h").write_text("#define SNN_COMPILED_NEURON(...)\n")
        with pytest.raises(BuildError, match="it has no snn_compiled_neuron"):
            loader.compiled_neuron_path("cpu", TOY)

    @pytest.mark.skipif(not X86, reason="sets a register of x86")
    def test_one_that_makes_the_process_flush_small_numbers_is_refused(self, csrc):
        (csrc / "ops.cpp").write_text(
            "#include <xmmintrin.h>\n"
            "__attribute__((constructor)) void f() { _mm_setcsr(_mm_getcsr() | 0x8040); }\n"
        )
        self.check_nothing_is_kept("it flushes small numbers to zero", lambda: loader.load("cpu"))


def test_a_compiler_that_contracts_whatever_it_is_told_is_refused(load, tmp_path, monkeypatch):
    flags = find_cxx().native_flags
    probe = ("c++", *flags, "-O2", "-ffp-contract=fast", "-S", "-o", "-", "-x", "c++", "-")
    code = "double f(double x, double y, double z) { return x * y + z; }"
    listing = subprocess.run(probe, input=code, capture_output=True, text=True, timeout=600).stdout
    if "fm" not in listing:
        pytest.skip("this CPU has no such operation")
    script = 'exec c++ "$@" -ffp-contract=fast'
    monkeypatch.setenv("CXX", str(write_program(tmp_path / "bin" / "c++", script)))
    said = refused(load)
    assert said.startswith("the C++ compiler makes one operation of a product and a sum")
    assert "to mend it: leave -ffp-contract=fast out of what calls it" in said
    assert cache.entries() == []


def test_an_entry_is_on_the_disk_before_it_is_in_its_place(csrc, monkeypatch):
    events = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: events.append(os.fstat(fd).st_ino) or fsync(fd))
    monkeypatch.setattr(Path, "rename", lambda *pair: events.append("rename") or rename(*pair))
    entry, _ = ensure_cpu()
    before, after = events[: events.index("rename")], events[events.index("rename") :]
    inside = [path.stat().st_ino for path in (*entry.folder.iterdir(), entry.folder)]
    assert sorted(before) == sorted(inside)
    assert before[-1] == entry.folder.stat().st_ino
    assert entry.folder.parent.stat().st_ino in after


class TestPrebuilt:
    @pytest.fixture
    def prebuilt(self, csrc):
        from snnkernels._build.ahead import build_ahead

        build_ahead(["cpu"], loader.PREBUILT_DIR)
        return loader.prebuilt("cpu")[0]

    @pytest.fixture(params=["is damaged", "does not load"])
    def broken(self, request, prebuilt, monkeypatch):
        monkeypatch.setattr(toolchain, "cpu_instruction_sets", lambda: ["baseline"])
        prebuilt = loader.prebuilt("cpu")[0]
        if request.param == "is damaged":
            overwrite(prebuilt, zeros_behind_the_header(prebuilt.read_bytes()))
        else:
            forge(prebuilt)
        return f"{prebuilt} {request.param}"

    def test_a_broken_one_is_passed_over_with_the_reason(self, broken, capfd):
        assert loader.load("cpu").origin == "jit"
        assert broken in capfd.readouterr().err

    def test_and_named_where_nothing_else_can_be_had(self, broken, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        said = refused()
        assert "no usable C++ compiler" in said
        assert f"  prebuilt:   {broken}" in said

    def test_a_build_ahead_may_name_a_folder_beside_it(self, csrc, tmp_path, monkeypatch):
        from snnkernels._build.ahead import build_ahead

        monkeypatch.chdir(tmp_path)
        assert build_ahead(["cpu"], Path("lib"))[0].is_file()

    def test_a_build_ahead_keeps_nothing_that_does_not_load(self, csrc):
        from snnkernels._build.ahead import build_ahead

        (csrc / "ops.cpp").write_text("void nowhere(); void f() { nowhere(); }\n")
        with pytest.raises(BuildError, match=r"(?s)does not load.*undefined symbol"):
            build_ahead(["cpu"], loader.PREBUILT_DIR)
        names = [path.name for path in loader.PREBUILT_DIR.iterdir()]
        assert names == ["logs"]


class TestOwner:
    """What others can write is not loaded, wherever the cache is."""

    @pytest.fixture
    def entry(self, csrc):
        return ensure_cpu()[0]

    def check_refusal(self, path, problem):
        said = refused()
        assert f"found:      {path}: {problem}" in said
        remedy = {
            "others can write it": "chmod go-w what others can write",
            "it belongs to another user": "run as the user whose cache it is",
        }
        assert f"to mend it: {remedy.get(problem, 'chmod o-w the folder that all can')}" in said
        assert "export SNNKERNELS_CACHE_DIR=" in said
        return said

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o702])
    def test_a_folder_that_others_can_write_is_refused(self, entry, mode):
        entry.folder.parent.chmod(mode)
        self.check_refusal(entry.folder.parent, "others can write it")

    def test_so_is_one_in_which_nothing_is_yet(self, csrc, tmp_path):
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        self.check_refusal(tmp_path / "cache", "others can write it")
        assert list((tmp_path / "cache").iterdir()) == []

    def test_so_is_the_default_one(self, csrc, tmp_path, monkeypatch):
        monkeypatch.delenv("SNNKERNELS_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        cache.user_dir().mkdir(parents=True)
        cache.user_dir().chmod(0o777)
        self.check_refusal(cache.user_dir(), "others can write it")

    @pytest.mark.parametrize("part", ["folder", "library", "manifest"])
    def test_so_is_an_entry_any_part_of_which_they_can_write(self, entry, part):
        path = entry.folder / cache.MANIFEST if part == "manifest" else getattr(entry, part)
        path.chmod(0o777)
        self.check_refusal(path, "others can write it")

    def test_so_is_that_of_another_user(self, entry, monkeypatch):
        given_to_another(entry.folder.parent, monkeypatch)
        self.check_refusal(entry.folder.parent, "it belongs to another user")

    def test_so_is_a_library_of_another_user(self, entry, monkeypatch):
        if os.getuid():
            pytest.skip("needs root, to give a file away")
        given_to_another(entry.library, monkeypatch)
        self.check_refusal(entry.library, "it belongs to another user")

    def test_so_is_one_that_others_can_replace(self, entry):
        above = entry.folder.parents[1]
        above.chmod(0o777)
        self.check_refusal(
            entry.folder.parent, f"others can replace it, since all can write {above}"
        )
        above.chmod(0o1777)
        assert loader.find_entry(plan_build("cpu")) == entry

    def test_so_is_a_compiled_neurons(self, toy, tmp_path):
        loader.compiled_neuron_path("cpu", TOY)
        (tmp_path / "cache").chmod(0o777)
        assert "others can write it" in refused(lambda: loader.compiled_neuron_path("cpu", TOY))

    def test_without_a_compiler_it_is_refused_too(self, entry, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler")
        entry.folder.parent.chmod(0o777)
        self.check_refusal(entry.folder.parent, "others can write it")

    def test_what_root_owns_is_trusted(self):
        assert cache.why_not_ours(Path("/usr")) is None

    def test_a_link_to_ones_own_folder_is_trusted(self, entry, tmp_path, monkeypatch):
        (tmp_path / "link").symlink_to(entry.folder.parent)
        monkeypatch.setenv("SNNKERNELS_CACHE_DIR", str(tmp_path / "link"))
        assert not ensure_cpu()[1]

    @pytest.mark.parametrize("umask", [0o002, 0o000])
    def test_what_is_built_is_ones_own_under_any_umask(self, csrc, umask):
        before = os.umask(umask)
        try:
            ensure_cpu()
        finally:
            os.umask(before)
        assert not ensure_cpu()[1]

    def test_info_says_so(self, entry, capsys, monkeypatch):
        monkeypatch.setenv("COLUMNS", "300")
        entry.folder.parent.chmod(0o777)
        assert main(["info"]) == 0
        out = capsys.readouterr().out
        assert f"{entry.folder.parent} (refused: others can write it)" in out
        assert "the kernels in the cache can't be trusted" in out


def given_to_another(path, monkeypatch):
    """Make a path another user's; only root can, so that others become another user themselves."""
    if os.getuid() == 0:
        os.chown(path, 4242, -1)
    else:
        uid = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: uid + 1)


WRITES = [
    ("mkdir", "locks"),
    ("mkdir", "logs"),
    ("mkdir", "build"),
    ("write_text", ".log"),
    ("write_text", "ninja"),
    ("write_text", "build.json"),
    ("rename", "cpu-"),
]


class TestFullDisk:
    """Whatever can't be written ends in an error by name, and leaves nothing half written."""

    @pytest.mark.parametrize(("call", "name"), WRITES, ids=str)
    def test_of_the_build(self, csrc, tmp_path, monkeypatch, call, name):
        with full_disk(monkeypatch, tmp_path / "cache", call, name):
            said = refused()
        self.check_nothing_is_left(said, tmp_path / "cache")

    def test_at_the_end(self, csrc, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", no_space)
            said = refused()
        assert said.startswith("the CPU kernels can't be written\n")
        assert f"No space left on device (in {tmp_path / 'cache'})\n" in said
        assert "to mend it: free space there, or name another folder" in said
        self.check_nothing_is_left(said, tmp_path / "cache")

    @pytest.mark.parametrize(("call", "name"), [("write_text", "neuron.h"), ("open", ".log")])
    def test_of_a_compiled_neuron(self, toy, tmp_path, monkeypatch, call, name):
        full = full_disk(monkeypatch, tmp_path / "cache", call, name)
        with full, pytest.raises(BuildError, match="No space left on device"):
            loader.compiled_neuron_path("cpu", TOY)
        assert leftovers(tmp_path / "cache") == []
        assert loader.compiled_neuron_path("cpu", TOY).is_file()

    def test_that_a_forced_build_meets_keeps_the_entry_that_is_there(self, csrc, monkeypatch):
        entry, _ = ensure_cpu()
        full = full_disk(monkeypatch, entry.folder.parent, "write_text", "build.json")
        with full, pytest.raises(BuildError, match="No space left on device"):
            ensure_cpu(force=True)
        assert ensure_cpu() == (entry, False)

    def test_of_a_build_ahead(self, csrc, monkeypatch):
        from snnkernels._build.ahead import build_ahead

        full = full_disk(monkeypatch, loader.PREBUILT_DIR, "write_text", ".json")
        with full, pytest.raises(BuildError, match="No space left on device"):
            build_ahead(["cpu"], loader.PREBUILT_DIR)
        assert leftovers(loader.PREBUILT_DIR) == []
        assert loader.prebuilt("cpu")[0] is None

    def test_that_leaves_no_temporary_folder_lets_the_cache_be_read(self, csrc, monkeypatch):
        def none_usable():
            raise FileNotFoundError(2, "No usable temporary directory found")

        entry, _ = ensure_cpu()
        monkeypatch.setattr(cache.tempfile, "gettempdir", none_usable)
        assert ensure_cpu() == (entry, False)

    def check_nothing_is_left(self, said, folder):
        assert "No space left on device" in said
        assert cache.entries() == []
        assert leftovers(folder) == []
        loader._outcomes.clear()
        assert loader.load("cpu").origin == "jit"


def no_space(*_):
    raise OSError(28, os.strerror(28))


@contextlib.contextmanager
def full_disk(monkeypatch, folder, call, name):
    """Let a method of paths fail on what has `name` in its own name within `folder`."""
    method = getattr(Path, call)

    def refuse(path, *arguments, **options):
        if name in path.name and path.is_relative_to(folder):
            no_space()
        return method(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, refuse)
        yield


class TestRemovedDuringTheBuild:
    @pytest.fixture
    def remove(self, csrc, tmp_path, monkeypatch):
        """Make $CXX a compiler that removes something in the cache before it compiles."""

        def remove(pattern):
            script = f'case "$*" in *" -c "*) rm -rf {tmp_path}/cache/{pattern};; esac'
            program = write_program(tmp_path / "bin" / "c++", f'{script}\nexec c++ "$@"')
            monkeypatch.setenv("CXX", str(program))

        return remove

    def test_a_build_does_without_its_log(self, remove, load):
        remove("logs")
        folder = load().parent
        assert (folder / cache.MANIFEST).is_file()
        assert not (folder / cache.LOG).exists()

    def test_a_failure_is_still_told(self, remove, csrc):
        remove("logs")
        (csrc / "ops.cpp").write_text("broken\n")
        assert "failed while building the CPU kernels" in refused()

    def test_without_its_folder_it_fails_by_name(self, remove, load):
        remove(".tmp-*")
        with pytest.raises(BuildError, match="the CPU kernels"):
            load()


class TestForce:
    def test_builds_what_a_clock_that_is_ahead_has_dated(self, csrc, counting_cxx):
        entry, _ = ensure_cpu()
        path = entry.folder / cache.MANIFEST
        fields = json.loads(path.read_text())
        path.write_text(json.dumps({**fields, "created": fields["created"] + 1e7}))
        compiles = counting_cxx()
        assert ensure_cpu(force=True)[1]
        assert counting_cxx() == 2 * compiles

    def test_takes_what_another_process_has_built_meanwhile(self, csrc, monkeypatch):
        first, _ = ensure_cpu()
        locked = cache.locked
        others = []

        @contextlib.contextmanager
        def waiting(*arguments):
            with monkeypatch.context() as patch:
                patch.setattr(cache, "locked", locked)
                others.append(ensure_cpu(force=True)[0])
            yield

        monkeypatch.setattr(cache, "locked", waiting)
        assert ensure_cpu(force=True) == (others[0], False)
        assert others[0] != first
