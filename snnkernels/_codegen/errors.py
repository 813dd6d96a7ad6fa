"""The one error of functions that cannot be compiled, and what to do instead for each kind."""

from __future__ import annotations

import linecache
from types import CodeType, TracebackType


class StepError(ValueError):
    """A function cannot be compiled; the message gives the line that is to blame and a way out."""


def step_error(found: str, expected: str, remedy: str, line: tuple[str, int] | None) -> StepError:
    """Make a `StepError`.

    Args:
        found: what the function does.
        expected: what it may do.
        remedy: what to do instead.
        line: file and number of the line that is to blame.
    """
    where = "the function cannot be compiled"
    if line is not None:
        source = linecache.getline(*line).strip()
        where = f"{line[0]}, line {line[1]}, cannot be compiled\n    {source}"
    rows = [("found", found), ("expected", expected), ("instead", remedy)]
    return StepError("\n".join([where, *(f"  {name + ':':<10}{text}" for name, text in rows)]))


_ONE_NEURON = "operations on one neuron at one step: each value is a single number"

_KINDS: list[tuple[str, str, str, str]] = [
    (
        "item is_nonzero _local_scalar_dense __bool__ __float__ __int__ __index__ __complex__ "
        "tolist numpy __array__ equal",
        "Python code that depends on the value of a tensor",
        "the same operations for every value",
        "choose with torch.where(condition, a, b); Python may branch on options "
        "(True, False, None, strings) alone",
    ),
    (
        "matmul __matmul__ __rmatmul__ mm bmm mv dot addmm linear conv1d conv2d conv3d einsum "
        "tensordot bilinear outer",
        "a product over several neurons",
        _ONE_NEURON,
        "put a layer such as nn.Linear before the neuron, on its whole input [T, B, ...]",
    ),
    (
        "sum mean prod amax amin max min any all std var norm cumsum cumprod softmax log_softmax "
        "logsumexp sort topk median layer_norm batch_norm",
        "a reduction over several neurons or steps",
        _ONE_NEURON,
        "keep a running value as a state, or normalise the input before the neuron",
    ),
    (
        "rand randn rand_like randn_like bernoulli bernoulli_ dropout normal normal_ uniform_ "
        "poisson randint multinomial",
        "random numbers",
        "a function that gives the same for the same arguments",
        "draw the noise outside, for all steps at once, and add it to the input",
    ),
    (
        "view reshape flatten unflatten cat stack concat __getitem__ __setitem__ index select "
        "slice squeeze unsqueeze permute transpose t roll flip gather scatter split chunk unbind "
        "expand repeat size shape",
        "an operation on shapes or indices",
        _ONE_NEURON,
        "reshape outside the neuron; several values of a neuron are several states",
    ),
    (
        "long int short int32 int64 float32 float64 double half bfloat16 float float_power",
        "a conversion to another dtype",
        "the arithmetic's own dtype, float32 or float64, whatever the input's is",
        "write value.to(x) to make a number of a comparison's outcome, and drop other conversions",
    ),
]


def refusal(name: str, line: tuple[str, int] | None, detail: str = "") -> StepError:
    """Make the error for a torch function or operator by its bare name, such as "matmul"."""
    found = f"torch's {name}" + (f" ({detail})" if detail else "")
    for names, kind, expected, remedy in _KINDS:
        if name in names.split():
            return step_error(f"{found}: {kind}", expected, remedy, line)
    if name.startswith("__i") or (name.endswith("_") and not name.endswith("__")):
        return step_error(
            f"{found}, which writes in place",
            "operations that give new values",
            "write a = a + b for a += b or a.add_(b)",
            line,
        )
    return step_error(
        found,
        "+ - * /, neg, abs, exp, log, sqrt, pow, sigmoid, tanh, relu, softplus, clamp, minimum, "
        "maximum, floor, ceil, round, sign, erf, sin, cos, comparisons, logical operations, where, "
        "detach, snnkernels.spike",
        "express it by these, or subclass neuron.BaseNode, which runs anything step by step",
        line,
    )


def blamed_line(traceback: TracebackType | None, code: CodeType) -> tuple[str, int] | None:
    """The line of the file that `code` is in which an exception passed through last."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == code.co_filename:
            found = code.co_filename, traceback.tb_lineno
        traceback = traceback.tb_next
    return found
