"""The workloads on JAX, in a peer's process: an adapter brings functions of arrays [T, B, ...]."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.spec import Task, Unsupported

Function = Callable[..., Any]


class JaxLibrary:
    """A library's neurons as functions of sequences."""

    def lif(self, task: Task, features: tuple[int, ...]) -> Function:
        """LIF neurons on [T, B, *features]."""
        raise NotImplementedError

    def readout(self, task: Task, features: tuple[int, ...]) -> Function:
        """Leaky integrators on [T, B, *features]."""
        raise NotImplementedError


class JaxEngine:
    """Runs the workloads with a library's neurons, compiled by XLA."""

    def __init__(self, library: JaxLibrary, **versions: str) -> None:
        self.library = library
        self.versions = {"jax": jax.__version__, **versions}

    def provider(self, task: Task) -> str | None:
        return None

    def tidy(self) -> None:
        """On a CPU, JAX keeps no memory of arrays that are gone."""

    def prepare(self, task: Task, arrays: Mapping[str, np.ndarray]) -> JaxJob:
        if task.dtype == "autocast":
            raise Unsupported("JAX has no autocast")
        make = {"neuron": self._neuron, "linear": self._linear, "shd": self._shd}.get(task.workload)
        if make is None:
            raise Unsupported(f"there is no {task.workload} network in JAX here")
        return JaxJob(task, *make(task, arrays))

    def _neuron(self, task: Task, arrays: Mapping[str, np.ndarray]) -> tuple[Function, list[Any]]:
        lif = self.library.lif(task, task.shape[2:])
        x, upstream = sequence(task, arrays["x"]), sequence(task, arrays.get("upstream"))
        if task.mode == "inference":
            return lif, [x]

        def train(x: Any, upstream: Any) -> Any:
            return pull_back(lif, x, upstream)

        return train, [x, upstream]

    def _linear(self, task: Task, arrays: Mapping[str, np.ndarray]) -> tuple[Function, list[Any]]:
        lif = self.library.lif(task, task.shape[2:])
        x, w = sequence(task, arrays["x"]), jnp.asarray(arrays["w0"])

        def forward(x: Any, w: Any) -> Any:
            return lif(x @ w.T)

        if task.mode == "inference":
            return forward, [x, w]
        upstream = sequence(task, arrays["upstream"])

        def train(x: Any, w: Any, upstream: Any) -> Any:
            out, pull = jax.vjp(forward, x, w)
            return out, pull(upstream)

        return train, [x, w, upstream]

    def _shd(self, task: Task, arrays: Mapping[str, np.ndarray]) -> tuple[Function, list[Any]]:
        weights = [jnp.asarray(arrays[name]) for name in ("w0", "w1", "w2")]
        hidden = [self.library.lif(task, (w.shape[0],)) for w in weights[:2]]
        last = self.library.readout(task, (weights[2].shape[0],))
        x, labels = sequence(task, arrays["x"]), jnp.asarray(arrays["labels"])

        def forward(weights: Any, x: Any) -> Any:
            for w, layer in zip(weights, (*hidden, last), strict=True):
                x = layer(x @ w.T)
            return x

        def loss(weights: Any, x: Any, labels: Any) -> Any:
            out = forward(weights, x)
            chosen = jax.nn.log_softmax(out.mean(0))[jnp.arange(labels.shape[0]), labels]
            return -chosen.mean(), out

        if task.mode == "inference":
            return forward, [weights, x]

        def train(weights: Any, x: Any, labels: Any) -> Any:
            (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(weights, x, labels)
            return out, gradients

        return train, [weights, x, labels]


class JaxJob:
    """A compiled function on its arguments; the first call compiles."""

    def __init__(self, task: Task, function: Function, arguments: list[Any]) -> None:
        self.task, self.arguments = task, jax.block_until_ready(arguments)
        self.function = jax.jit(function)

    def samples(self, count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            jax.block_until_ready(self.function(*self.arguments))
            seconds.append(time.perf_counter() - start)
        return seconds

    def outcome(self) -> dict[str, np.ndarray]:
        found = self.function(*self.arguments)
        if self.task.mode == "inference":
            return {"output": self._rows(found)}
        output, gradients = found
        flat = [self._rows(gradient).ravel() for gradient in jax.tree.leaves(gradients)]
        return {"output": self._rows(output), "gradient": np.concatenate(flat)}

    def _rows(self, array: Any) -> np.ndarray:
        if self.task.rows and array.shape[:2] == self.task.shape[:2]:
            array = array[:, : self.task.rows]
        return np.asarray(array.astype(jnp.float32))

    def memory(self) -> dict[str, int | None]:
        """XLA plans all memory when it compiles: what it takes beyond arguments and results."""
        analysis = self.function.lower(*self.arguments).compile().memory_analysis()
        size = getattr(analysis, "temp_size_in_bytes", None)
        return {} if size is None else {"peak_extra": int(size), "saved": None}


def sequence(task: Task, array: np.ndarray | None) -> Any:
    """An array in the task's dtype, its rows repeated to the batch of the task."""
    if array is None:
        return None
    index = np.arange(task.shape[1]) % array.shape[1]
    return jnp.asarray(array[:, index], dtype=task.input_dtype)


def pull_back(function: Function, x: Any, upstream: Any) -> Any:
    """A function's value and the gradient of its argument."""
    out, pull = jax.vjp(function, x)
    (gradient,) = pull(upstream)
    return out, gradient
