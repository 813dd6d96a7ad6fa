"""Print recorded functions as C++: names kept, one statement an operation.

The headers use neither torch nor the standard library, as ``csrc/include/snnkernels/neurons.h``.
"""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterable, Sequence
from math import copysign

from .graph import Operand, Value, needed
from .trace import NeuronTrace, SurrogateTrace

_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "lt": "<",
    "le": "<=",
    "gt": ">",
    "ge": ">=",
    "eq": "==",
    "ne": "!=",
    "and": "&",
    "or": "|",
    "xor": "^",
}


_WIDTH = 100


def print_neuron(name: str, trace: NeuronTrace) -> str:
    """Print a struct `name` with the recorded step and its adjoint."""
    states = ", ".join(identifier(v.name) for v in trace.states)
    params = ", ".join(identifier(v.name) for v in trace.params)
    head = [
        _comment(f"{name}, printed from {trace.place}."),
        f"struct {name} {{",
        _sizes("kStates", len(trace.states), states),
        _sizes("kParams", len(trace.params), params),
        _sizes("kOutputs", len(trace.outputs), ""),
        "",
    ]
    return "\n".join([*head, *_step(trace), "", *_adjoint(trace), "};", ""])


def print_surrogate(name: str, trace: SurrogateTrace) -> str:
    """Print a struct `name` with a surrogate's gradient and primitive.

    Without a primitive x itself stands for it, which nothing asks for.
    """
    primitive = trace.x if trace.primitive is None else trace.primitive
    lines = [
        f"struct {name} {{",
        *_function_of_x("gradient", trace, trace.gradient),
        "",
        *_function_of_x("primitive", trace, primitive),
        "};",
        "",
    ]
    return "\n".join(lines)


def _function_of_x(function: str, trace: SurrogateTrace, result: Operand) -> list[str]:
    body = _Body([trace.x, *trace.params])
    body.read(trace.params, "T(params[{}])", [result])
    body.compute([result])
    body.line(f"return {body.text(result)};")
    params = " params" if body.reads else ""
    return [
        "  template <class T, class P>",
        f"  static SNN_HD T {function}(T{body.argument(trace.x, [result])}, const P*{params}) {{",
        *body.lines,
        "  }",
    ]


def _sizes(name: str, count: int, comment: str) -> str:
    line = f"  static constexpr int {name} = {count};"
    return f"{line}  // {comment}" if comment else line


def _step(trace: NeuronTrace) -> list[str]:
    kept = zip(trace.states, trace.next_states, strict=True)
    changed = [None if after is before else after for before, after in kept]
    results = [*trace.outputs, *changed]
    body = _Body([trace.x, *trace.states, *trace.params])
    body.read(trace.states, "state[{}]", results)
    body.read(trace.params, "params[{}]", results)
    body.compute(results)
    body.write(trace.outputs, "out[{}] = {};")
    body.write(changed, "state[{}] = {};")
    used = "state[" in body.reads or any(after is not None for after in changed)
    arguments = [
        f"T*{' state' if used else ''}",
        f"T{body.argument(trace.x, results)}",
        f"const T*{' params' if 'params[' in body.reads else ''}",
        f"const Fire&{' fire' if body.fires else ''}",
        "T* out",
    ]
    return [
        "  template <class T, class Fire>",
        *_wrapped("  static SNN_HD void step(", arguments, ") {"),
        *body.lines,
        "  }",
    ]


def _adjoint(trace: NeuronTrace) -> list[str]:
    results = [trace.grad_x, *trace.grad_states, *trace.grad_params]
    inputs = [*trace.grad_outputs, *trace.grad_next_states]
    body = _Body([trace.x, *trace.states, *trace.params, *inputs])
    body.read(trace.states, "before[{}]", results)
    body.read(trace.params, "params[{}]", results)
    body.read(trace.grad_outputs, "grad_out[{}]", results)
    body.read(trace.grad_next_states, "grad_state[{}]", results)
    body.compute(results)
    body.write([0.0 if g is None else g for g in trace.grad_states], "grad_state[{}] = {};")
    body.write(trace.grad_params, "grad_params[{}] += {};")
    body.line(f"return {body.text(0.0 if trace.grad_x is None else trace.grad_x)};")
    arguments = [
        f"const T*{' before' if 'before[' in body.reads else ''}",
        f"T{body.argument(trace.x, results)}",
        f"const T*{' params' if 'params[' in body.reads else ''}",
        f"const Fire&{' fire' if body.fires else ''}",
        f"const T*{' grad_out' if 'grad_out[' in body.reads else ''}",
        "T* grad_state",
        f"T*{' grad_params' if any(g is not None for g in trace.grad_params) else ''}",
    ]
    return [
        "  template <class T, class Fire>",
        *_wrapped("  static SNN_HD T adjoint(", arguments, ") {"),
        *body.lines,
        "  }",
    ]


def _wrapped(opening: str, arguments: Sequence[str], closing: str) -> list[str]:
    """A call or declaration, broken behind arguments where the line would be too long."""
    lines, line = [], opening
    for k, argument in enumerate(arguments):
        piece = argument + (closing if k + 1 == len(arguments) else ",")
        if len(line) + len(piece) + 1 > _WIDTH:
            lines.append(line.rstrip())
            line = " " * len(opening)
        line += piece if line.endswith(("(", " ")) else f" {piece}"
    return [*lines, line]


class _Body:
    """The statements of one function."""

    def __init__(self, inputs: Iterable[Value]) -> None:
        self.lines: list[str] = []
        self.reads = ""
        self.fires = False
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()
        for value in inputs:
            self._name(value)

    def line(self, text: str) -> None:
        self.lines.append(f"    {text}")

    def read(self, values: Sequence[Value], source: str, results: Sequence[Operand | None]) -> None:
        """Read the inputs that the results need."""
        wanted = {v.index for v in needed(results)}
        for k, value in enumerate(values):
            if value.index in wanted:
                self.reads += source
                self.line(f"const T {self._names[value.index]} = {source.format(k)};")

    def argument(self, x: Value, results: Sequence[Operand | None]) -> str:
        """The name of an argument, with a space before it; none if it is not needed."""
        return f" {self._names[x.index]}" if x in needed(results) else ""

    def compute(self, results: Sequence[Operand | None]) -> None:
        line = None
        for value in needed(results):
            if value.op == "input":
                continue
            if value.line != line:
                line = value.line
                self.line(_comment(linecache.getline(*line) if line else "backward"))
            kind = "auto" if value.mask else "T"
            self.line(f"const {kind} {self._name(value)} = {self._expression(value)};")

    def write(self, results: Sequence[Operand | None], form: str) -> None:
        for k, result in enumerate(results):
            if result is not None:
                self.line(form.format(k, self.text(result)))

    def text(self, operand: Operand) -> str:
        if isinstance(operand, Value):
            return self._names[operand.index]
        number = float(operand)
        is_short = number.is_integer() and abs(number) < 1e9 and (number or copysign(1, number) > 0)
        return f"T({int(number)})" if is_short else f"T({number!r})"

    def _expression(self, value: Value) -> str:
        args = [self.text(a) for a in value.args]
        if value.op in _INFIX:
            return f" {_INFIX[value.op]} ".join(args)
        if value.op == "neg":
            return f"-{args[0]}"
        if value.op == "not":
            return f"logical_not<T>({args[0]})"
        if value.op == "fired":
            return f"fire.scaled({', '.join(args)})"
        if value.op in ("spike", "gradient"):
            self.fires = True
            return f"fire.{value.op}({args[0]})"
        return f"{value.op}({', '.join(args)})"

    def _name(self, value: Value) -> str:
        wanted = identifier(value.name) if value.name else ""
        if not wanted or wanted in self._taken:
            stem, number = (wanted, 2) if wanted else ("t", 1)
            while f"{stem}{number}" in self._taken:
                number += 1
            wanted = f"{stem}{number}"
        self._taken.add(wanted)
        self._names[value.index] = wanted
        return wanted


def identifier(name: str) -> str:
    """A Python name as a C++ one that nothing else has: no keyword, macro or name of ours.

    None of those ends in an underscore or is one small letter, by itself or behind "grad_".
    """
    name = re.sub(r"[^A-Za-z0-9_]", lambda m: f"u{ord(m[0]):x}", name)
    name = re.sub(r"__+", "_", name).strip("_")
    if name.startswith("grad_"):
        return f"grad_{identifier(name[5:])}"
    if re.fullmatch("[a-z]", name):
        return name
    return f"{name}_" if name[:1].isalpha() else f"n{name}_"


def _comment(text: str) -> str:
    """A line of comment, which no text can end early or carry on into the next line."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    return f"// {plain}".replace("??/", "?? /").rstrip("\\ ")
