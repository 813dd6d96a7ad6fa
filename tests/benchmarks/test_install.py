"""Packages of peers, from a folder of wheels that the tests write themselves."""

from __future__ import annotations

import re
import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import fake_adapter
import pytest
import torch
from rich.console import Console

from benchmarks.__main__ import make_parser
from benchmarks.peers import command, install
from benchmarks.peers.install import InstallFailed
from benchmarks.peers.process import PeerProcess
from benchmarks.peers.spec import Peer, peers


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


@pytest.fixture(autouse=True)
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Requirement files of the fake peers, and pip without network."""
    folder = tmp_path / "requirements"
    folder.mkdir()
    (folder / "installed.txt").write_text("fakepeer==1.0\n")
    (folder / "missing.txt").write_text("no-such-fakepeer==1.0\n")
    (folder / "build.txt").write_text("faketool==2.0\n")
    # It asks for another torch, as libraries do; that must not be followed.
    write_wheel(tmp_path, "fakepeer", "1.0", "Requires-Dist: torch==0.1\n")
    write_wheel(tmp_path, "faketool", "2.0")
    monkeypatch.setattr(install, "REQUIREMENTS", folder)
    for name, value in (
        ("XDG_CACHE_HOME", tmp_path / "cache"),
        ("PIP_NO_INDEX", "1"),
        ("PIP_FIND_LINKS", tmp_path),
        ("PYTHONPATH", Path(__file__).parent),
    ):
        monkeypatch.setenv(name, str(value))
    return folder


def fake(name: str) -> Peer:
    (peer,) = [peer for peer in fake_adapter.PEERS if peer.name == name]
    return replace(peer, adapter="fake_adapter")


def test_a_peer_runs_on_its_packages_and_on_our_very_torch(tmp_path: Path):
    peer = fake("installed")
    assert not install.installed(peer)
    install.install(peer)
    assert install.installed(peer)
    folder = install.packages(peer)
    assert folder and (folder / "fakepeer.py").is_file() and not (folder / "torch").exists()
    with PeerProcess(peer, folder, tmp_path / "log", threads=1) as process:
        assert process.versions["fake"] == "1.0"
        assert process.versions["torch"] == torch.__version__


def test_packages_are_installed_once(monkeypatch):
    install.install(fake("installed"))
    monkeypatch.setattr(install, "_pip", lambda *_: pytest.fail("installed again"))
    install.install(fake("installed"))


def test_a_folder_without_its_mark_is_not_used_and_filled_anew():
    folder = install.packages(fake("installed"))
    assert folder
    folder.mkdir(parents=True)
    assert not install.installed(fake("installed"))
    (folder / "rubbish").touch()
    install.install(fake("installed"))
    assert not (folder / "rubbish").exists()
    assert install.installed(fake("installed"))


def test_whoever_builds_a_peer_finds_the_build_tools_and_what_the_peer_asks_for(monkeypatch):
    seen = {}

    def pip(command, *, env, **rest):
        seen[Path(command[-1]).stem] = env
        Path(command[command.index("--target") + 1]).mkdir(parents=True, exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(install.subprocess, "run", pip)
    install.install(replace(fake("installed"), build={"FAKE_BUILD": "1"}))
    assert seen["installed"]["FAKE_BUILD"] == "1"
    assert Path(seen["installed"]["PYTHONPATH"]).name.startswith("build-")
    assert Path(seen["installed"]["PATH"].split(":")[0]).parent.name.startswith("build-")
    assert "FAKE_BUILD" not in seen["build"]


def test_a_package_that_cannot_be_had_is_the_reason():
    with pytest.raises(InstallFailed, match=r"no-such-fakepeer==1\.0"):
        install.install(fake("missing"))
    assert not install.installed(fake("missing"))


def test_a_step_that_takes_too_long_is_the_reason(monkeypatch):
    monkeypatch.setattr(install, "LIMIT", 0.01)
    with pytest.raises(InstallFailed, match="pip took longer than"):
        install.install(fake("installed"))


def test_other_requirements_or_another_torch_are_another_folder(requirements: Path, monkeypatch):
    peer = fake("installed")
    first = install.packages(peer)
    assert first == install.packages(peer)
    assert install.packages(replace(peer, build={"A": "1"})) != first
    monkeypatch.setattr(install.torch, "__version__", "9.9.9")
    other = install.packages(peer)
    assert other != first
    (requirements / "installed.txt").write_text("fakepeer==1.1\n")
    assert install.packages(peer) != other


def test_peers_that_cannot_be_installed_are_named_and_the_others_installed(monkeypatch, capsys):
    monkeypatch.setattr(
        command, "peers", lambda: [fake(n) for n in ("native", "missing", "installed")]
    )
    options = make_parser().parse_args(["install", "--device", "cpu"])
    assert command.install(options, Console(width=200)) == 1
    said = capsys.readouterr().out
    assert "Fake missing: left out:" in said and "no-such-fakepeer==1.0" in said
    assert "Fake installed: installed" in said


def test_every_requirement_of_every_peer_is_pinned_and_none_is_torch(monkeypatch):
    monkeypatch.undo()
    files = {
        path.stem: path.read_text().splitlines() for path in install.REQUIREMENTS.glob("*.txt")
    }
    assert set(files) == {p.requirements for p in peers() if p.requirements} | {"build"}
    for lines in files.values():
        for line in lines:
            assert re.fullmatch(r"[\w.-]+==[\w.]+(; python_version .*)?", line)
            assert line.partition("==")[0] not in ("torch", "torchvision")


def test_pip_s_own_settings_come_through(monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    with pytest.raises(InstallFailed):
        install.install(fake("installed"))
