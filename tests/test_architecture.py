"""The folders of the package say what it consists of, and who may know of whom."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from snnkernels._backends.base import KernelBackend
from snnkernels._backends.selection import BACKENDS

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
    ("examples", "__main__"),
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
    while graph:
        free = [name for name, needs in graph.items() if not needs & graph.keys()]
        assert free, {name: needs & graph.keys() for name, needs in graph.items()}
        for name in free:
            del graph[name]


BELOW = {each for floor in FLOORS[: FLOORS.index(("_backends",))] for each in floor}
MAY_NAME_A_BACKEND = "_backends.native", "_backends.nvrtc.", "_backends.plain", "__main__"


@pytest.mark.parametrize(
    "name",
    [name for name in FILES if room(name) not in BELOW and not name.startswith(MAY_NAME_A_BACKEND)],
)
def test_a_backend_is_known_by_its_name_in_its_own_module_alone(name):
    tree = ast.parse(FILES[name].read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    namespaces = {each.namespace for each in BACKENDS.values() if isinstance(each, KernelBackend)}
    assert words.isdisjoint(BACKENDS.keys() | namespaces - {"snnkernels"})


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def defined_here() -> set[str]:
    """The names that begin with an underscore and are this package's own, or a field of its own."""
    found = set()
    for path in FILES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                found.add(node.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.update([node.attr] if is_ours(node) else [])
    return found


def is_ours(node: ast.Attribute) -> bool:
    return ast.unparse(node.value) in ("self", "cls") or node.attr.startswith("_snn_")


PYTORCHS = {*dir(torch.Tensor), *dir(nn.Conv2d(1, 1, 1)), *dir(torch.autograd.Function)}
OWN = (defined_here() | {path.parent.name for path in FILES.values()}) - PYTORCHS
OF_PYTHON = {"_at_fork_reinit", "_fields", "_getframe", "_replace"}


def private_names(path: Path) -> set[str]:
    """What a file uses of others that starts with an underscore."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) != "super()":
            names = [node.attr]
        else:
            continue
        found.update(name for name in names if is_private(name))
    return found - OWN - OF_PYTHON


@pytest.mark.parametrize("name", FILES)
def test_what_is_private_in_pytorch_is_used_in_one_file(name):
    found = private_names(FILES[name])
    assert bool(found) == (name == "_core.torch_private"), found


def test_the_architecture_lists_the_rooms_in_their_order():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("| room |")[1].split("\n\n")[0]
    listed = [re.findall(r"`([\w]+)", row.split("|")[1]) for row in table.splitlines()[2:]]
    rooms = [name for row in listed for name in row]
    floors = [place for name in rooms for place, floor in enumerate(FLOORS) if name in floor]
    assert {*rooms, "__init__"} == {name for floor in FLOORS for name in floor}
    assert floors == sorted(floors)
