"""spyx: a cell that jax.lax.scan runs, compiled by XLA; it has its own environment, with JAX."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from benchmarks.peers.spec import Environment, Peer, Task

if TYPE_CHECKING:
    from benchmarks.peers.jax_side import JaxEngine

PEERS = (
    Peer(
        "spyx",
        "spyx 1.0.0 (JAX, jit)",
        Environment(
            (
                "spyx==1.0.0",
                "jax==0.10.2",
                "jaxlib==0.10.2",
                "flax==0.12.8",
                "optax==0.2.8",
                "orbax-checkpoint==0.12.8",
                "grain==0.2.18",
                "jax-tqdm==0.4.0",
                "nir==1.0.8",
                "h5py==3.16.0",
                "absl-py==2.5.1",
                "aiofiles==25.1.0",
                "array_record==0.8.6",
                "chex==0.1.92",
                "cloudpickle==3.1.2",
                "etils==1.15.0",
                "fsspec==2026.9.0",
                "humanize==4.17.0",
                "markdown-it-py==4.3.0",
                "mdurl==0.1.2",
                "ml_dtypes==0.6.0",
                "msgpack==1.2.4",
                "numpy==2.4.6",
                "opt_einsum==3.4.0",
                "portpicker==1.6.0",
                "prometheus_client==0.26.0",
                "protobuf==7.36.2",
                "psutil==7.2.2",
                "Pygments==2.21.0",
                "PyYAML==6.0.3",
                "rich==15.0.0",
                "scipy==1.17.1",
                "simplejson==4.3.0",
                "tensorstore==0.1.86",
                "toolz==1.2.0",
                "tqdm==4.70.1",
                "treescope==0.1.10",
                "typing_extensions==4.16.0",
                "uvloop==0.23.0",
                "zipp==4.1.2",
            ),
            shares_torch=False,
        ),
        differs="fires one step later, and what a spike subtracts does not decay",
        devices=("cpu",),
        workloads=("neuron", "linear", "shd"),
        dtypes=("float32", "float16", "bfloat16"),
        compiles=True,
    ),
)


def load(peer: Peer) -> JaxEngine:
    """LIF and LI, whose beta is 1 - 1/tau."""
    from flax import nnx
    from spyx import axn, nn

    from benchmarks.peers import jax_side

    def run(module: Any, task: Task) -> Any:
        graph, state = nnx.split(module)

        def over_time(x: Any) -> Any:
            cell = nnx.merge(graph, state)
            start = cell.initial_state(x.shape[1]).astype(x.dtype)
            out, _ = nn.run(cell, x, start)
            return out

        return over_time

    class Spyx(jax_side.JaxLibrary):
        def lif(self, task: Task, features: tuple[int, ...]) -> Any:
            beta = 1 - 1 / task.neuron.tau
            cell = nn.LIF(features, beta=beta, activation=axn.arctan(), rngs=nnx.Rngs(0))
            return run(cast(cell, task), task)

        def readout(self, task: Task, features: tuple[int, ...]) -> Any:
            beta = 1 - 1 / task.neuron.tau
            return run(cast(nn.LI(features, beta=beta, rngs=nnx.Rngs(0)), task), task)

    def cast(cell: Any, task: Task) -> Any:
        cell.beta[...] = cell.beta[...].astype(task.dtype)
        return cell

    return jax_side.JaxEngine(Spyx(), spyx=version("spyx"))
