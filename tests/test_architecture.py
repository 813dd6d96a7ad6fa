"""The folders of the package say what it consists of, and who may know of whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "snnkernels"
FLOORS = (
    ("_core",),
    ("_build", "_codegen", "reference"),
    ("surrogate",),
    ("_backends",),
    ("_spikes",),
    ("_call",),
    ("neuron", "encoding", "memory"),
    ("functional",),
    ("layer", "monitor"),
    ("convert", "nir", "visualizing"),
    ("__init__",),
    ("__main__", "examples"),
)
"""What the package consists of, each floor on those before it."""


def files() -> dict[str, Path]:
    """Every module by its dotted name, a package as its ``__init__``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts)] = path
    return found


FILES = files()


def imported(name: str) -> Iterator[str]:
    """The modules that one imports, anywhere but for type checkers."""
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module.split(".") if node.module else []
        if node.level:
            base = [*name.split(".")[: -node.level], *module]
        elif module[:1] == ["snnkernels"]:
            base = module[1:]
        else:
            continue
        for alias in node.names:
            for parts in ([*base, alias.name], [*base, alias.name, "__init__"], base):
                if ".".join(parts) in FILES:
                    yield ".".join(parts)
                    break
            else:
                yield ".".join([*base, "__init__"])


def room(name: str) -> str:
    return name.split(".")[0]


def test_every_module_stands_on_one_floor():
    rooms = [each for floor in FLOORS for each in floor]
    assert len(rooms) == len(set(rooms))
    assert {room(name) for name in FILES} == set(rooms)


@pytest.mark.parametrize("name", FILES)
def test_a_module_knows_its_own_room_and_the_floors_below(name):
    known: set[str] = {room(name)}
    for floor in FLOORS:
        if room(name) in floor:
            break
        known.update(floor)
    strangers = {other for other in imported(name) if room(other) not in known}
    assert not strangers


def test_no_modules_import_each_other_in_a_circle():
    graph = {name: set(imported(name)) - {name} for name in FILES}
    for name in graph:  # a package imports its parts, and they do not import it
        graph[name] -= {f"{name.rpartition('.')[0]}.__init__"}
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, {name: needs & graph.keys() for name, needs in graph.items()}
        for name in free:
            del graph[name]


def private_names(path: Path) -> Iterator[str]:
    """What a file uses of PyTorch that starts with an underscore, by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("torch")]
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            names = [text] if text.startswith(("torch.", "forward_ad.", "nn.")) else []
        else:
            continue
        for name in names:
            if any(part.startswith("_") and not part.startswith("__") for part in name.split(".")):
                yield name


@pytest.mark.parametrize("name", FILES)
def test_what_is_private_in_pytorch_is_used_in_one_file(name):
    found = set(private_names(FILES[name]))
    assert bool(found) == (name == "_core.torch_private"), found


def test_the_architecture_names_every_room():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for floor in FLOORS[:-2]:
        for name in floor:
            assert f"`{name}" in text, name
