"""The workloads on JAX, in a peer's process: an adapter brings functions of arrays [T, B, ...]."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.case import Memory, Task, Unavailable
from benchmarks.timing import TimedCall

Function = Callable[..., Any]


Neurons = Callable[[Task, tuple[int, ...]], Function]
"""Neurons on [T, B, *features], given the task and their features."""


class JaxEngine:
    """Runs the workloads with a library's LIF neurons and leaky integrators, compiled by XLA."""

    def __init__(self, lif: Neurons, readout: Neurons, **versions: str) -> None:
        self.lif, self.readout = lif, readout
        self.versions = {"jax": jax.__version__, **versions}

    def provider(self, task: Task) -> str | None:
        return None

    def tidy(self) -> None:
        """On a CPU, JAX keeps no memory of arrays that are gone."""

    def prepare(self, task: Task, arrays: Mapping[str, np.ndarray]) -> JaxJob:
        """Linear layers and neurons in turns, or neurons alone; gradients as in networks.py."""
        case = task.case
        if case.workload not in ("neuron", "linear", "shd"):
            raise Unavailable(f"there is no {case.workload} network in JAX here")
        weights = [jnp.asarray(arrays[name]) for name in sorted(arrays) if name.startswith("w")]
        x, upstream = sequence(task, arrays["x"]), sequence(task, arrays.get("upstream"))
        layers = self._layers(task, weights)

        def forward(weights: Any, x: Any) -> Any:
            for w, layer in zip(weights or [None], layers, strict=True):
                x = layer(x if w is None else x @ w.T)
            return x

        if case.mode == "inference":
            return JaxJob(task, forward, [weights, x])
        if "labels" not in arrays:
            return JaxJob(task, partial(_pull_back, forward), [weights, x, upstream])
        train = jax.value_and_grad(partial(_loss, forward), has_aux=True)
        return JaxJob(task, partial(_train, train), [weights, x, jnp.asarray(arrays["labels"])])

    def _layers(self, task: Task, weights: list[Any]) -> list[Function]:
        if not weights:
            return [self.lif(task, task.case.shape[2:])]
        layers = [self.lif(task, (w.shape[0],)) for w in weights]
        if task.case.workload == "shd":
            layers[-1] = self.readout(task, (weights[-1].shape[0],))
        return layers


def _pull_back(forward: Function, weights: Any, x: Any, upstream: Any) -> Any:
    """Output, and the gradients of x and of the weights."""
    out, pull = jax.vjp(forward, weights, x)
    of_weights, of_x = pull(upstream)
    return out, [of_x, *of_weights]


def _loss(forward: Function, weights: Any, x: Any, labels: Any) -> Any:
    """The cross entropy of the output's mean over T, and the output."""
    out = forward(weights, x)
    chosen = jax.nn.log_softmax(out.mean(0))[jnp.arange(labels.shape[0]), labels]
    return -chosen.mean(), out


def _train(train: Function, weights: Any, x: Any, labels: Any) -> Any:
    (_, out), gradients = train(weights, x, labels)
    return out, gradients


class JaxJob:
    """A compiled function on its arguments; the first call compiles."""

    def __init__(self, task: Task, function: Function, arguments: list[Any]) -> None:
        self.task, self.arguments = task, jax.block_until_ready(arguments)
        self.function = jax.jit(function)

    def samples(self, count: int) -> list[float]:
        call = TimedCall(lambda: jax.block_until_ready(self.function(*self.arguments)))
        return call.samples(count)

    def outcome(self) -> dict[str, np.ndarray]:
        found = self.function(*self.arguments)
        if self.task.case.mode == "inference":
            return {"output": self._rows(found)}
        output, gradients = found
        flat = [self._rows(gradient).ravel() for gradient in jax.tree.leaves(gradients)]
        return {"output": self._rows(output), "gradient": np.concatenate(flat)}

    def _rows(self, array: Any) -> np.ndarray:
        if array.shape[:2] == self.task.case.shape[:2]:
            array = array[:, : self.task.rows]
        return np.asarray(array.astype(jnp.float32))

    def memory(self) -> Memory | None:
        """XLA plans all memory when it compiles: what it takes beyond arguments and results."""
        analysis = self.function.lower(*self.arguments).compile().memory_analysis()
        size = getattr(analysis, "temp_size_in_bytes", None)
        return None if size is None else Memory(int(size))


def sequence(task: Task, array: np.ndarray | None) -> Any:
    """An array in the task's dtype, its rows repeated to the batch of the task."""
    if array is None:
        return None
    index = np.arange(task.case.shape[1]) % array.shape[1]
    return jnp.asarray(array[:, index], dtype=task.case.input_dtype)
