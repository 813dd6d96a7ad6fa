"""Digits with neurons of one's own: a threshold that rises with each spike and is learnt.

The network and the flags of ``lif_fc_mnist``, with a neuron that is written here as one step in
PyTorch; its fused kernels are compiled at the first batch.

    python -m snnkernels.examples.neuron_custom --dataset-dir data --epochs 3
"""

from __future__ import annotations

from functools import partial

from snnkernels import compile_neuron, spike

from . import _training, lif_fc_mnist


def adaptive(x, v, a, *, tau, v_threshold, kappa, rho):  # type: ignore[no-untyped-def]
    """LIF that fires against v_threshold + kappa a, where a' = rho a + s."""
    h = v + (x - v) / tau
    s = spike(h - (v_threshold + kappa * a))
    return s, h * (1 - s), rho * a + s


AdaptiveNode = compile_neuron(
    adaptive,
    states={"v": 0.0, "a": 0.0},
    params={"tau": 2.0, "v_threshold": 1.0, "kappa": 0.05, "rho": 0.9},
    learnable=("kappa", "rho"),
)


build_net = partial(lif_fc_mnist.build_net, make_neuron=AdaptiveNode)
main = partial(_training.run, "neuron_custom", __doc__, build_net)
"""Run the example with flags, those of the command line by default; gives the exit status."""

if __name__ == "__main__":
    raise SystemExit(main())
