from datetime import datetime

import pytest

from snnkernels.__main__ import main
from snnkernels._build import loader
from snnkernels._build.plan import plan_build


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_info_says_all_it_promises_and_builds_nothing(csrc, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for title in ("Versions", "Devices", "Compilers", "Backends", "Kernels built"):
        assert title in out
    for name in ("torch", "Python", "platform", "CPU", "CUDA", "nvcc", "NVRTC", "cache folder"):
        assert name in out
    assert str(tmp_path / "cache") in out
    assert "no kernels yet" in out
    assert not (tmp_path / "cache").exists()


def test_info_lists_what_is_built(csrc, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    entry, _ = loader.ensure(plan_build("cpu"))
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "of " + datetime.fromtimestamp(entry.manifest.created).strftime("%Y-%m-%d") in out
    assert f"took {entry.manifest.seconds:.1f} s" in out
    assert "-O3" in out


def test_info_counts_what_the_same_tools_built_for_the_same_target(csrc, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    loader.ensure(plan_build("cpu"))
    (csrc / "include" / "twice.h").write_text("inline int twice(int x) { return x + x; }\n")
    loader.ensure(plan_build("cpu"))
    assert main(["info"]) == 0
    assert "2 builds, the newest of" in capsys.readouterr().out


def test_info_without_a_compiler_says_why_and_what_is_used(csrc, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "not used  'no-such-compiler' is not there" in out
    assert "no usable C++ compiler" in out


def test_info_fits_a_narrow_terminal_without_losing_a_path(csrc, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    main(["info"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 60
    assert "…" not in out


def test_build_builds_once_and_says_where(csrc, tmp_path, capsys):
    assert main(["build", "--device", "cpu"]) == 0
    assert "CPU: built in " in capsys.readouterr().out
    assert main(["build", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "CPU: already in the cache" in out
    assert str(tmp_path / "cache") in out


def test_force_builds_again(csrc, capsys):
    main(["build", "--device", "cpu"])
    capsys.readouterr()
    assert main(["build", "--device", "cpu", "--force"]) == 0
    assert "CPU: built in " in capsys.readouterr().out


def test_a_failed_build_exits_with_one_and_the_whole_error(csrc, capsys):
    (csrc / "ops.cpp").write_text("broken\n")
    assert main(["build", "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert "snnkernels: compiling ops.cpp failed" in err
    assert "first error:" in err


def test_cuda_by_name_fails_where_torch_has_none(csrc, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert main(["build", "--device", "cuda", "--arch", "9.0"]) == 1
    assert "this torch has no CUDA" in capsys.readouterr().err


def test_all_skips_cuda_where_torch_has_none_and_says_so(csrc, capsys, monkeypatch):
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    assert main(["build"]) == 0
    out = capsys.readouterr().out
    assert "CPU: built in" in out
    assert "CUDA: skipped, this torch has no CUDA" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["biuld"], "invalid choice: 'biuld'"),
        (["build", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
        (["build", "--arch", "hopper"], "--arch: expected GPU architectures such as"),
    ],
)
def test_a_bad_argument_is_refused_by_name(csrc, capsys, arguments, message):
    assert message in refused(capsys, *arguments)


def test_an_architecture_for_the_cpu_is_refused(csrc, capsys):
    assert main(["build", "--device", "cpu", "--arch", "9.0"]) == 2
    assert "--arch names GPU architectures; --device is cpu" in capsys.readouterr().err


def test_help_names_the_environment_variables(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for name in ("SNNKERNELS_CACHE_DIR", "SNNKERNELS_VERBOSE", "CUDA_HOME", "MAX_JOBS", "CXX"):
        assert name in out
