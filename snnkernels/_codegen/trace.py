"""Record what a function does to numbers: run it once on single numbers, forward and backward.

The function runs as it is, on zero-dimensional tensors; every operator that it and its autograd
reach is entered into a graph. What a single number cannot show (a product of matrices, a branch on
a value) is refused, with the line that is to blame.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from typing_extensions import ParamSpec

from .._core import firing
from .._core.torch_private import TorchDispatchMode
from .aten import OPERATORS
from .errors import StepError, blamed_line, refusal, step_error
from .graph import Graph, Operand, Value, differing_lines, is_finite, needed

_NOT_THE_AUTHORS = (
    str(Path(torch.__file__).parent),
    str(Path(__file__).parent),
    str(Path(firing.__file__)),
)
_SAME_NUMBER = {"detach", "alias", "view", "view_as", "expand", "reshape", "squeeze", "contiguous"}


@dataclass(frozen=True)
class _Surroundings:
    """What a function may find its arguments to be, and must not depend on.

    Attributes:
        dtype: that of all arguments.
        shape: that of the input and the states.
        table: that of the parameters.
        device: what the arguments claim to be on; all are on the CPU.
        learns: whether the arguments require a gradient.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    table: tuple[int, ...]
    device: torch.device
    learns: bool


_NUMBERS = _Surroundings(torch.float64, (), (), torch.device("cpu"), True)
_ARRAYS = _Surroundings(torch.float32, (2, 1, 3), (3,), torch.device("cuda", 0), False)

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class NeuronTrace:
    """A neuron's step and its adjoint, as operations on numbers.

    Attributes:
        place: where the step is defined, for people.
        x, states, params: the step's inputs.
        outputs, next_states: its results.
        grad_outputs, grad_next_states: the adjoint's further inputs.
        grad_x, grad_states, grad_params: its results; None where nothing flows.
    """

    place: str
    x: Value
    states: list[Value]
    params: list[Value]
    outputs: list[Operand]
    next_states: list[Operand]
    grad_outputs: list[Value]
    grad_next_states: list[Value]
    grad_x: Operand | None
    grad_states: list[Operand | None]
    grad_params: list[Operand | None]

    @property
    def spikes(self) -> bool:
        """Whether the step asks the surrogate for anything."""
        return any(v.op == "spike" for v in self._forward)

    @property
    def _forward(self) -> list[Value]:
        return needed([*self.outputs, *self.next_states])


@dataclass(frozen=True)
class SurrogateTrace:
    """A surrogate's two functions of x; None where there is no primitive."""

    params: list[Value]
    x: Value
    gradient: Operand
    primitive: Operand | None

    @property
    def has_poles(self) -> bool:
        """Whether the gradient may be infinite or NaN."""
        return isinstance(self.gradient, Value) and not self.gradient.bounded


def _in_a_thread_of_its_own(trace: Callable[_P, _R]) -> Callable[_P, _R]:
    """Keep out what the caller's thread is in: inference mode, hooks, modes, a default device.

    A trace is kept for the process, so that it must not depend on where the first call happens.
    """

    @wraps(trace)
    def traced(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(trace, *args, **kwargs).result()

    return traced


@_in_a_thread_of_its_own
def trace_neuron(
    step: Callable[..., Any],
    states: Sequence[str],
    params: Sequence[str],
    options: Mapping[str, Any],
) -> NeuronTrace:
    """Record ``step(x, *states, **params, **options)`` and its gradients.

    Raises:
        StepError: naming the line that cannot be compiled.
    """
    recorder, (x, *before), given, results = _run_step(step, states, params, options, _NUMBERS)
    operands = [recorder.operand(r) for r in results]
    other, _, _, other_results = _run_step(step, states, params, options, _ARRAYS)
    _check_same(operands, [other.operand(r) for r in other_results], step)
    if not any(r.requires_grad for r in results) and recorder.value(x) in needed(operands):
        raise _without_gradient(step)
    split = len(results) - len(states)
    _name_results(operands, split, states)

    graph, x_name = recorder.graph, recorder.value(x).name
    graph.backward, graph.line = True, None
    count = len(results)
    names = [_grad_name(o, k, split, states) for k, o in enumerate(operands)]
    grads = [recorder.input(name, learns=False) for name in names]
    inputs = [x, *before, *given.values()]
    found = recorder.gradients(results, inputs, grads)
    for name, operand in zip((x_name, *states, *given), found, strict=True):
        if isinstance(operand, Value) and not operand.name:
            operand.name = f"grad_{name}"
    as_values = [recorder.value(g) for g in grads]
    return NeuronTrace(
        _place(step),
        recorder.value(x),
        [recorder.value(s) for s in before],
        [recorder.value(p) for p in given.values()],
        operands[:split],
        operands[split:],
        as_values[:split],
        as_values[split:count],
        found[0],
        found[1 : 1 + len(states)],
        found[1 + len(states) :],
    )


@_in_a_thread_of_its_own
def trace_surrogate(
    gradient: Callable[..., Tensor],
    primitive: Callable[..., Tensor] | None,
    params: Sequence[str],
) -> SurrogateTrace:
    """Record a surrogate's functions of x and its parameters.

    Raises:
        StepError: naming the line that cannot be compiled.
    """
    functions = [f for f in (gradient, primitive) if f is not None]
    recorder, x, given, found = _run_surrogate(functions, params, _NUMBERS)
    others = _run_surrogate(functions, params, _ARRAYS)[-1]
    for function, operand, other in zip(functions, found, others, strict=True):
        _check_same([operand], [other], function)
    values = [recorder.value(g) for g in given]
    return SurrogateTrace(
        values, recorder.value(x), found[0], found[1] if primitive is not None else None
    )


def _run_step(
    step: Callable[..., Any],
    states: Sequence[str],
    params: Sequence[str],
    options: Mapping[str, Any],
    surroundings: _Surroundings,
) -> tuple[_Recorder, list[Tensor], dict[str, Tensor], list[Tensor]]:
    """Record a step; returns its input and states, its parameters, and what it returned."""
    recorder = _Recorder(step, surroundings)
    inputs = [recorder.input(name) for name in (step.__code__.co_varnames[0], *states)]
    given = {name: recorder.input(name, uniform=True) for name in params}
    with recorder.recording():
        results = step(*inputs, **given, **options)
    return recorder, inputs, given, _checked_results(results, len(states), recorder)


def _run_surrogate(
    functions: Sequence[Callable[..., Tensor]], params: Sequence[str], surroundings: _Surroundings
) -> tuple[_Recorder, Tensor, list[Tensor], list[Operand]]:
    """Record functions of x and the parameters; returns these, and what each gave."""
    recorder = _Recorder(functions[0], surroundings)
    x = recorder.input("x", learns=False)
    given = [recorder.input(name, uniform=True, learns=False) for name in params]
    found = []
    for function in functions:
        recorder.function = function
        with recorder.recording():
            result = function(x, *given)
        recorder.check_number(result, f"the result of {function.__name__}")
        found.append(recorder.operand(result))
    return recorder, x, given, found


class _Recorder(TorchDispatchMode):
    """Enters every operator that runs into a graph.

    A tensor is known by its storage: a view or a detached tensor is the same number.
    """

    def __init__(self, function: Callable[..., Any], surroundings: _Surroundings) -> None:
        super().__init__()
        self.graph = Graph()
        self.function = function
        self.surroundings = surroundings
        self.last_call = ""
        self._operands: dict[int, Operand] = {}
        self._alive: list[Tensor] = []
        self._quiet = False

    def input(self, name: str, *, uniform: bool = False, learns: bool = True) -> Tensor:
        around = self.surroundings
        shape = around.table if uniform else around.shape
        tensor = torch.full(shape, 0.5, dtype=around.dtype)
        tensor.requires_grad_(learns and around.learns)
        self._bind(tensor, self.graph.input(name, uniform=uniform))
        return tensor

    def value(self, tensor: Tensor) -> Value:
        operand = self.operand(tensor)
        assert isinstance(operand, Value)
        return operand

    def operand(self, tensor: Tensor) -> Operand:
        """What a tensor stands for; one that is not known is a constant."""
        known = self._operands.get(_storage(tensor))
        if known is None:
            known = self._constant(tensor)
        return known

    def check_inside(self, tensor: Tensor, line: tuple[str, int] | None) -> None:
        """Refuse a tensor that was there before: what it holds may change after the trace."""
        if _storage(tensor) in self._operands:
            return
        gradient = " that requires a gradient" if tensor.requires_grad else ""
        raise step_error(
            f"a tensor from outside of shape {tuple(tensor.shape)}{gradient}",
            "numbers, and tensors among the arguments",
            "make it a parameter: params={...} in compile_neuron, a keyword in surrogate.custom",
            line,
        )

    def _constant(self, tensor: Tensor) -> float:
        self._quiet = True
        try:
            return float(tensor)
        finally:
            self._quiet = False

    def _bind(self, tensor: Tensor, operand: Operand) -> None:
        self._operands[_storage(tensor)] = operand
        self._alive.append(tensor)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the author's code; whatever it raises becomes a refusal."""
        try:
            learns = torch.set_grad_enabled(self.surroundings.learns)
            with firing.with_surrogate(self.spike), self, _Calls(self), learns:
                yield
        except StepError:
            raise
        except Exception as error:
            line = blamed_line(error.__traceback__, self.function.__code__)
            raise self._explained(error, line) from error

    def _explained(self, error: Exception, line: tuple[str, int] | None) -> StepError:
        if self.last_call and isinstance(error, (RuntimeError, IndexError, NotImplementedError)):
            return refusal(self.last_call, line, str(error).split("\n")[0])
        return step_error(
            f"{type(error).__name__}: {error}",
            "a function that runs on zero-dimensional tensors",
            "each value of the function is a single number, of one neuron at one step",
            line,
        )

    def gradients(
        self, results: Sequence[Tensor], inputs: Sequence[Tensor], grads: Sequence[Tensor]
    ) -> list[Operand | None]:
        pairs = [(r, g) for r, g in zip(results, grads, strict=True) if r.requires_grad]
        if not pairs:
            return [None] * len(inputs)
        self._name_gradients(inputs)
        with self:
            found = torch.autograd.grad(
                [r for r, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True
            )
        return [None if g is None else self.operand(g) for g in found]

    def _name_gradients(self, inputs: Sequence[Tensor]) -> None:
        """Call the gradient of what the author calls h grad_h."""
        known = {_storage(t) for t in inputs}
        for tensor in list(self._alive):
            operand = self._operands[_storage(tensor)]
            if (
                isinstance(operand, Value)
                and operand.name
                and tensor.requires_grad
                and _storage(tensor) not in known
            ):
                tensor.register_hook(
                    lambda grad, name=operand.name: self._name_gradient(grad, name)
                )

    def _name_gradient(self, grad: Tensor, name: str) -> None:
        operand = self._operands.get(_storage(grad))
        if isinstance(operand, Value) and not operand.name:
            operand.name = f"grad_{name}"

    def spike(self, u: Tensor) -> Tensor:
        """Stand in for the surrogate."""
        self.check_number(u, "the argument of spike")
        return _OpaqueSpike.apply(u, self)

    def fresh(self, op: str, u: Tensor) -> Tensor:
        self._quiet = True
        try:
            tensor = torch.full_like(u, 0.5)
        finally:
            self._quiet = False
        self._bind(tensor, self.graph.make(op, self.graph.number(self.operand(u))))
        return tensor

    def check_number(self, value: object, what: str) -> None:
        line = self.graph.line or (self.function.__code__.co_filename, _first_line(self.function))
        if isinstance(value, Tensor):
            self.check_inside(value, line)
        if isinstance(value, Tensor) and value.dtype == self.surroundings.dtype:
            return
        got = f"a {value.dtype} tensor" if isinstance(value, Tensor) else repr(value)
        raise step_error(
            f"{what} is {got}",
            "a floating-point number as a tensor",
            "write value.to(x) to make a number of a comparison's outcome, x * 0 + value of a "
            "constant",
            line,
        )

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._quiet:
            return func(*args, **kwargs)
        if not self.graph.backward:
            self._look_around()
        name = func.name().removeprefix("aten::").split(".")[0]
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and not self.graph.backward:
            raise refusal(name, self.graph.line)
        plain = name.removesuffix("_") if in_place else name
        if plain not in OPERATORS and plain not in _SAME_NUMBER:
            raise refusal(name, self.graph.line)
        for given in (*args, *kwargs.values()):
            if isinstance(given, float) and not math.isfinite(given) and not self.graph.backward:
                raise _not_finite(self.graph.line)
        entered = [self._entered(a) for a in args]
        out = func(*args, **kwargs)
        self._check_outcome(name, out)
        if plain in _SAME_NUMBER:
            if _storage(out) not in self._operands:
                self._bind(out, entered[0])
            return out
        try:
            operand = OPERATORS[plain](self.graph, *entered, **kwargs)
        except NotImplementedError as error:
            raise refusal(name, self.graph.line, str(error)) from None
        as_torch_has_it = self.graph.mask if out.dtype == torch.bool else self.graph.number
        self._bind(out, as_torch_has_it(operand))
        return out

    def _entered(self, argument: Any) -> Any:
        return self.operand(argument) if isinstance(argument, Tensor) else argument

    def _check_outcome(self, name: str, out: Any) -> None:
        around = self.surroundings
        if not isinstance(out, Tensor) or out.shape not in ((), around.table, around.shape):
            raise refusal(self.last_call or name, self.graph.line)
        if out.dtype not in (around.dtype, torch.bool) and not self.graph.backward:
            kind = str(out.dtype).removeprefix("torch.")
            raise refusal(kind, self.graph.line, self.last_call)

    def _look_around(self) -> None:
        """Note the author's line, and by which names the author's variables go."""
        frames = list(_authors_frames(sys._getframe(2)))
        if frames:
            self.graph.line = frames[0].f_code.co_filename, frames[0].f_lineno
        for frame in frames:
            for name, local in frame.f_locals.items():
                if isinstance(local, Tensor):
                    operand = self._operands.get(_storage(local))
                    if isinstance(operand, Value) and not operand.name:
                        operand.name = name


class _Calls(TorchFunctionMode):
    """Remembers the torch function that runs, for a refusal to name, and refuses what hides."""

    _CONVERSIONS = frozenset({"__bool__", "__float__", "__int__", "__index__", "__complex__"})
    _REFUSED = _CONVERSIONS | {"item", "tolist", "numpy", "__array__"}

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder
        device = recorder.surroundings.device
        elsewhere = device.type != "cpu"
        self._claims = (
            {"device": device, "is_cuda": True, "is_cpu": False, "get_device": device.index}
            if elsewhere
            else {}
        )

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        attribute = func.__self__.__name__ if name == "__get__" else name
        if attribute in self._claims and args and isinstance(args[0], Tensor):
            return self._claims[attribute]
        if attribute == "shape" or name not in ("__get__", "_set_grad_enabled"):
            self._recorder.last_call = attribute
        if name in self._REFUSED and not self._recorder._quiet:
            raise refusal(name, _authors_line(sys._getframe(1)))
        if name not in ("__get__", "untyped_storage") and not self._recorder._quiet:
            for given in (*args, *kwargs.values()):
                if isinstance(given, Tensor):
                    self._recorder.check_inside(given, _authors_line(sys._getframe(1)))
        return func(*map(self._here, args), **{k: self._here(v) for k, v in kwargs.items()})

    def _here(self, given: Any) -> Any:
        """The CPU for the device that the arguments claim to be on."""
        claimed = isinstance(given, torch.device) and given == self._recorder.surroundings.device
        return torch.device("cpu") if claimed else given


class _OpaqueSpike(torch.autograd.Function):
    """A spike and its surrogate gradient as operations that nobody looks into."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, recorder: _Recorder) -> Tensor:
        ctx.save_for_backward(u)
        ctx.recorder = recorder
        return recorder.fresh("spike", u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.recorder.fresh("gradient", u), None


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _authors_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the author's functions, innermost first, up to the call that we made."""
    inside = False
    while frame is not None:
        file = frame.f_code.co_filename
        if file == __file__ and frame.f_code.co_name in ("_run_step", "_run_surrogate"):
            return
        if not file.startswith(_NOT_THE_AUTHORS):
            inside = True
            yield frame
        elif inside and file == __file__:
            return
        frame = frame.f_back


def _authors_line(frame: FrameType) -> tuple[str, int] | None:
    for found in _authors_frames(frame):
        return found.f_code.co_filename, found.f_lineno
    return None


def _first_line(function: Callable[..., Any]) -> int:
    return function.__code__.co_firstlineno


def _place(function: Callable[..., Any]) -> str:
    code = inspect.unwrap(function).__code__
    return f"{function.__qualname__} in {Path(code.co_filename).name}"


def _checked_results(results: Any, states: int, recorder: _Recorder) -> list[Tensor]:
    line = recorder.function.__code__.co_filename, _first_line(recorder.function)
    if not isinstance(results, tuple) or len(results) <= states:
        got = f"{len(results)} values" if isinstance(results, tuple) else "one value"
        raise step_error(
            f"the function returns {got}",
            f"a tuple: at least one output, then the next value of each state, {states} of them",
            "return output, next_state",
            line,
        )
    for k, result in enumerate(results):
        recorder.check_number(result, f"value {k} that the function returns")
        operand = recorder.operand(result)
        if not is_finite(operand):
            raise _not_finite(line)
    return list(results)


def _check_same(
    found: Collection[Operand], other: Collection[Operand], function: Callable[..., Any]
) -> None:
    """Refuse a function that does one thing to numbers and another to arrays."""
    lines = list(differing_lines(found, other)) if len(found) == len(other) else [None]
    if not lines:
        return
    first = function.__code__.co_filename, _first_line(function)
    raise step_error(
        "operations or numbers that depend on the dtype, shape or device of the arguments, on "
        "whether they need gradients, or on something else that changes from call to call",
        "the same for float32 and float64, for every shape and on every device",
        "write the number itself, or make it a parameter",
        min((line for line in lines if line is not None), default=first),
    )


def _without_gradient(step: Callable[..., Any]) -> StepError:
    return step_error(
        "results that depend on the input, and a gradient for none of them",
        "a gradient for one result at least",
        "fire by spike(u), which has a gradient, not by (u >= 0).to(u); take detach() and "
        "torch.no_grad() away from what is to be learnt",
        (step.__code__.co_filename, _first_line(step)),
    )


def _not_finite(line: tuple[str, int] | None) -> StepError:
    return step_error(
        "a constant that is not finite",
        "finite numbers",
        "take a large number that float32 still holds, such as 1e30, or leave the bound away",
        line,
    )


def _name_results(operands: Sequence[Operand], split: int, states: Sequence[str]) -> None:
    for k, operand in enumerate(operands):
        if isinstance(operand, Value) and not operand.name:
            operand.name = "output" if k < split else f"next_{states[k - split]}"


def _grad_name(operand: Operand, k: int, split: int, states: Sequence[str]) -> str:
    if k < split:
        named = isinstance(operand, Value) and operand.op != "input"
        return f"grad_{operand.name}_out" if named else f"grad_output_{k}"  # type: ignore[union-attr]
    return f"grad_next_{states[k - split]}"
