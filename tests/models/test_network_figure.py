"""The picture of a network, read back from what is drawn."""

import re

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection

from kancl.models import KAN, kan
from kancl.models.edges import edge_scores, prune
from kancl.models.network_figure import PALEST, network_figure


def parts(figure):
    """Lines, boxes and curves, and the texts."""
    (axes,) = figure.axes
    lines, boxes, curves = (
        c for c in axes.collections if isinstance(c, LineCollection)
    )
    return lines, boxes, curves, [text.get_text() for text in axes.texts]


def test_every_edge_is_its_function_as_dark_as_its_score():
    model, x = KAN([2, 3, 1], scale_noise=0.5), torch.rand(200, 2)
    lines, boxes, curves, texts = parts(
        model.plot(x, input_names=["a", "b"], output_names=["f"], title="fit")
    )
    assert len(lines.get_segments()) == 2 * 9 and len(boxes.get_segments()) == 9
    scores = edge_scores(model, x).relative()
    expected = np.concatenate([s.numpy().flatten() for s in scores])
    darkness = PALEST + (1 - PALEST) * np.tanh(3 * expected)
    np.testing.assert_allclose(curves.get_colors()[:, 3], darkness, atol=1e-6)
    layer = model.layers[0]
    points = torch.stack([torch.linspace(*x[:, k].aminmax(), 61) for k in (0, 1)], 1)
    values = layer.edge_outputs(points).detach().numpy()
    for k, segment in enumerate(curves.get_segments()[:6]):
        y = values[:, k // 3, k % 3]
        share = (y - y.min()) / (y.max() - y.min())
        drawn = segment[:, 1]
        shown = (drawn - drawn.min()) / (drawn.max() - drawn.min())
        np.testing.assert_allclose(shown, share, atol=2e-4)
    assert {"a", "b", "f", "fit"} <= {*texts}
    assert any("over 200 samples" in text for text in texts)


def test_of_a_wide_layer_the_strongest_edges_are_drawn_and_it_says_so():
    model, x = kan(50, 4, hidden=(20,)), torch.rand(64, 50)
    scores = edge_scores(model, x)
    *_, curves, texts = parts(model.plot(x, max_edges=10))
    said = re.findall(r"layer (\d): (\d+) of ([\d,]+) edges, the strongest", texts[-2])
    assert [(k, n) for k, _, n in said] == [("2", "80"), ("1", "1,000")]
    assert sum(int(shown) for _, shown, _ in said) == len(curves.get_segments())
    assert all(10 <= int(shown) <= 20 for _, shown, _ in said)
    best = scores.attribution[1].flatten().topk(1).indices.item()
    strongest = int(scores.attribution[0][:, best // 4].argmax())
    assert f"$x_{{{strongest}}}$" in texts


def test_pruned_and_constant_edges_are_not_drawn():
    model, x = KAN([2, 3, 1], scale_noise=0.5), torch.rand(200, 2)
    pruned = prune(model, x, torch.rand(200, 1), edge_threshold=0.5)
    *_, curves, _ = parts(pruned.network.plot(x))
    assert len(curves.get_segments()) == pruned.n_edges[1] < 9
    x[:, 1] = 0.5
    *_, curves, _ = parts(model.plot(x))
    assert len(curves.get_segments()) == 3 + 3
    with torch.no_grad():
        for layer in model.layers:
            layer.coefficients.zero_(), layer.base_weight.zero_()
    *_, curves, _ = parts(model.plot(x))
    assert len(curves.get_segments()) == 0


def test_without_samples_the_grids_are_sampled_evenly_and_nothing_is_drawn_at_random():
    model = KAN([2, 3, 1], grid_range=(2, 5))
    state = torch.random.get_rng_state()
    first, second = model.plot(), model.plot()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert "an even sample of the grids" in parts(first)[3][-2]
    for a, b in zip(parts(first)[2].get_segments(), parts(second)[2].get_segments()):
        np.testing.assert_array_equal(a, b)


def test_heads_stand_side_by_side():
    body, x = kan(4, 2, hidden=(3,)), torch.rand(100, 4)
    heads = [body.make_head(2), body.make_head(1)]
    body.remove_head()
    *_, curves, texts = parts(
        network_figure(body, x, heads=heads, output_names=["7", "2", "5"])
    )
    assert len(curves.get_segments()) == 4 * 3 + 3 * 3
    assert texts[4:7] == ["7", "2", "5"]


def test_names_of_another_number_are_refused():
    with pytest.raises(ValueError, match="expected 2 input_names, got 1"):
        KAN([2, 3, 1]).plot(input_names=["x"])
