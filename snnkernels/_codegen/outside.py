"""What a function reads besides its arguments: found in its code, noted, and compared later.

A trace bakes in what a function finds in its module and in the functions around it. So these values
are noted, and whoever keeps a trace asks whether they have changed since.
"""

from __future__ import annotations

import builtins
import dis
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from numbers import Number
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from .errors import StepError, step_error

_PACKAGES = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))
_FIXED = sys.stdlib_module_names | {"numpy", "snnkernels", "torch"}
_BY_CHANCE = ("random", "secrets", "time", "numpy.random")
_LOADS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")
_MEMBERS = ("LOAD_ATTR", "LOAD_METHOD")
_ABSENT = object()
_MOST_VALUES, _DEEPEST = 1000, 20
_PLAIN = (Number, str, type(None), torch.dtype)


class Outside:
    """The values that functions, and those of the author's that they call, read from outside.

    They are read by names, and by attributes and constant subscripts of these. Numbers, strings,
    and tuples, lists, dicts and arrays of them are compared by value, anything else by identity.
    The modules of Python, numpy and torch are taken to stay as they are.

    Raises:
        StepError: a function asks for random numbers or for the time, or reads a table too large
            to be compared at each call.
    """

    def __init__(self, *functions: Callable[..., Any]) -> None:
        self._noted: list[tuple[_Read, Any, object]] = []
        seen: set[CodeType] = set()
        for function in functions:
            self._look_into(function, seen)

    @property
    def has_changed(self) -> bool:
        """Whether any of the values is another one than at first."""
        for read, before, frozen in self._noted:
            value = read.value()
            if value is before and isinstance(value, _PLAIN):
                continue
            try:
                if _frozen(value) != frozen:
                    return True
            except _TooLarge:
                return True
        return False

    def _look_into(self, function: Callable[..., Any], seen: set[CodeType]) -> None:
        code = function.__code__
        if code in seen or code.co_filename.startswith(_PACKAGES):
            return
        seen.add(code)
        for read in _reads_of(function):
            values = list(read.values())
            place = code.co_filename, read.line
            if any(map(_is_by_chance, values)):
                raise step_error(
                    "random numbers or the time, from Python or numpy",
                    "a function that gives the same for the same arguments",
                    "draw the noise outside, for all steps at once, and add it to the input",
                    place,
                )
            if any(_is_fixed(value) for value in values):
                continue
            for inner in _functions_in(values[-1]):
                self._look_into(inner, seen)
            try:
                self._noted.append((read, values[-1], _frozen(values[-1])))
            except _TooLarge:
                raise _too_large(place) from None


class _Read:
    """A name from outside, and the attributes and items that are read of it, one of the other."""

    def __init__(self, scope: Mapping[str, Any], name: str, line: int) -> None:
        self.line = line
        self._scope = scope
        self._name = name
        self._further: list[Callable[[Any], Any]] = []

    def attribute(self, name: str) -> None:
        self._further.append(lambda value: getattr(value, name))

    def item(self, key: object) -> None:
        self._further.append(lambda value: value[key])

    def values(self) -> Iterator[Any]:
        """What the name stands for, then each attribute or item, as far as there are any."""
        value = self._scope.get(self._name, _ABSENT)
        if value is _ABSENT:
            value = vars(builtins).get(self._name, _ABSENT)
        if isinstance(value, CellType):
            value = _contents(value)
        yield value
        for read in self._further:
            try:
                value = read(value)
            except Exception:  # the step itself, where it comes by, will raise it
                value = _ABSENT
            yield value

    def value(self) -> Any:
        for value in self.values():
            last = value
        return last


def _reads_of(function: Callable[..., Any]) -> Iterator[_Read]:
    code = function.__code__
    cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
    codes = [code]
    while codes:
        code = codes.pop()
        codes += [c for c in code.co_consts if isinstance(c, CodeType)]
        read, key, line = None, _ABSENT, code.co_firstlineno
        for instruction in dis.get_instructions(code):
            line = _line(instruction) or line
            name = instruction.argval
            if read is not None and instruction.opname in _MEMBERS and key is _ABSENT:
                read.attribute(name)
                continue
            if read is not None and instruction.opname == "LOAD_CONST" and key is _ABSENT:
                key = name
                continue
            if read is not None and instruction.opname == "BINARY_SUBSCR" and key is not _ABSENT:
                read.item(key)
                key = _ABSENT
                continue
            if read is not None:
                yield read
                read, key = None, _ABSENT
            if instruction.opname in _LOADS and (
                instruction.opname != "LOAD_DEREF" or name in cells
            ):
                scope = cells if instruction.opname == "LOAD_DEREF" else function.__globals__
                read = _Read(scope, name, line)
            elif instruction.opname == "IMPORT_NAME":
                yield _Read(sys.modules, name, line)
        if read is not None:
            yield read


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


def _functions_in(value: object) -> Iterator[FunctionType]:
    """The functions that a call of a value comes to: itself, or what it wraps."""
    while not isinstance(value, FunctionType):
        wrapped = value.func if isinstance(value, partial) else _vars_of(value).get("__wrapped__")
        if wrapped is None:
            return
        value = wrapped
    yield value


def _vars_of(value: object) -> Mapping[str, Any]:
    return getattr(value, "__dict__", {})


class _TooLarge(Exception):
    """There are too many values to compare, or a container holds itself."""


def _too_large(place: tuple[str, int]) -> StepError:
    return step_error(
        f"more than {_MOST_VALUES} values from outside, or a container that holds itself",
        "numbers, and small tables of them: they are compared at each call",
        "read one of them into a variable outside, or make it a parameter",
        place,
    )


class _Same:
    """Equal to what holds the same object."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value

    __hash__ = None  # type: ignore[assignment]


def _frozen(value: object, room: list[int] | None = None, depth: int = 0) -> object:
    """A value as something that can be compared later.

    Args:
        room: how many more values there may be.
        depth: in how many containers it is.
    """
    room = [_MOST_VALUES] if room is None else room
    room[0] -= value.size if isinstance(value, np.ndarray) else 1
    if room[0] < 0 or depth > _DEEPEST:
        raise _TooLarge
    if isinstance(value, _PLAIN):
        return type(value), repr(value)  # for 0.0 == -0.0, 1 == True
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return value.dtype, value.shape, value.tobytes()
    parts = _parts(value)
    if parts is None:
        return _Same(value)
    return [type(value), *(_frozen(part, room, depth + 1) for part in parts)]


def _parts(value: object) -> Iterable[object] | None:
    """What a value is made of and compared by; None where it is itself alone."""
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, dict):
        return itertools.chain.from_iterable(value.items())
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    owner = getattr(value, "__self__", None)
    if owner is None or isinstance(owner, (ModuleType, type)):
        return None
    return owner, getattr(value, "__name__", None)  # a method, made anew each time it is read
