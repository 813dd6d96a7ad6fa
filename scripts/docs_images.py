"""``python scripts/docs_images.py``: draw the pictures of the documents.

Those of the tutorial by running its blocks; neurons and surrogates here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from snnkernels import neuron, surrogate

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    os.chdir(DOCS / "images")
    for source in re.findall(
        r"^```python\n(.*?)^```$", (DOCS / "tutorial.md").read_text("utf-8"), re.DOTALL | re.M
    ):
        exec(compile(source, "tutorial.md", "exec"), {"__name__": "block"})
    draw_library().savefig("neurons.png")
    draw_zoo().savefig("zoo.png")
    draw_surrogates().savefig("surrogates.png")


def draw_library() -> Figure:
    x_seq = torch.zeros(50, 1, 1)
    x_seq[2:35] = 0.4
    nodes = {
        "IF": neuron.IFNode(),
        "LIF, hard reset": neuron.LIFNode(tau=5.0, decay_input=False),
        "LIF, soft reset": neuron.LIFNode(tau=5.0, decay_input=False, v_reset=None),
        "CubaLIF": neuron.CubaLIFNode(alpha=0.5, beta=0.4),
    }
    return draw_traces(nodes, x_seq, Figure(figsize=(11, 2.6), dpi=80, layout="constrained"), 1)


def draw_zoo() -> Figure:
    x_seq = torch.zeros(60, 1, 1)
    x_seq[5:45] = 1.3
    nodes = {
        "LI": neuron.LINode(tau=5.0),
        "QIF": neuron.QIFNode(tau=5.0),
        "EIF": neuron.EIFNode(tau=5.0),
        "Izhikevich": neuron.IzhikevichNode(tau=3.0, a=0.1, b=0.4, tau_w=8.0),
        "ALIF": neuron.ALIFNode(tau=3.0, kappa=0.1, v_threshold=0.9),
        "KLIF": neuron.KLIFNode(tau=5.0, k=1.2),
        "CLIF": neuron.CLIFNode(tau=2.0),
        "GLIF": neuron.GLIFNode(len(x_seq)),
        "I-LIF": neuron.ILIFNode(tau=2.0),
    }
    return draw_traces(nodes, x_seq, Figure(figsize=(10, 6), dpi=80, layout="constrained"), 3)


def draw_traces(
    nodes: Mapping[str, neuron.BaseNode], x_seq: Tensor, figure: Figure, rows: int
) -> Figure:
    """The potential of each node for an input [T, 1, 1], its spikes and its threshold."""
    axes = figure.subplots(rows, len(nodes) // rows, sharex=True, sharey=rows == 1, squeeze=False)
    for (name, node), axis in zip(nodes.items(), axes.flat, strict=True):
        node.step_mode, node.store_v_seq = "m", True
        with torch.no_grad():
            out = node(x_seq).flatten()
        for t in out.nonzero().flatten() if name != "LI" else []:
            axis.axvline(t, color="0.85", zorder=0)
        axis.plot(node.v_seq.flatten())
        threshold = getattr(node, "v_threshold", None)
        if isinstance(threshold, float):
            axis.axhline(threshold, color="0.5", linestyle="--", linewidth=0.8)
        axis.set_title(name, loc="left")
    for axis in axes[-1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("V after the step")
    return figure


def draw_surrogates() -> Figure:
    """Primitive and gradient of every surrogate with its defaults."""
    figure = Figure(figsize=(11, 13), dpi=100, layout="constrained")
    x = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64)
    for axes, cls in zip(figure.subplots(6, 3).flat, surrogate.BUILT_IN, strict=True):
        function = cls()
        if function.has_primitive:
            axes.plot(x, function.primitive(x, *function.values), label="g")
        axes.plot(x, function.gradient(x, *function.values), "--", label="g'")
        axes.set(title=cls.__name__, xlabel="x")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


if __name__ == "__main__":
    main()
