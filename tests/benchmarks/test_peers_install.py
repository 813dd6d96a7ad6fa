"""Environments of peers, made from a folder of wheels that the tests write themselves."""

from __future__ import annotations

import json
import platform
import sys
import sysconfig
import zipfile
from pathlib import Path

import fake_adapter
import pytest
import torch
from rich.console import Console

from benchmarks import arguments
from benchmarks.peers import catalogue, command, install
from benchmarks.peers.catalogue import Entry
from benchmarks.peers.install import InstallFailed, Place
from benchmarks.peers.spec import Environment

HERE = str(Path(__file__).parent)


@pytest.fixture(autouse=True)
def adapter_on_the_path(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", HERE)


def write_wheel(folder: Path, name: str, version: str, requires: str = "") -> None:
    """A wheel with one module that names its version."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        wheel.writestr(f"{about}/METADATA", metadata)
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    # It asks for another torch, as libraries do; that must not be followed.
    write_wheel(wheels, "fakepeer", "1.0", "Requires-Dist: torch==0.1\n")
    return Place(tmp_path / "environments", wheels, limit=120)


def entry(name: str) -> Entry:
    (peer,) = [peer for peer in fake_adapter.PEERS if peer.name == name]
    return Entry(peer, "fake_adapter")


def test_a_peer_that_shares_our_torch_runs_on_the_very_same_one(place: Place):
    install.install(entry("sharing"), place)
    python = place.python(entry("sharing"))
    assert python is not None
    marked = json.loads((python.parent.parent / install.MARK).read_text())
    assert marked["fake"] == "1.0"
    assert marked["torch"] == torch.__version__
    own = list(python.parent.parent.glob("lib/python*/site-packages/torch"))
    assert own == []


def test_an_environment_is_made_once(place: Place, monkeypatch):
    install.install(entry("sharing"), place)
    monkeypatch.setattr(install, "make", lambda *_: pytest.fail("made again"))
    install.install(entry("sharing"), place)


def test_an_environment_without_its_mark_is_not_used_and_made_anew(place: Place):
    assert place.python(entry("sharing")) is None
    folder = place.environment(fake_adapter.SHARING)
    folder.mkdir(parents=True)
    assert place.python(entry("sharing")) is None
    (folder / "rubbish").touch()
    install.install(entry("sharing"), place)
    assert not (folder / "rubbish").exists()
    assert place.python(entry("sharing")) is not None


def test_a_source_is_built_unless_it_came_as_a_wheel_for_this_platform(tmp_path: Path):
    assert not install.is_built("some-peer==1.0", None)
    (tmp_path / "some_peer-1.0.tar.gz").touch()
    (tmp_path / "some_peer-1.0-py3-none-any.whl").touch()
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    system = sysconfig.get_platform().replace("-", "_")
    (tmp_path / f"some_peer-1.1-{python}-{python}-{system}.whl").touch()
    (tmp_path / f"some_peer-1.0-cp35-cp35-{system}.whl").touch()
    (tmp_path / f"some_peer-1.0-{python}-{python}-linux_elsewhere.whl").touch()
    assert not install.is_built("some-peer==1.0", tmp_path)
    (tmp_path / f"some_peer-1.0-{python}-{python}-{system}.whl").touch()
    assert install.is_built("some-peer==1.0", tmp_path)


def test_a_wheel_for_any_linux_of_this_machine_counts_as_built(tmp_path: Path):
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    name = f"some_peer-1.0-{python}-{python}-manylinux_2_28_{platform.machine()}.whl"
    (tmp_path / name).touch()
    assert install.is_built("some-peer==1.0", tmp_path)


def test_a_package_that_cannot_be_had_is_the_reason(place: Place):
    with pytest.raises(InstallFailed, match=r"no-such-fakepeer==1\.0"):
        install.install(entry("missing"), place)
    assert place.python(entry("missing")) is None


def test_a_step_that_takes_too_long_is_the_reason(tmp_path: Path):
    with pytest.raises(InstallFailed, match="took longer than 1 s"):
        install.run(["sleep", "20", "20"], tmp_path, 1)


def test_another_torch_is_refused(place: Place, monkeypatch):
    monkeypatch.setattr(install.torch, "__version__", "9.9.9")
    with pytest.raises(InstallFailed, match=r"it runs on torch .*, not on 9\.9\.9"):
        install.install(entry("sharing"), place)
    assert place.python(entry("sharing")) is None


def test_other_requirements_or_another_torch_are_another_environment(tmp_path, monkeypatch):
    place = Place(tmp_path)
    first = place.environment(Environment(("a==1",)))
    assert first.name.startswith("a-1-")
    assert place.environment(Environment(("a==1",))) == first
    assert place.environment(Environment(("a==1", "b==2"))) != first
    monkeypatch.setattr(install.torch, "__version__", "9.9.9")
    assert place.environment(Environment(("a==1",))) != first


def test_peers_that_cannot_be_installed_are_named_and_the_others_installed(
    place: Place, monkeypatch, capsys
):
    found = [entry("native"), entry("missing"), entry("sharing")]
    monkeypatch.setattr(command, "entries", lambda: found)
    options = arguments.parse(["--install-peers", "--peer-wheels", str(place.wheels)])
    options.peers_dir = place.folder
    assert command.install_peers(options, Console(width=200)) == 1
    said = capsys.readouterr().out
    assert "1/2 Fake missing: left out:" in said and "no-such-fakepeer==1.0" in said
    assert "2/2 Fake sharing: installed" in said


def test_every_requirement_of_every_peer_is_pinned():
    for found in catalogue.entries():
        environment = found.peer.environment
        if environment:
            for requirement in (
                *environment.requirements, *environment.sources, *environment.build_requirements
            ):  # fmt: skip
                assert "==" in requirement, found.peer.name
                assert install.name_of(requirement) not in ("torch", "torchvision")


def test_the_catalogue_begins_with_ours_and_has_each_name_once():
    names = [found.peer.name for found in catalogue.entries()]
    assert names[:4] == ["native", "dense", "loop", "compile"]
    assert len(set(names)) == len(names)


def test_a_requirement_follows_the_major_version_of_cuda(monkeypatch):
    monkeypatch.setattr(install.torch.version, "cuda", "13.0")
    assert install.located("cupy-cuda{cuda_major}x==14.2.0") == "cupy-cuda13x==14.2.0"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Looking\nERROR: Could not find a version that satisfies x==1\nERROR: No matching x\n",
         "ERROR: Could not find a version that satisfies x==1 | ERROR: No matching x"),
        ("building\n  OSError: CUDA_HOME is not set.\nerror: subprocess-exited-with-error\n",
         "OSError: CUDA_HOME is not set."),
        ("", "it said nothing"),
    ],
)  # fmt: skip
def test_the_reason_is_what_went_wrong_first(said: str, told: str):
    assert install.reason(said) == told
