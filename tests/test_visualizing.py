"""Pictures: each holds what it was given, and none is shown."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from snnkernels import surrogate, visualizing

pytest.importorskip("matplotlib", reason="pictures need matplotlib")

V = torch.linspace(0, 1, 20)
S = (torch.arange(20) % 5 == 4).float()
RASTER = (torch.rand(20, 7, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_the_potential_and_the_spikes_of_a_neuron_are_drawn_over_the_same_steps():
    figure = visualizing.plot_one_neuron_v_s(V, S)
    above, below = figure.axes
    np.testing.assert_allclose(above.lines[0].get_ydata(), V)
    assert {line.get_label() for line in above.lines[1:]} == {"threshold", "reset"}
    assert below.collections[0].get_positions() == [4, 9, 14, 19]
    bare = visualizing.plot_one_neuron_v_s(V.numpy(), S.tolist(), None, None)
    assert len(bare.axes[0].lines) == 1


def test_a_raster_has_a_row_for_each_neuron_and_its_rate():
    raster, rates = visualizing.plot_1d_spikes(RASTER).axes
    assert len(raster.collections) == 7
    np.testing.assert_allclose([bar.get_width() for bar in rates.patches], RASTER.mean(0))
    assert len(visualizing.plot_1d_spikes(RASTER, plot_firing_rate=False).axes) == 1


def test_a_heat_map_has_time_to_the_right_and_neurons_up():
    figure = visualizing.plot_2d_heatmap(RASTER.bfloat16())
    (image,) = figure.axes[0].images
    np.testing.assert_array_equal(image.get_array(), RASTER.T)
    assert image.origin == "lower"
    assert figure.axes[1].get_ylabel() == "membrane potential"


def test_a_histogram_counts_every_neuron_and_names_the_silent_share():
    axes = visualizing.plot_firing_rates({"a": torch.tensor([0.0, 0.0, 0.5, 1.0])}).axes[0]
    assert sum(bar.get_height() for bar in axes.patches) == 4
    assert axes.get_legend().get_texts()[0].get_text() == "a: 50% silent"
    assert visualizing.plot_firing_rates(torch.zeros(3)).axes[0].get_xlim() == (0, 1)


def test_surrogates_are_drawn_with_the_step_and_their_gradients():
    alphas = {f"alpha {a}": surrogate.Sigmoid(alpha=a) for a in (1.0, 5.0)}
    left, right = visualizing.plot_surrogates(alphas).axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["Heaviside", "alpha 1.0", "alpha 5.0"]
    peaks = [line.get_ydata().max() for line in right.lines]
    np.testing.assert_allclose(peaks, [0.25, 1.25])
    fake = visualizing.plot_surrogates([surrogate.FakeNumericalGradient()])
    assert len(fake.axes[1].lines) == 1


def test_accuracy_comes_from_tensorboards_logs(tmp_path):
    pytest.importorskip("tensorboard", reason="the logs are TensorBoard's")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path / "run")) as writer:
        for epoch, value in enumerate([0.5, 0.75], 1):
            writer.add_scalar("train_accuracy", value / 2, epoch)
            writer.add_scalar("test_accuracy", value, epoch)
    axes = visualizing.plot_accuracy({"lif": tmp_path / "run"}).axes[0]
    assert list(axes.lines[0].get_xdata()) == [1, 2]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, 75])
    with pytest.raises(FileNotFoundError, match="TensorBoard's test_accuracy, got"):
        visualizing.plot_accuracy(tmp_path / "nothing")


def test_no_figure_reaches_the_interactive_interface():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums()
    visualizing.plot_2d_heatmap(RASTER)
    visualizing.plot_one_neuron_v_s(V, S)
    assert pyplot.get_fignums() == before


def test_wrong_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"v must have shape \[T\], got \(20, 7\)"):
        visualizing.plot_one_neuron_v_s(RASTER, S)
    with pytest.raises(ValueError, match="s must have as many steps as v, expected 20, got 3"):
        visualizing.plot_one_neuron_v_s(V, S[:3])
    with pytest.raises(ValueError, match=r"spikes must have shape \[T, N\], got \(20,\)"):
        visualizing.plot_1d_spikes(S)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'snnkernels\[examples\]'"):
        visualizing.plot_2d_heatmap(RASTER)
