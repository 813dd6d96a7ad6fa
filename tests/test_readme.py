"""The README: its Python runs, its commands exist, and its links lead somewhere."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from snnkernels import FallbackWarning, functional, neuron, surrogate

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROSE = re.sub(r"```.*?```", "", README, flags=re.DOTALL)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> dict[str, set[str]]:
    """Every ``python -m ...`` of the README, with the long flags it is called with."""
    found: dict[str, set[str]] = {}
    for line in "\n".join(blocks("bash")).splitlines():
        match = re.match(r"python -m ((?:snnkernels|benchmarks) [a-z-]+|[\w.]+)", line)
        if match:
            used = re.findall(r"(?<!\S)--[\w-]+", line.split(" #")[0])
            found.setdefault(match[1], set()).update(used)
    return found


@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.splitlines()[-1])
def test_each_python_block_runs(source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        exec(compile(source, "README.md", "exec"), {"__name__": "readme"})


def test_the_first_example_trains_every_layer():
    names: dict = {}
    exec(blocks("python")[0], names)
    assert all(p.grad.abs().sum() > 0 for p in names["net"].parameters())
    assert names["net"][1].v == 0.0


def test_the_test_command_stands_below_its_marker():
    assert "<!-- the test command -->\n```bash\nscripts/test\n```\n" in README


@pytest.mark.parametrize(("module", "flags"), commands().items(), ids=commands())
def test_each_command_exists_with_its_flags(module, flags, capsys, monkeypatch):
    name, *words = module.split()
    monkeypatch.setattr(sys, "argv", [name, *words, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    assert ended.value.code in (None, 0)
    known = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert flags <= known


def test_the_tests_run_without_pytests_cache():
    environment = {k: v for k, v in os.environ.items() if k != "SNNKERNELS_CACHE_DIR"}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--collect-only",
            "-q",
            __file__,
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_script_and_linked_file_is_there():
    linked = re.findall(r"\]\(([\w./-]+)", PROSE)
    scripts = re.findall(r"^scripts/\w+", "\n".join(blocks("bash")), flags=re.MULTILINE)
    assert linked and len(scripts) == 2
    assert [name for name in (*linked, *scripts) if not (ROOT / name).exists()] == []


def test_every_surrogate_is_listed_with_its_defaults():
    for cls, name in surrogate.BUILT_IN.items():
        values = cls()
        shown = [f"`{p}={getattr(values, p)}`" for p in cls.parameter_names]
        assert f"| `{name}` | {', '.join(shown)} |" in README


def test_every_neuron_and_function_is_listed():
    for name in neuron.__all__:
        assert name.startswith(("Base", "MultiStep")) or f"| `{name}` | " in README
    for name in functional.__all__:
        assert re.search(rf"\b{name}\b", README), name


def test_every_argument_of_all_neurons_is_listed_with_its_default():
    for name, parameter in inspect.signature(neuron.BaseNode).parameters.items():
        default = parameter.default
        shown = "Sigmoid()" if default is None else repr(default).replace("'", '"')
        assert f"| `{name}` | `{shown}` |" in README


def test_every_neuron_is_listed_with_its_own_arguments_and_their_defaults():
    shared = inspect.signature(neuron.BaseNode).parameters
    for name in neuron.__all__:
        if name.startswith(("Base", "MultiStep")):
            continue
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}` |"))
        for parameter, given in inspect.signature(getattr(neuron, name)).parameters.items():
            shown = f"`{parameter}={given.default!r}`"
            assert name == "GLIFNode" or parameter in shared or shown in row, f"{name}: {shown}"
