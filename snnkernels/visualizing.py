"""Pictures of neurons and of training, as matplotlib figures that are returned and not shown.

In a notebook a figure shows itself; elsewhere ``figure.savefig("file.png")``. Arguments are
tensors or numpy arrays. matplotlib comes with ``pip install snnkernels[examples]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from . import surrogate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "plot_1d_spikes",
    "plot_2d_heatmap",
    "plot_accuracy",
    "plot_firing_rates",
    "plot_one_neuron_v_s",
    "plot_surrogates",
]

Array = Tensor | np.ndarray[Any, Any] | Sequence[Any]


def plot_one_neuron_v_s(
    v: Array,
    s: Array,
    v_threshold: float | None = 1.0,
    v_reset: float | None = 0.0,
    title: str = "Membrane potential and spikes of one neuron",
    figsize: tuple[float, float] = (8.0, 4.5),
    dpi: int = 120,
) -> Figure:
    """The membrane potential of a neuron over time, and below it its spikes.

    Args:
        v: potentials [T].
        s: spikes [T].
        v_threshold, v_reset: drawn as lines; None for no line.
        title: above the picture.
        figsize: width and height in inches.
        dpi: dots per inch.

    Raises:
        ValueError: ``v`` or ``s`` is not of one dimension, or they differ in length.
    """
    potentials, spikes = _array("v", v, "[T]"), _array("s", s, "[T]")
    if len(potentials) != len(spikes):
        raise ValueError(
            f"s must have as many steps as v, expected {len(potentials)}, got {len(spikes)}"
        )
    figure = _figure(figsize, dpi)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot(potentials, marker=".", markersize=3, linewidth=1)
    for value, name, style in ((v_threshold, "threshold", "--"), (v_reset, "reset", ":")):
        if value is not None:
            above.axhline(value, color="0.4", linestyle=style, linewidth=1, label=name)
    if (v_threshold, v_reset) != (None, None):
        above.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    above.set_ylabel("membrane potential")
    above.set_title(title)
    below.eventplot(np.flatnonzero(spikes), lineoffsets=0.5, linelengths=0.9, color="tab:red")
    below.set(ylim=(0, 1), yticks=[], ylabel="spikes", xlabel="step")
    _whole_numbers(below)
    return figure


def plot_1d_spikes(
    spikes: Array,
    title: str = "Spikes",
    xlabel: str = "step",
    ylabel: str = "neuron",
    plot_firing_rate: bool = True,
    figsize: tuple[float, float] = (8.0, 4.5),
    dpi: int = 120,
) -> Figure:
    """The spikes of several neurons over time, and beside them each one's firing rate.

    Args:
        spikes: [T, N].
        title, xlabel, ylabel: texts.
        plot_firing_rate: whether the rates stand beside the raster.
        figsize: width and height in inches.
        dpi: dots per inch.
    """
    raster = _array("spikes", spikes, "[T, N]")
    steps, neurons = raster.shape
    figure = _figure(figsize, dpi)
    ratios = [5, 1] if plot_firing_rate else [1]
    axes = figure.subplots(1, len(ratios), sharey=True, width_ratios=ratios, squeeze=False)[0]
    rows = [np.flatnonzero(raster[:, n]) for n in range(neurons)]
    axes[0].eventplot(rows, lineoffsets=range(neurons), linelengths=0.8, linewidths=1)
    axes[0].set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes[0].set(xlim=(-0.5, max(steps - 0.5, 0.5)), ylim=(-0.5, max(neurons - 0.5, 0.5)))
    _whole_numbers(axes[0])
    if plot_firing_rate:
        axes[1].barh(range(neurons), raster.mean(0) if steps else np.zeros(neurons), height=0.8)
        axes[1].set(title="rate", xlabel="spikes per step")
        axes[1].set_xlim(left=0)
    return figure


def plot_2d_heatmap(
    array: Array,
    title: str = "Membrane potential",
    xlabel: str = "step",
    ylabel: str = "neuron",
    colorbar_label: str = "membrane potential",
    figsize: tuple[float, float] = (8.0, 4.5),
    dpi: int = 120,
) -> Figure:
    """A value of several neurons over time, as colours.

    Args:
        array: [T, N], such as membrane potentials.
        title, xlabel, ylabel, colorbar_label: texts.
        figsize: width and height in inches.
        dpi: dots per inch.
    """
    values = _array("array", array, "[T, N]")
    figure = _figure(figsize, dpi)
    axes = figure.subplots()
    image = axes.imshow(
        values.T, aspect="auto", origin="lower", interpolation="nearest", cmap="viridis"
    )
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    _whole_numbers(axes)
    figure.colorbar(image, label=colorbar_label)
    return figure


def plot_firing_rates(
    rates: Array | Mapping[str, Array],
    bins: int = 30,
    title: str = "Firing rates",
    figsize: tuple[float, float] = (8.0, 4.5),
    dpi: int = 120,
) -> Figure:
    """How many neurons fire how often: a histogram.

    Args:
        rates: the rate of each neuron in spikes per step, of any shape; or several by name, such as
            ``{name: monitor[name].rate for name in monitor}``.
        bins: number of bars between 0 and the highest rate.
        title: above the picture.
        figsize: width and height in inches.
        dpi: dots per inch.
    """
    named = rates if isinstance(rates, Mapping) else {"": rates}
    arrays = {name: _array("rates", values).ravel() for name, values in named.items()}
    highest = max((values.max(initial=0.0) for values in arrays.values()), default=0.0) or 1.0
    kind: Literal["bar", "step"] = "bar" if len(arrays) == 1 else "step"
    figure = _figure(figsize, dpi)
    axes = figure.subplots()
    for name, values in arrays.items():
        silent = f"{np.mean(values == 0):.0%} silent" if len(values) else "no neurons"
        label = f"{name}: {silent}" if name else silent
        axes.hist(values, bins=bins, range=(0, highest), histtype=kind, linewidth=1.5, label=label)
    axes.set(title=title, xlabel="spikes per step", ylabel="neurons", xlim=(0, highest))
    axes.legend(frameon=False)
    return figure


def plot_surrogates(
    functions: Sequence[surrogate.SurrogateFunction] | Mapping[str, surrogate.SurrogateFunction],
    x_range: tuple[float, float] = (-2.5, 2.5),
    title: str = "Surrogate functions and their gradients",
    figsize: tuple[float, float] = (9.0, 4.0),
    dpi: int = 120,
) -> Figure:
    """Surrogates beside the Heaviside step that they stand for, and their gradients.

    Args:
        functions: surrogates of ``snnkernels.surrogate``; a mapping gives their names, otherwise
            they are named with their parameters. One without a primitive has its gradient alone.
        x_range: the range of x, the potential above the threshold.
        title: above the picture.
        figsize: width and height in inches.
        dpi: dots per inch.
    """
    named = functions if isinstance(functions, Mapping) else {repr(f): f for f in functions}
    x = torch.linspace(*x_range, 1001, dtype=torch.float64)
    figure = _figure(figsize, dpi)
    left, right = figure.subplots(1, 2)
    left.plot(x, (x >= 0).double(), color="0.3", linestyle="--", label="Heaviside")
    for name, function in named.items():
        right.plot(x, function.gradient(x, *function.values), label=name)
        (line,) = left.plot([], [], label=name)
        if function.has_primitive:
            left.plot(x, function.primitive(x, *function.values), color=line.get_color())
    left.set(title="function", xlabel="x", ylabel="g(x)")
    right.set(title="gradient", xlabel="x", ylabel="g'(x)")
    left.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure


def plot_accuracy(
    logs: str | Path | Mapping[str, str | Path],
    title: str = "Accuracy",
    figsize: tuple[float, float] = (8.0, 4.5),
    dpi: int = 120,
) -> Figure:
    """Accuracy over the epochs of a training, from TensorBoard's logs.

    Args:
        logs: a log dir with the scalars ``train_accuracy`` and ``test_accuracy``, as the examples
            write them; or several by name.
        title: above the picture.
        figsize: width and height in inches.
        dpi: dots per inch.

    Raises:
        FileNotFoundError: a folder holds none of these scalars.
    """
    named = logs if isinstance(logs, Mapping) else {"": logs}
    figure = _figure(figsize, dpi)
    axes = figure.subplots()
    for name, folder in named.items():
        color = None
        for tag, style in (("test_accuracy", "-"), ("train_accuracy", ":")):
            epochs, values = _scalars(Path(folder), tag)
            label = f"{name} {tag.removesuffix('_accuracy')}".strip()
            (line,) = axes.plot(epochs, 100 * values, style, marker=".", color=color, label=label)
            color = line.get_color()
    axes.set(title=title, xlabel="epoch", ylabel="accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _whole_numbers(axes)
    return figure


def _scalars(folder: Path, tag: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Steps and values of a TensorBoard scalar."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    events = EventAccumulator(str(folder))
    if folder.is_dir():
        events.Reload()
    if tag not in events.Tags()["scalars"]:
        raise FileNotFoundError(f"logs must be folders with TensorBoard's {tag}, got {folder}")
    found = events.Scalars(tag)
    return np.array([e.step for e in found]), np.array([e.value for e in found])


def _array(name: str, value: Array, shape: str | None = None) -> np.ndarray[Any, Any]:
    """As a numpy array, of as many dimensions as ``shape`` has."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    array = np.asarray(value)
    if shape is not None and array.ndim != shape.count(",") + 1:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    return array


def _figure(figsize: tuple[float, float], dpi: int) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "snnkernels.visualizing needs matplotlib: pip install 'snnkernels[examples]'"
        ) from error
    return Figure(figsize=figsize, dpi=dpi, layout="constrained")


def _whole_numbers(axes: Axes) -> None:
    """Ticks at whole numbers on both axes that count something."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if axes.get_ylabel() == "neuron":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
