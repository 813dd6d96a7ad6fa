"""README and documents: their Python runs, their commands exist, their links lead somewhere."""

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
import torch

from snnkernels import FallbackWarning, __version__, functional, neuron, surrogate

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))]
}
NEURONS, SURROGATES = PAGES["docs/neurons.md"], PAGES["docs/surrogates.md"]


def blocks(page: str, language: str) -> list[str]:
    fenced = rf"^```{language}\n(.*?)^```$"
    return re.findall(fenced, PAGES[page], flags=re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    return re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)


PYTHON = [
    pytest.param(source, id=f"{Path(page).stem}-{number}")
    for page in PAGES
    for number, source in enumerate(blocks(page, "python"))
    if not re.match(r"(import|from) (snntorch|spikingjelly)\b", source)  # see test_convert.py
]


@pytest.mark.parametrize("source", PYTHON)
def test_each_python_block_runs(source, tmp_path, monkeypatch):
    """From a file, as a reader would run it: refusals quote the line."""
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "block.py"
    script.write_text(source, encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FallbackWarning)
        exec(compile(source, str(script), "exec"), {"__name__": "block"})


def test_the_first_example_trains_every_layer():
    torch.manual_seed(0)
    names: dict = {}
    exec(blocks("README.md", "python")[0], names)
    assert all(p.grad.abs().sum() > 0 for p in names["net"].parameters())
    assert names["net"][1].v == 0.0
    assert names["rates"].mean() > 0.01


def test_the_test_command_stands_below_its_marker():
    assert "<!-- the test command -->\n```bash\nscripts/test\n```\n" in PAGES["README.md"]


def commands() -> dict[str, set[str]]:
    """Every ``python -m ...`` of blocks and sentences, with the long flags it is called with."""
    found: dict[str, set[str]] = {}
    for page in PAGES:
        lines = "\n".join(blocks(page, "bash")).splitlines()
        for line in [*lines, *re.findall(r"`(python -m [^`]+)`", prose(page))]:
            match = re.search(
                r"-m ((?:snnkernels|benchmarks)(?: [a-z][a-z-]*|[.\w]*\w)?)(?![.\w])", line
            )
            if match:
                used = re.findall(r"(?<!\S)--[\w-]+", line[match.end() :].split(" #")[0])
                found.setdefault(match[1], set()).update(used)
    return found


@pytest.mark.filterwarnings("ignore:.* found in sys.modules:RuntimeWarning")
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
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, __file__], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def headings(page: Path) -> set[str]:
    """The anchors of a page."""
    text = prose(page.relative_to(ROOT).as_posix())
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def links(page: str) -> list[tuple[str, str]]:
    return re.findall(r"\]\(([\w./-]*)(?:#([\w-]+))?\)", prose(page))


def test_links_are_found_with_and_without_headings():
    assert ("docs/install.md", "") in links("README.md")
    assert ("neurons.md", "charge-fire-reset") in links("docs/numerics.md")


def test_the_parts_of_the_readme_on_the_first_page_of_the_site_end_on_lines_of_their_own():
    """What stands on the line of a marker is left out."""
    for part in re.findall(r'--8<-- "README.md:(\w+)"', PAGES["docs/index.md"]):
        for side in ("start", "end"):
            assert f"\n<!-- --8<-- [{side}:{part}] -->\n" in PAGES["README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    """What stands in docs/ may lead to docs/ alone, which is all that the site has."""
    folder = (ROOT / page).parent
    for target, anchor in links(page):
        file = (folder / target).resolve() if target else ROOT / page
        assert file.exists(), target
        assert page.startswith("docs/") <= file.is_relative_to(ROOT / "docs"), target
        assert not anchor or anchor in headings(file), f"{target}#{anchor}"


def test_every_script_that_is_named_is_there():
    named = re.findall(r"\bscripts/[\w.]+", "\n".join(PAGES.values()))
    assert {"scripts/demo", "scripts/test"} <= set(named)
    assert [name for name in named if not (ROOT / name.rstrip(".")).exists()] == []


def test_every_document_has_its_place_on_the_site():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")]
    assert [page for page in pages if f": {page}\n" not in site] == []


def test_every_surrogate_is_listed_with_its_defaults():
    for cls, name in surrogate.BUILT_IN.items():
        values = cls()
        shown = [f"`{p}={getattr(values, p)}`" for p in cls.parameter_names]
        assert f"| `{name}` | {', '.join(shown)} |" in SURROGATES


def test_every_neuron_and_function_is_listed():
    for name in neuron.__all__:
        assert name.startswith(("Base", "MultiStep")) or f"| `{name}` | " in NEURONS
    for name in functional.__all__:
        assert any(re.search(rf"\bfunctional\.{name}\b", page) for page in PAGES.values()), name


def test_every_argument_of_all_neurons_is_listed_with_its_default():
    for name, parameter in inspect.signature(neuron.BaseNode).parameters.items():
        default = parameter.default
        shown = "Sigmoid()" if default is None else repr(default).replace("'", '"')
        assert f"| `{name}` | `{shown}` |" in NEURONS


def test_the_docstring_of_all_neurons_has_the_defaults_of_their_arguments():
    text = inspect.getdoc(neuron.BaseNode)
    for name, parameter in inspect.signature(neuron.BaseNode).parameters.items():
        described = re.search(rf"^    {name}: (.*?)[.;]\s", text, re.MULTILINE | re.DOTALL)[1]
        assert repr(parameter.default).replace("'", '"') in described, name


def test_every_neuron_is_listed_with_its_own_arguments_and_their_defaults():
    shared = inspect.signature(neuron.BaseNode).parameters
    for name in neuron.__all__:
        if name.startswith(("Base", "MultiStep")):
            continue
        row = next(line for line in NEURONS.splitlines() if line.startswith(f"| `{name}` |"))
        for parameter, given in inspect.signature(getattr(neuron, name)).parameters.items():
            if given.kind == given.VAR_KEYWORD:
                continue
            shown = f"={given.default!r}" if given.default is not given.empty else ""
            listed = f"`{parameter}{shown}`" in row
            assert parameter in shared or listed, f"{name}: {parameter}{shown}"


def test_changes_and_citation_are_those_of_this_version():
    assert re.search(rf"^## {re.escape(__version__)}(,.*)?$", PAGES["CHANGELOG.md"], re.MULTILINE)
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
