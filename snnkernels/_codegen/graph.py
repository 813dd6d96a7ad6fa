"""What a function does to numbers, as a list of operations, each of which is there once."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(eq=False)
class Value:
    """The outcome of one operation, or an input.

    Attributes:
        index: its place in the order of operations.
        op: the operation's name, "input" for an input.
        args: what it works on.
        mask: whether it is true or false rather than a number.
        uniform: whether it depends on parameters and constants alone.
        gradient: whether it is proportional to the adjoint's incoming gradients.
        bounded: whether it is finite where the function's arguments are, overflow aside.
        name: what the function's author calls it, if anything.
        line: file and number of the line that it comes from; None in the backward pass.
    """

    index: int
    op: str
    args: tuple[Operand, ...]
    mask: bool = False
    uniform: bool = False
    gradient: bool = False
    bounded: bool = True
    name: str = ""
    line: Line = None


Operand = Value | float
Line = tuple[str, int] | None

_MASKS = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "xor", "not")
_BOUNDED = (*_MASKS, "spike", "sign")
_POLES = ("exp", "expm1", "log", "log1p", "sqrt", "pow")


class Graph:
    """Operations in order. Equal ones are merged as they come in.

    While ``backward`` is set, operations are simplified in ways that may change the last bit: the
    forward operations keep the order that the author gave them, because their bits are promised.
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self.backward = False
        self.line: tuple[str, int] | None = None
        self._known: dict[tuple[object, ...], Value] = {}

    def input(self, name: str, *, uniform: bool = False) -> Value:
        value = Value(
            len(self.values),
            "input",
            (),
            uniform=uniform,
            gradient=self.backward,
            name=name,
        )
        self.values.append(value)
        return value

    def make(self, op: str, *args: Operand) -> Operand:
        key = (op, *(a.index if isinstance(a, Value) else repr(float(a)) for a in args))
        if key in self._known:
            return self._known[key]
        simpler = self._simpler(op, args) if self.backward else _same(op, args)
        if simpler is not None:
            return simpler
        given = [a for a in args if isinstance(a, Value)]
        value = Value(
            len(self.values),
            op,
            args,
            op in _MASKS,
            uniform=all(a.uniform for a in given),
            gradient=any(a.gradient for a in given),
            bounded=op in _BOUNDED or (all(a.bounded for a in given) and not _has_poles(op, args)),
            line=self.line,
        )
        self.values.append(value)
        self._known[key] = value
        return value

    def number(self, operand: Operand) -> Operand:
        """A mask as 1 or 0; a number as it is."""
        if isinstance(operand, Value) and operand.mask:
            return self.make("select", operand, 1.0, 0.0)
        return operand

    def mask(self, operand: Operand) -> Operand:
        """A number as whether it is not 0; a mask as it is."""
        if isinstance(operand, Value) and operand.mask:
            return operand
        return self.make("ne", operand, 0.0)

    def _simpler(self, op: str, args: tuple[Operand, ...]) -> Operand | None:
        if op == "neg":
            return _negated(args[0])
        if op == "select":
            same = args[1] is args[2] or (not isinstance(args[2], Value) and _is(args[1], args[2]))
            return args[1] if same else None
        if op not in ("add", "sub", "mul", "div"):
            return None
        a, b = args
        if op in ("mul", "div") and _is(a, 0.0) and not _is_gradient(b):
            return 0.0  # no gradient comes in, as behind floor
        if op == "mul" and _is(b, 0.0) and not _is_gradient(a):
            return 0.0
        if not isinstance(a, Value) and not isinstance(b, Value):
            return _folded(op, a, b)
        if op == "mul":
            return self._simpler_product(a, b)
        if op == "div":
            return self._simpler_quotient(a, b)
        if _is(b, 0.0):
            return a
        if _is(a, 0.0):
            return b if op == "add" else self.make("neg", b)
        if op == "add" and isinstance(b, Value) and b.op == "neg":
            return self.make("sub", a, b.args[0])
        if op == "sub" and isinstance(b, Value) and b.op == "neg":
            return self.make("add", a, b.args[0])
        return None

    def _simpler_product(self, a: Operand, b: Operand) -> Operand | None:
        for factor, other in ((a, b), (b, a)):
            if _is(factor, 1.0):
                return other
            if _is(factor, -1.0):
                return self.make("neg", other)
            if isinstance(factor, Value) and factor.op == "neg" and factor.line is None:
                return self.make("neg", self.make("mul", factor.args[0], other))
        for factor, other in ((a, b), (b, a)):
            if _is_gradient(other) and isinstance(factor, Value) and factor.op == "gradient":
                return self.make("fired", other, factor)  # which the surrogate knows to guard
            if _is_gradient(other) and _may_be_infinite(factor):
                return self.make("scaled", other, factor)
        return None

    def _simpler_quotient(self, a: Operand, b: Operand) -> Operand | None:
        """Division by what all lanes share as a product, for it leaves the loop over lanes."""
        if _is(b, 1.0):
            return a
        if not isinstance(b, Value):
            if b and math.isfinite(1.0 / b):
                return self.make("mul", a, 1.0 / b)
            return self.make("divided", a, b) if _is_gradient(a) else None
        if b.uniform and not _is(a, 1.0):
            return self.make("mul", a, self.make("div", 1.0, b))
        if _is_gradient(a):
            return self.make("divided", a, b)
        return None


def _same(op: str, args: tuple[Operand, ...]) -> Operand | None:
    """What an operation leaves as it is, to the bit."""
    if op == "mul" and _is(args[0], 1.0):
        return args[1]
    if op in ("mul", "div") and _is(args[1], 1.0):
        return args[0]
    return None


def _is(operand: Operand, number: float) -> bool:
    return not isinstance(operand, Value) and operand == number


def _negated(operand: Operand) -> Operand | None:
    if not isinstance(operand, Value):
        return -operand
    return operand.args[0] if operand.op == "neg" else None


def _folded(op: str, a: float, b: float) -> float | None:
    if op == "div" and not b:
        return None
    result = a / b if op == "div" else {"add": a + b, "sub": a - b, "mul": a * b}[op]
    return result if math.isfinite(result) else None


def needed(roots: Iterable[Operand | None]) -> list[Value]:
    """All that the roots depend on, in order."""
    found: dict[int, Value] = {}
    left = [root for root in roots if isinstance(root, Value)]
    while left:
        value = left.pop()
        if value.index not in found:
            found[value.index] = value
            left += [a for a in value.args if isinstance(a, Value)]
    return [found[index] for index in sorted(found)]


def differing_lines(found: Iterable[Operand], other: Iterable[Operand]) -> Iterator[Line]:
    """The author's lines at which what one graph does departs from what another does.

    Constants are the same that are the same number in float32.
    """
    left: list[tuple[Operand, Operand, Line]] = [
        (a, b, None) for a, b in zip(found, other, strict=True)
    ]
    seen: set[tuple[int, int]] = set()
    while left:
        a, b, line = left.pop()
        if isinstance(a, Value) and isinstance(b, Value):
            if (a.index, b.index) in seen:
                continue
            seen.add((a.index, b.index))
            if a.op != b.op or (a.op == "input" and a.index != b.index):
                yield max(filter(None, (a.line, b.line)), default=line)
            else:
                left += [(c, d, a.line) for c, d in zip(a.args, b.args, strict=True)]
        elif isinstance(a, Value) or isinstance(b, Value):
            value = a if isinstance(a, Value) else b
            yield (isinstance(value, Value) and value.line) or line
        elif _in_float32(a) != _in_float32(b):
            yield line


def _in_float32(number: float) -> bytes:
    try:
        return struct.pack("f", number)
    except OverflowError:
        return struct.pack("f", math.copysign(math.inf, number))


def is_finite(operand: Operand) -> bool:
    return isinstance(operand, Value) or math.isfinite(operand)


def _is_gradient(operand: Operand) -> bool:
    return isinstance(operand, Value) and operand.gradient


def _may_be_infinite(factor: Operand) -> bool:
    """Whether a factor of a gradient may be infinite or NaN where the function's arguments aren't.

    Parameters are not taken to be a divisor that is 0.
    """
    return isinstance(factor, Value) and not (factor.bounded or factor.gradient or factor.uniform)


def _has_poles(op: str, args: Sequence[Operand]) -> bool:
    """Whether an operation of finite numbers may be infinite or NaN; not for overflow but exp's."""
    if op == "div":
        divisor = args[1]
        return not divisor.uniform if isinstance(divisor, Value) else divisor == 0
    return op in _POLES
