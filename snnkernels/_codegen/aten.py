"""What torch's operators are made of: for each, how it is entered into a graph.

Each function takes the graph and the operator's arguments, tensors as operands. Where eager PyTorch
gives exact results the same operations are entered in the same order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .graph import Graph, Operand, Value

Operator = Callable[..., Operand]
OPERATORS: dict[str, Operator] = {}


def _operator(*names: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


def _plain(op: str) -> Operator:
    return lambda g, *args: g.make(op, *map(g.number, args))


def _logical(op: str) -> Operator:
    return lambda g, *args: g.make(op, *map(g.mask, args))


_UNARY = "neg abs exp log sqrt floor ceil trunc sin cos erf tanh sigmoid atan log1p expm1 sign"
_BINARY = "lt le gt ge eq ne minimum maximum"
for _name in (*_UNARY.split(), *_BINARY.split()):
    OPERATORS[_name] = _plain(_name)
OPERATORS["sgn"] = OPERATORS["sign"]
for _name in ("and", "or", "xor", "not"):
    OPERATORS[f"logical_{_name}"] = OPERATORS[f"bitwise_{_name}"] = _logical(_name)
    OPERATORS[f"__{_name}__"] = OPERATORS[f"logical_{_name}"]


@_operator("add")
def _add(g: Graph, a: Operand, b: Operand, alpha: float = 1) -> Operand:
    return g.make("add", g.number(a), _scaled(g, g.number(b), alpha))


@_operator("sub")
def _sub(g: Graph, a: Operand, b: Operand, alpha: float = 1) -> Operand:
    return g.make("sub", g.number(a), _scaled(g, g.number(b), alpha))


@_operator("rsub")
def _rsub(g: Graph, a: Operand, b: Operand, alpha: float = 1) -> Operand:
    return _sub(g, b, a, alpha)


def _scaled(g: Graph, a: Operand, factor: float) -> Operand:
    return a if factor == 1 else g.make("mul", a, float(factor))


@_operator("mul")
def _mul(g: Graph, a: Operand, b: Operand) -> Operand:
    return g.make("mul", g.number(a), g.number(b))


@_operator("div", "true_divide")
def _div(g: Graph, a: Operand, b: Operand, rounding_mode: str | None = None) -> Operand:
    if rounding_mode is not None:
        raise NotImplementedError(f"rounding_mode={rounding_mode!r}")
    return g.make("div", g.number(a), g.number(b))


@_operator("reciprocal")
def _reciprocal(g: Graph, a: Operand) -> Operand:
    return g.make("div", 1.0, a)


@_operator("rsqrt")
def _rsqrt(g: Graph, a: Operand) -> Operand:
    return g.make("div", 1.0, g.make("sqrt", a))


@_operator("square")
def _square(g: Graph, a: Operand) -> Operand:
    return g.make("mul", a, a)


@_operator("addcmul")
def _addcmul(g: Graph, a: Operand, b: Operand, c: Operand, value: float = 1) -> Operand:
    return g.make("add", a, g.make("mul", _scaled(g, b, value), c))


@_operator("addcdiv")
def _addcdiv(g: Graph, a: Operand, b: Operand, c: Operand, value: float = 1) -> Operand:
    return g.make("add", a, g.make("div", _scaled(g, b, value), c))


@_operator("pow")
def _pow(g: Graph, a: Operand, b: Operand) -> Operand:
    """A constant power as eager PyTorch takes it: by products, quotients and roots if small."""
    a, b = g.number(a), g.number(b)
    if b == 0:
        return 1.0
    if b == 1:
        return a
    if b == 0.5:
        return g.make("sqrt", a)
    if b == 2:
        return g.make("mul", a, a)
    if b == 3:
        return g.make("mul", g.make("mul", a, a), a)
    if b in (-0.5, -1, -2):
        return g.make("div", 1.0, _pow(g, a, -b))
    return g.make("pow", a, b)


@_operator("round")
def _round(g: Graph, a: Operand, decimals: int = 0) -> Operand:
    if decimals != 0:
        raise NotImplementedError(f"decimals={decimals}")
    return g.make("round", a)


@_operator("relu")
def _relu(g: Graph, a: Operand) -> Operand:
    return _at_least(g, a, 0.0)


@_operator("threshold_backward")
def _threshold_backward(g: Graph, grad: Operand, a: Operand, threshold: float) -> Operand:
    return g.make("select", g.make("le", a, float(threshold)), 0.0, grad)


@_operator("leaky_relu")
def _leaky_relu(g: Graph, a: Operand, slope: float = 0.01) -> Operand:
    return g.make("select", g.make("gt", a, 0.0), a, g.make("mul", a, float(slope)))


@_operator("leaky_relu_backward")
def _leaky_relu_backward(
    g: Graph, grad: Operand, a: Operand, slope: float, is_result: bool
) -> Operand:
    return g.make("select", g.make("gt", a, 0.0), grad, g.make("mul", grad, float(slope)))


@_operator("softplus")
def _softplus(g: Graph, a: Operand, beta: float = 1, threshold: float = 20) -> Operand:
    scaled = _scaled(g, a, beta)
    soft = g.make("log1p", g.make("exp", scaled))
    if beta != 1:
        soft = g.make("div", soft, float(beta))
    return g.make("select", g.make("gt", scaled, float(threshold)), a, soft)


@_operator("softplus_backward")
def _softplus_backward(
    g: Graph, grad: Operand, a: Operand, beta: float, threshold: float
) -> Operand:
    scaled = _scaled(g, a, beta)
    soft = g.make("mul", grad, g.make("sigmoid", scaled))
    return g.make("select", g.make("gt", scaled, float(threshold)), grad, soft)


@_operator("sigmoid_backward")
def _sigmoid_backward(g: Graph, grad: Operand, y: Operand) -> Operand:
    return g.make("mul", g.make("mul", grad, g.make("sub", 1.0, y)), y)


@_operator("tanh_backward")
def _tanh_backward(g: Graph, grad: Operand, y: Operand) -> Operand:
    return g.make("mul", grad, g.make("sub", 1.0, g.make("mul", y, y)))


@_operator("clamp")
def _clamp(
    g: Graph, a: Operand, low: Operand | None = None, high: Operand | None = None, **named: Any
) -> Operand:
    low, high = named.get("min", low), named.get("max", high)
    if low is not None:
        a = _at_least(g, a, low)
    if high is not None:
        a = _at_most(g, a, high)
    return a


def _at_least(g: Graph, a: Operand, low: Operand) -> Operand:
    """As PyTorch bounds by a number, which keeps the sign of a zero; a tensor is the maximum."""
    if isinstance(low, Value):
        return g.make("maximum", a, g.number(low))
    return g.make("select", g.make("lt", a, low), low, a)


def _at_most(g: Graph, a: Operand, high: Operand) -> Operand:
    if isinstance(high, Value):
        return g.make("minimum", a, g.number(high))
    return g.make("select", g.make("gt", a, high), high, a)


@_operator("clamp_min")
def _clamp_min(g: Graph, a: Operand, low: Operand) -> Operand:
    return _clamp(g, a, low)


@_operator("clamp_max")
def _clamp_max(g: Graph, a: Operand, high: Operand) -> Operand:
    return _clamp(g, a, None, high)


@_operator("hardtanh")
def _hardtanh(g: Graph, a: Operand, low: float = -1, high: float = 1) -> Operand:
    return _clamp(g, a, float(low), float(high))


@_operator("hardtanh_backward")
def _hardtanh_backward(g: Graph, grad: Operand, a: Operand, low: float, high: float) -> Operand:
    outside = g.make("or", g.make("le", a, float(low)), g.make("ge", a, float(high)))
    return g.make("select", outside, 0.0, grad)


@_operator("where")
def _where(g: Graph, condition: Operand, yes: Operand, no: Operand) -> Operand:
    return g.make("select", g.mask(condition), g.number(yes), g.number(no))


@_operator("masked_fill")
def _masked_fill(g: Graph, a: Operand, condition: Operand, value: Operand) -> Operand:
    return g.make("select", g.mask(condition), value, g.number(a))


@_operator("isnan")
def _isnan(g: Graph, a: Operand) -> Operand:
    return g.make("ne", a, a)


@_operator("zeros_like", "zeros", "new_zeros")
def _zeros(g: Graph, *_: Any, **__: Any) -> Operand:
    return 0.0


@_operator("ones_like", "ones", "new_ones")
def _ones(g: Graph, *_: Any, **__: Any) -> Operand:
    return 1.0


@_operator("empty_like")
def _empty(g: Graph, _: Operand, **__: Any) -> Operand:
    _only_in_the_backward(g)
    return 0.0  # until it is filled


@_operator("sum")
def _sum(g: Graph, a: Operand, *_: Any, **__: Any) -> Operand:
    """What autograd does to the gradient of an expanded number."""
    _only_in_the_backward(g)
    return a


def _only_in_the_backward(g: Graph) -> None:
    if not g.backward:
        raise NotImplementedError


@_operator("fill")
def _fill(g: Graph, _: Operand, value: Operand) -> Operand:
    return value


@_operator("full_like", "full")
def _full(g: Graph, _: Any, value: float, *rest: Any, **named: Any) -> Operand:
    return float(value)


@_operator("new_full")
def _new_full(g: Graph, _: Any, size: Any, value: float, *rest: Any, **named: Any) -> Operand:
    return float(value)


@_operator("scalar_tensor")
def _scalar_tensor(g: Graph, value: float, **_: Any) -> Operand:
    return float(value)


@_operator("_to_copy", "clone", "lift_fresh", "lift_fresh_copy")
def _copy(g: Graph, a: Operand, *_: Any, **__: Any) -> Operand:
    return a
