"""What a function reads besides its arguments: found in its code, noted, and compared later.

A trace bakes in what a function finds in its module and in the functions around it. So these values
are noted, and whoever keeps a trace asks whether they have changed since.
"""

from __future__ import annotations

import builtins
import dis
import sys
from collections.abc import Callable, Iterator, Mapping
from numbers import Number
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import torch

from .errors import step_error

_PACKAGES = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
_FIXED = sys.stdlib_module_names | {"numpy", "snnkernels", "torch"}
_BY_CHANCE = ("random", "secrets", "time", "numpy.random")
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_MEMBERS = ("LOAD_ATTR", "LOAD_METHOD")
_ABSENT = object()


class Outside:
    """The values that functions, and those of the author's that they call, read from outside.

    That is numbers, strings and functions, and tuples, lists and dicts of them, by names or by
    attributes of names. The modules of Python, numpy and torch are taken to stay as they are.

    Raises:
        StepError: a function asks for random numbers or for the time.
    """

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._reads: list[_Read] = []
        seen: set[CodeType] = set()
        for function in functions:
            self._look_into(function, seen)
        self._noted = self._now()

    @property
    def has_changed(self) -> bool:
        """Whether any of the values is another one than at first."""
        return bool(self._reads) and self._now() != self._noted

    def _now(self) -> list[object]:
        return [_frozen(read.value()) for read in self._reads]

    def _look_into(self, function: Callable[..., Any], seen: set[CodeType]) -> None:
        code = function.__code__
        if code in seen or code.co_filename.startswith(_PACKAGES):
            return
        seen.add(code)
        for read in _reads_of(function):
            values = list(read.values())
            if any(map(_is_by_chance, values)):
                raise step_error(
                    "random numbers or the time, from Python or numpy",
                    "a function that gives the same for the same arguments",
                    "draw the noise outside, for all steps at once, and add it to the input",
                    (code.co_filename, read.line),
                )
            if any(_is_fixed(value) for value in values):
                continue
            if isinstance(values[-1], FunctionType):
                self._look_into(values[-1], seen)
            if _frozen(values[-1]) is not None:
                self._reads.append(read)


class _Read:
    """A name from outside, and the attributes that are read of it, one of the other."""

    def __init__(self, scope: Mapping[str, Any], name: str, line: int) -> None:
        self.line = line
        self._scope = scope
        self._name = name
        self._attributes: list[str] = []

    def append(self, attribute: str) -> None:
        self._attributes.append(attribute)

    def values(self) -> Iterator[Any]:
        """What the name stands for, then each attribute, as far as there are any."""
        value = self._scope.get(self._name, vars(builtins).get(self._name, _ABSENT))
        if isinstance(value, CellType):
            value = _contents(value)
        yield value
        for attribute in self._attributes:
            value = getattr(value, attribute, _ABSENT)
            yield value

    def value(self) -> Any:
        *_, last = self.values()
        return last


def _reads_of(function: Callable[..., Any]) -> Iterator[_Read]:
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    codes = [code]
    while codes:
        code = codes.pop()
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        read, line = None, code.co_firstlineno
        for instruction in dis.get_instructions(code):
            line = _line(instruction) or line
            name = instruction.argval
            if instruction.opname in _MEMBERS and read is not None:
                read.append(name)
                continue
            if read is not None:
                yield read
                read = None
            if instruction.opname in _LOADS and (
                instruction.opname != "LOAD_DEREF" or name in cells
            ):
                scope = cells if instruction.opname == "LOAD_DEREF" else function.__globals__
                read = _Read(scope, name, line)
            elif instruction.opname == "IMPORT_NAME":
                yield _Read(sys.modules, name, line)


def _line(instruction: dis.Instruction) -> int | None:
    positions = getattr(instruction, "positions", None)  # since Python 3.11
    return positions.lineno if positions else instruction.starts_line


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _is_by_chance(value: object) -> bool:
    if isinstance(value, ModuleType):
        home = value.__name__
    else:
        home = (
            getattr(value, "__module__", None) or type(getattr(value, "__self__", value)).__module__
        )
    return home in _BY_CHANCE or str(home).startswith("numpy.random.")


def _is_fixed(value: object) -> bool:
    return isinstance(value, ModuleType) and value.__name__.partition(".")[0] in _FIXED


def _frozen(value: object) -> object:
    """A value as something that can be compared later; None for what is not looked into."""
    if isinstance(value, (Number, str, bool, type(None), torch.dtype)):
        return type(value), repr(value)  # for 0.0 == -0.0, 1 == True
    if isinstance(value, FunctionType):
        return None if value.__code__.co_filename.startswith(_PACKAGES) else value
    if isinstance(value, (tuple, list)):
        return tuple(map(_frozen, value))
    if isinstance(value, dict):
        return tuple((key, _frozen(v)) for key, v in value.items())
    return None
