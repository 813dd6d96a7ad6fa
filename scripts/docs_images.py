"""``python scripts/docs_images.py``: draw the pictures of the documents.

Those of the pages below by running their blocks, and all surrogates for docs/surrogates.md.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from matplotlib.figure import Figure

from snnkernels import surrogate

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("tutorial.md", "neurons.md")


def main() -> None:
    os.chdir(DOCS / "images")
    for name in PAGES:
        page = (DOCS / name).read_text(encoding="utf-8")
        for source in re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.M):
            exec(compile(source, name, "exec"), {"__name__": "block"})
    draw_surrogates().savefig("surrogates.png")


def draw_surrogates() -> Figure:
    """Primitive and gradient of every surrogate with its defaults."""
    figure = Figure(figsize=(11, 13), dpi=100, layout="constrained")
    x = torch.linspace(-2.5, 2.5, 1001, dtype=torch.float64)
    kinds = sorted(surrogate.BUILT_IN, key=lambda cls: cls.__name__)
    for axes, cls in zip(figure.subplots(6, 3).flat, kinds, strict=True):
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
