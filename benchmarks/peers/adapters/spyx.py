"""spyx: a cell that jax.lax.scan runs, compiled by XLA."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.case import Task
from benchmarks.peers.spec import Peer

if TYPE_CHECKING:
    from benchmarks.peers.jax_side import JaxEngine

PEERS = (
    Peer(
        "spyx",
        "spyx 1.0.0 (JAX, jit)",
        "spyx",
        differs="fires one step later, and what a spike subtracts does not decay",
        devices=("cpu",),
        framework="jax",
        workloads=("neuron", "linear", "shd"),
        dtypes=("float32", "float16", "bfloat16"),
    ),
)


def load(peer: Peer) -> JaxEngine:
    """LIF and LI, whose beta is 1 - 1/tau."""
    from flax import nnx
    from spyx import axn, nn

    from benchmarks.peers.jax_side import JaxEngine

    def run(module: Any) -> Any:
        graph, state = nnx.split(module)

        def over_time(x: Any) -> Any:
            cell = nnx.merge(graph, state)
            start = cell.initial_state(x.shape[1]).astype(x.dtype)
            out, _ = nn.run(cell, x, start)
            return out

        return over_time

    def lif(task: Task, features: tuple[int, ...]) -> Any:
        beta = 1 - 1 / task.neuron.tau
        cell = nn.LIF(features, beta=beta, activation=axn.arctan(), rngs=nnx.Rngs(0))
        return run(cast(cell, task))

    def readout(task: Task, features: tuple[int, ...]) -> Any:
        beta = 1 - 1 / task.neuron.tau
        return run(cast(nn.LI(features, beta=beta, rngs=nnx.Rngs(0)), task))

    def cast(cell: Any, task: Task) -> Any:
        cell.beta[...] = cell.beta[...].astype(task.case.dtype)
        return cell

    return JaxEngine(lif, readout, spyx=version("spyx"))
