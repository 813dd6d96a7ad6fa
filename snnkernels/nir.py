"""Networks to and from NIR, the Neuromorphic Intermediate Representation.

NIR states neurons as differential equations; a step of length dt turns them into ours (forward
Euler). With time constants of NIR in seconds, tau_nir, and ours in steps, tau = tau_nir / dt:

    LIF, LI   tau_nir v' = (v_leak - v) + r I    decay_input: r = 1; otherwise r = tau
    IF        v' = r I                           r = 1 / dt
    CubaLIF   tau_syn i' = -i + w_in S           alpha = 1 - dt / tau_syn, w_in = tau_syn / dt
              tau_mem v' = (v_leak - v) + r i    beta = 1 - dt / tau_mem, r = tau_mem / dt

v_leak is our v_reset (LIF), v_rest (LI) or 0 (CubaLIF). NIR has no soft reset and no surrogate.
Needs ``pip install snnkernels[nir]``. Source: Pedersen et al., "Neuromorphic intermediate
representation", Nature Communications 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import functional, layer, neuron, surrogate
from ._core import checks
from ._core.torch_private import convolve

__all__ = ["from_nir", "to_nir"]

Arrays = dict[str, Any]


def to_nir(
    net: nn.Sequential,
    input_shape: Sequence[int],
    *,
    dt: float,
    drop_surrogate: bool = False,
) -> Any:
    """A ``nir.NIRGraph`` of a sequential network.

    Args:
        net: Linear, Conv1d, Conv2d, Flatten (PyTorch's or ``snnkernels.layer``'s), and IFNode,
            LIFNode, ParametricLIFNode (as the LIF that it is now), LINode, CubaLIFNode.
        input_shape: the shape of one sample, without T and B.
        dt: seconds of a step.
        drop_surrogate: leave out a surrogate that is not the default, ``Sigmoid(alpha=4)``, instead
            of refusing it.

    Raises:
        TypeError: a module is none of these.
        ValueError: NIR cannot say what a neuron does: soft reset, another surrogate, or a CubaLIF
            with alpha or beta outside [0, 1).
    """
    nir = _nir()
    dt = checks.number("dt", dt, above=0.0)
    if not isinstance(net, nn.Sequential):
        raise TypeError(f"net must be a torch.nn.Sequential, got {type(net).__name__}")
    x = torch.zeros(1, *input_shape)
    nodes: dict[str, Any] = {"input": nir.Input(np.array(x.shape[1:]))}
    for name, module in net.named_children():
        node, x = _node(nir, name, module, x, dt, drop_surrogate)
        nodes[name] = node
    nodes["output"] = nir.Output(np.array(x.shape[1:]))
    names = list(nodes)
    return nir.NIRGraph(nodes, list(zip(names, names[1:], strict=False)))


def from_nir(
    graph: Any,
    *,
    dt: float,
    step_mode: str = "s",
    surrogate_function: nn.Module | None = None,
) -> nn.Sequential:
    """The network of a ``nir.NIRGraph`` whose nodes follow one another.

    Numbers that are the same for all neurons become numbers, others tensors of one step's shape.
    What ``to_nir`` wrote comes back as it was: weights and tensors to the bit in float32,
    numbers to 15 digits.

    Args:
        graph: of Affine, Linear, Conv1d, Conv2d, Flatten, IF, LIF, LI, CubaLIF, Input, Output.
        dt: seconds of a step.
        step_mode: "s" or "m".
        surrogate_function: for the neurons; None for ``surrogate.Sigmoid()``.

    Raises:
        TypeError: a node is none of these.
        ValueError: the graph is no chain, or a neuron has values that ours cannot have.
    """
    nir = _nir()
    dt = checks.number("dt", dt, above=0.0)
    net = nn.Sequential()
    for name in _chain(graph):
        node = graph.nodes[name]
        make = _READERS.get(type(node).__name__)
        if make is None:
            raise TypeError(f"node {name!r} is a {type(node).__name__}, which has no counterpart")
        if isinstance(node, (nir.Input, nir.Output)):
            continue
        try:
            module = make(node, dt)
        except ValueError as error:
            raise ValueError(f"node {name!r}: {error}") from None
        if surrogate_function is not None and isinstance(module, neuron.BaseNode):
            module.surrogate_function = surrogate_function
        net.add_module(name, module)
    functional.set_step_mode(net, step_mode)
    return net


def _nir() -> Any:
    try:
        import nir
    except ImportError as error:
        raise ImportError(
            "snnkernels.nir needs the package nir: pip install 'snnkernels[nir]'"
        ) from error
    return nir


# --- to NIR --------------------------------------------------------------------------------------


def _node(
    nir: Any, name: str, module: nn.Module, x: Tensor, dt: float, drop_surrogate: bool
) -> tuple[Any, Tensor]:
    """The node of a module, and what the module gives for one sample x."""
    if isinstance(module, (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode)):
        return _integrator(nir, name, module, x, dt, drop_surrogate), x
    if isinstance(module, neuron.CubaLIFNode):
        return _synaptic(nir, name, module, x, dt, drop_surrogate), x
    if isinstance(module, neuron.LINode):
        r = 1.0 if module.decay_input else module.tau
        rest = 0.0 if module.v_rest is None else module.v_rest
        return nir.LI(**_arrays(x, tau=_times(module.tau, dt), r=r, v_leak=rest)), x
    if isinstance(module, nn.Flatten):
        shape = np.array(x.shape[1:])
        start, end = module.start_dim - 1, module.end_dim - (module.end_dim > 0)
        node = nir.Flatten({"input": shape}, start_dim=start, end_dim=end)
        return node, nn.Flatten(module.start_dim, module.end_dim)(x)
    return _weighted(nir, name, module, x)


def _weighted(nir: Any, name: str, module: nn.Module, x: Tensor) -> tuple[Any, Tensor]:
    if isinstance(module, nn.Linear):
        weight = _numpy(module.weight)
        y = nn.functional.linear(x, module.weight)
        if module.bias is None:
            return nir.Linear(weight), y
        return nir.Affine(weight, _numpy(module.bias)), y
    if isinstance(module, (nn.Conv1d, nn.Conv2d)):
        return _convolution(nir, name, module, x)
    raise TypeError(f"module {name!r} is a {type(module).__name__}, which NIR has no node for")


def _convolution(
    nir: Any, name: str, module: nn.Conv1d | nn.Conv2d, x: Tensor
) -> tuple[Any, Tensor]:
    if module.padding_mode != "zeros":
        raise ValueError(
            f"module {name!r}: padding_mode must be 'zeros', got {module.padding_mode!r}"
        )
    bias = torch.zeros(module.out_channels) if module.bias is None else module.bias
    one = isinstance(module, nn.Conv1d)

    def size(value: Any) -> Any:
        return value if isinstance(value, str) else value[0] if one else tuple(value)

    node = (nir.Conv1d if one else nir.Conv2d)(
        x.shape[2] if one else tuple(x.shape[2:]),
        _numpy(module.weight),
        size(module.stride),
        size(module.padding),
        size(module.dilation),
        module.groups,
        _numpy(bias),
    )
    return node, convolve(module, x)


def _integrator(
    nir: Any, name: str, module: Any, x: Tensor, dt: float, drop_surrogate: bool
) -> Any:
    shared = _shared(name, module, drop_surrogate)
    if isinstance(module, neuron.IFNode):
        return nir.IF(**_arrays(x, r=1 / dt, **shared))
    tau = 1 / module.w.detach().double().sigmoid() if hasattr(module, "w") else module.tau
    r = 1.0 if module.decay_input else tau
    return nir.LIF(**_arrays(x, tau=_times(tau, dt), r=r, v_leak=module.v_reset, **shared))


def _synaptic(nir: Any, name: str, module: Any, x: Tensor, dt: float, drop_surrogate: bool) -> Any:
    shared = _shared(name, module, drop_surrogate)
    tau = {}
    for own, theirs in (("alpha", "tau_syn"), ("beta", "tau_mem")):
        decay = torch.as_tensor(getattr(module, own), dtype=torch.float64).detach()
        if not bool(((decay >= 0) & (decay < 1)).all()):
            raise ValueError(
                f"module {name!r}: NIR needs {own} in [0, 1), got {getattr(module, own)}"
            )
        tau[theirs] = dt / (1 - decay)
    gains = {"w_in": tau["tau_syn"] / dt, "r": tau["tau_mem"] / dt}
    return nir.CubaLIF(**_arrays(x, **tau, **gains, v_leak=0.0, **shared))


def _shared(name: str, module: Any, drop_surrogate: bool) -> Arrays:
    if module.v_reset is None:
        raise ValueError(f"module {name!r}: NIR has no soft reset, v_reset must not be None")
    function = module.surrogate_function
    default = surrogate.Sigmoid()
    same = type(function) is type(default) and function.values == default.values
    if not same and not drop_surrogate:
        raise ValueError(
            f"module {name!r}: NIR has no surrogates, expected the default {default}, "
            f"got {function}; drop_surrogate=True leaves it out"
        )
    return {"v_threshold": module.v_threshold, "v_reset": module.v_reset}


def _times(value: Any, dt: float) -> Any:
    return value.detach().double() * dt if isinstance(value, Tensor) else value * dt


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy().copy()


def _arrays(x: Tensor, **values: Any) -> Arrays:
    """Each value in float64 and in the shape of one sample."""
    shape = x.shape[1:]
    return {
        name: _numpy(_align(name, torch.as_tensor(v, dtype=torch.float64).cpu(), x).expand(shape))
        for name, v in values.items()
    }


def _align(name: str, value: Tensor, x: Tensor) -> Tensor:
    aligned = checks.broadcast(name, value, x.shape)
    return aligned.squeeze(0) if aligned.dim() == x.dim() else aligned


# --- from NIR ------------------------------------------------------------------------------------


def _chain(graph: Any) -> list[str]:
    """The nodes from input to output."""
    after: dict[str, str] = {}
    for source, target in graph.edges:
        if source in after or target in after.values():
            raise ValueError(f"graph must be a chain, but it branches at {source!r} to {target!r}")
        after[source] = target
    starts = [name for name in graph.nodes if name not in after.values()]
    if len(starts) != 1 or len(after) != len(graph.nodes) - 1:
        raise ValueError(f"graph must be a chain from one input, got the starts {starts}")
    names = starts
    while names[-1] in after:
        names.append(after[names[-1]])
    return names


def _read_linear(node: Any, _: float) -> nn.Module:
    bias = getattr(node, "bias", None)
    rows, columns = node.weight.shape
    module = layer.Linear(columns, rows, bias=bias is not None)
    return _with_weights(module, node.weight, bias)


def _read_convolution(node: Any, _: float) -> nn.Module:
    bias = node.bias if np.any(node.bias) else None
    filters, channels, *kernel = node.weight.shape
    kind = layer.Conv1d if len(kernel) == 1 else layer.Conv2d

    def size(value: Any) -> Any:
        return value if isinstance(value, str) else tuple(np.atleast_1d(value).tolist())

    module = kind(
        channels * node.groups,
        filters,
        tuple(kernel),
        size(node.stride),
        size(node.padding),
        size(node.dilation),
        node.groups,
        bias is not None,
    )
    return _with_weights(module, node.weight, bias)


def _with_weights(module: Any, weight: Any, bias: Any) -> nn.Module:
    with torch.no_grad():
        module.weight.copy_(torch.as_tensor(weight))
        if bias is not None:
            module.bias.copy_(torch.as_tensor(bias))
    made: nn.Module = module
    return made


def _read_flatten(node: Any, _: float) -> nn.Module:
    start, end = int(node.start_dim), int(node.end_dim)
    return layer.Flatten(start + 1, end + 1 if end >= 0 else end)


def _read_if(node: Any, dt: float) -> nn.Module:
    _expect("r", node.r, 1 / dt)
    return neuron.IFNode(v_threshold=_value(node.v_threshold), v_reset=_value(node.v_reset))


def _read_lif(node: Any, dt: float) -> nn.Module:
    _expect("v_leak", node.v_leak, node.v_reset)
    tau, decay_input = _leak(node, dt)
    return neuron.LIFNode(
        tau, decay_input, v_threshold=_value(node.v_threshold), v_reset=_value(node.v_reset)
    )


def _read_li(node: Any, dt: float) -> nn.Module:
    tau, decay_input = _leak(node, dt)
    made: nn.Module = neuron.LINode(tau, decay_input=decay_input, v_rest=_value(node.v_leak))
    return made


def _leak(node: Any, dt: float) -> tuple[float | Tensor, bool]:
    """tau in steps, and whether the input decays."""
    tau = np.asarray(node.tau) / dt
    if _close(node.r, 1.0):
        return _value(tau), True
    _expect("r", node.r, tau, "1, or tau / dt")
    return _value(tau), False


def _read_cuba_lif(node: Any, dt: float) -> nn.Module:
    _expect("v_leak", node.v_leak, 0.0)
    syn, mem = np.asarray(node.tau_syn) / dt, np.asarray(node.tau_mem) / dt
    _expect("w_in", node.w_in, syn, "tau_syn / dt")
    _expect("r", node.r, mem, "tau_mem / dt")
    return neuron.CubaLIFNode(
        _value(1 - 1 / syn),
        _value(1 - 1 / mem),
        v_threshold=_value(node.v_threshold),
        v_reset=_value(node.v_reset),
    )


def _expect(name: str, found: Any, expected: Any, words: str = "") -> None:
    if not _close(found, expected):
        raise ValueError(f"{name} must be {words or expected}, got {found}")


def _close(found: Any, expected: Any) -> bool:
    """Whether values are equal but for rounding in their own dtype."""
    wide = np.asarray(found).dtype == np.float64
    return bool(np.allclose(found, expected, rtol=1e-9 if wide else 1e-6, atol=1e-12))


def _value(array: Any) -> float | Tensor:
    """A number where all are equal, else a float32 tensor."""
    array = np.asarray(array, dtype=np.float64)
    if array.size and (array == array.flat[0]).all():
        return float(f"{array.flat[0]:.15g}")
    return torch.as_tensor(array, dtype=torch.float32)


_READERS: dict[str, Callable[[Any, float], nn.Module]] = {
    "Input": lambda node, dt: nn.Identity(),
    "Output": lambda node, dt: nn.Identity(),
    "Linear": _read_linear,
    "Affine": _read_linear,
    "Conv1d": _read_convolution,
    "Conv2d": _read_convolution,
    "Flatten": _read_flatten,
    "IF": _read_if,
    "LIF": _read_lif,
    "LI": _read_li,
    "CubaLIF": _read_cuba_lif,
}
