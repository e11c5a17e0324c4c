"""Locality metrics: worked by hand, at their extremes, and the bound as a property."""

import math
from dataclasses import asdict, astuple
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kancl import KANLinear
from kancl.metrics.locality import (
    VIEWS,
    Occupancy,
    Overlap,
    conflict_rate,
    drift_bound,
    drift_per_knot,
    falls,
    forecast_quality,
    gradient_cosines,
    inference,
    kernel_ratio,
    leak,
    output_drift,
    overlap,
    overlap_matrix,
    recency_bias,
)
from kancl.metrics.score_matrix import UndefinedMetric
from kancl.models.inspect import layer_bases

SYMMETRIC = [view for view in VIEWS if view != "exposure"]


def layer_on_unit_interval(n_in=2, **options):
    return KANLinear(n_in, 3, 20, 3, grid_range=(0, 1), **options)


def occupancy_between(low, high, n=4001):
    x = torch.linspace(low, high, n).unsqueeze(1).expand(-1, 2)
    return Occupancy.of(layer_on_unit_interval().b_splines(x))


def test_occupancy_by_hand():
    bases = torch.tensor([[[0.5, 0.5, 0.0]], [[0.0, 0.25, 0.5]]])
    found = Occupancy.of(bases)
    assert found.mean.tolist() == [[0.25, 0.375, 0.25]]
    assert found.visited(0.3).tolist() == [[True, True, True]]
    assert found.visited(0.5).tolist() == [[False, False, False]]
    assert found.off_grid_mass.tolist() == [0.125]
    more = found + Occupancy.of(bases[:1])
    expected = Occupancy.of(torch.cat([bases, bases[:1]]))
    torch.testing.assert_close(more.mean, expected.mean)
    assert more.n_samples == 3 and torch.equal(more.largest, expected.largest)


def test_effective_fraction():
    assert occupancy_between(0.5, 0.5).effective_fraction.max() < 4 / 23
    even = Occupancy.of(torch.eye(5).unsqueeze(1))
    torch.testing.assert_close(even.effective_fraction, torch.ones(1).double())
    halves = Occupancy.of(torch.tensor([[[1.0, 0, 0, 0]], [[0, 1.0, 0, 0]]]))
    torch.testing.assert_close(
        halves.effective_fraction, torch.full((1,), 0.5).double()
    )
    assert occupancy_between(7, 8).effective_fraction.tolist() == [0, 0]


def test_off_grid_mass_is_all_of_it_far_away():
    assert occupancy_between(0, 1).off_grid_mass.abs().max() < 1e-6
    assert occupancy_between(5, 6).off_grid_mass.tolist() == [1, 1]


def test_disjoint_intervals_do_not_overlap():
    found = overlap(occupancy_between(0, 0.4), occupancy_between(0.6, 1))
    assert set(astuple(found)) == {0.0}


def test_identical_experiences_overlap_fully():
    everything = occupancy_between(0, 1)
    for value in astuple(overlap(everything, everything)):
        assert value == pytest.approx(1, abs=1e-6)
    part = overlap(occupancy_between(0, 0.4), occupancy_between(0, 0.4))
    visited = occupancy_between(0, 0.4).visited().double().mean()
    assert part.coactivation == pytest.approx(float(visited))
    expected = Overlap(1, part.coactivation, 1, 1, 1)
    assert astuple(part) == pytest.approx(astuple(expected), abs=1e-4)


@pytest.mark.parametrize("kind", ["anchored", "linear"])
def test_inputs_that_nobody_uses_do_not_thin_the_overlap(kind):
    x = torch.rand(500, 2)
    x = torch.cat([x, torch.zeros(500, 6)], 1)  # background
    layer = nn.Linear(8, 3) if kind == "linear" else layer_on_unit_interval(8, anchor=0)
    used = Occupancy.of(layer_bases(layer, x))
    assert int(used.visited().any(-1).sum()) == 2
    found = overlap(used, used)
    expected = Overlap(1, found.coactivation, 1, 1, 1)
    assert astuple(found) == pytest.approx(astuple(expected), abs=1e-4)
    elsewhere = Occupancy.of(layer_bases(layer, x.flip(1)))
    assert set(astuple(overlap(used, elsewhere))) == {0.0}


def test_all_views_but_exposure_are_symmetric():
    narrow, wide = occupancy_between(0.3, 0.5), occupancy_between(0.1, 0.9)
    there, back = overlap(narrow, wide), overlap(wide, narrow)
    for view in SYMMETRIC:
        assert getattr(there, view) == pytest.approx(getattr(back, view))
        assert 0 < getattr(there, view) < 1
    assert there.exposure == pytest.approx(1, abs=1e-4)  # all of narrow is touched
    assert back.exposure < 0.5


def test_overlap_by_hand():
    old = Occupancy.of(torch.tensor([[[0.5, 0.5, 0, 0]]]))
    new = Occupancy.of(torch.tensor([[[0, 0.8, 0.2, 0]]]))
    found = overlap(old, new)
    root = math.sqrt(0.5 * 0.5 * (0.64 + 0.04) * 2)
    expected = Overlap(1 / 3, 1 / 4, math.sqrt(0.4), 0.5, 0.4 / root)
    assert astuple(found) == pytest.approx(astuple(expected), rel=1e-6)


def test_overlap_matrix():
    parts = [occupancy_between(0, 0.5), occupancy_between(0.3, 0.7)]
    matrix = overlap_matrix(parts, "exposure")
    assert matrix[0, 1] == overlap(parts[0], parts[1]).exposure
    assert matrix[1, 0] == overlap(parts[1], parts[0]).exposure
    with pytest.raises(ValueError, match="view must be one of .*got 'angle'"):
        overlap_matrix(parts, "angle")


def test_undefined_and_mismatched_overlap():
    with pytest.raises(UndefinedMetric, match="visited no coefficient"):
        overlap(occupancy_between(0, 1), occupancy_between(5, 6))
    with pytest.raises(ValueError, match=r"\(2, 23\) and \(1, 2\)"):
        overlap(occupancy_between(0, 1), Occupancy.of(torch.ones(1, 1, 2)))
    with pytest.raises(ValueError, match=r"got \(0, 1, 2\)"):
        Occupancy.of(torch.ones(0, 1, 2))


@pytest.mark.parametrize("outside", ["zero", "clamp", "linear"])
@pytest.mark.parametrize("anchored", [False, True])
def test_outputs_never_drift_more_than_the_bound(outside, anchored):
    """E |change of f_q| <= sum o |change of c|, on 6 times 170 random cases."""
    random = Random(0)
    for _ in range(10):
        layer = KANLinear(
            3,
            2,
            random.randint(1, 12),
            random.randint(1, 5),
            base=False,
            outside=outside,
            anchor=random.uniform(-1, 1) if anchored else None,
        ).double()
        for _ in range(17):
            n, width = random.randint(1, 20), random.uniform(0.01, 3)
            x = width * torch.randn(n, 3).double()
            with torch.no_grad():
                bases = layer.b_splines(x)
                before, y = layer.scaled_coefficients, layer(x)
                after = before + random.uniform(0, 3) * torch.randn_like(before)
                after[torch.rand_like(before) < 0.5] = 0
                drift = output_drift(y, torch.einsum("nig,igo->no", bases, after))
            bound = drift_bound(Occupancy.of(bases), before, after)
            assert (drift <= bound * (1 + 1e-9) + 1e-12).all()


def test_the_bound_is_reached_and_zero_exactly_off_the_occupied():
    layer = layer_on_unit_interval(base=False)
    x = torch.rand(50, 2) / 2
    occupancy = Occupancy.of(layer.b_splines(x))
    before = layer.scaled_coefficients.detach()
    raised = before + 0.7  # every output moves up by 2 inputs * 0.7
    bound = drift_bound(occupancy, before, raised)
    torch.testing.assert_close(bound, torch.full((3,), 1.4).double())
    elsewhere = before + (~occupancy.visited(0)).float().unsqueeze(-1)
    assert torch.equal(
        drift_bound(occupancy, before, elsewhere), torch.zeros(3).double()
    )
    assert not torch.equal(before, elsewhere)


def test_drift_per_knot():
    before, after = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 1.0]]])
    assert drift_per_knot(before, after).tolist() == [[5.0, 1.0]]


@pytest.mark.parametrize(
    "optimizer, leaks",
    [
        (lambda p: torch.optim.SGD(p, lr=0.1), False),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), True),
        (lambda p: torch.optim.Adam(p, lr=0.1), True),
        (lambda p: torch.optim.AdamW(p, lr=0.1), True),
    ],
)
def test_stock_optimizers_leak_but_for_plain_sgd(optimizer, leaks):
    """Momentum and decay move what an experience never visits."""
    layer = layer_on_unit_interval(enable_standalone_scale_spline=False)
    nn.init.normal_(layer.coefficients)
    stepping = optimizer(layer.parameters())

    def train(low, n_steps=5):
        for _ in range(n_steps):
            stepping.zero_grad()
            x = low + 0.3 * torch.rand(32, 2)
            (layer(x) - 1).square().mean().backward()
            stepping.step()
        return Occupancy.of(layer.b_splines(x)).visited(0)

    train(0.6)
    before = layer.scaled_coefficients.detach().clone()
    x = torch.linspace(0, 0.3, 500).unsqueeze(1).expand(-1, 2)
    visited = Occupancy.of(layer.b_splines(x)).visited(0)
    train(0.0)
    after = layer.scaled_coefficients.detach()
    assert (leak(visited, before, after) > 0) == leaks
    assert leak(visited & False, before, after) > 0


def test_gradient_cosines_and_conflicts():
    old = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    new = torch.tensor([[3.0, 3.0], [-1.0, 0.0]])
    r = math.sqrt(0.5)
    torch.testing.assert_close(
        gradient_cosines(old, new), torch.tensor([[r, -1.0], [r, 0.0], [0.0, 0.0]])
    )
    assert conflict_rate(gradient_cosines(old, new)) == pytest.approx(1 / 6)


def test_inference_by_hand():
    outputs = torch.tensor(
        [
            [3.0, 2, 1, 0],  # right: class 0
            [3.0, 2, 1, 0],  # class 1: right experience, wrong class, also if known
            [0.0, 1, 2, 3],  # class 1: wrong experience, right if it were known
            [0.0, 1, 3, 2],  # right: class 2
        ]
    )
    found = inference(outputs, torch.tensor([0, 1, 1, 2]), [0, 0, 1, 1])
    assert asdict(found) == pytest.approx(
        {
            "accuracy": 0.5,
            "experience_inference": 0.75,
            "within_experience_accuracy": 2 / 3,
            "oracle_accuracy": 0.75,
        }
    )


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_accuracy_is_the_product_of_its_parts(seed):
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(40, 6, generator=generator)
    targets = torch.randint(6, (40,), generator=generator)
    found = inference(outputs, targets, [0, 0, 1, 1, 2, 2])
    parts = found.experience_inference, found.within_experience_accuracy
    assert found.accuracy == pytest.approx(math.prod(parts))
    assert found.oracle_accuracy >= found.accuracy


def test_inference_without_meaning():
    with pytest.raises(UndefinedMetric, match="no samples"):
        inference(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), [0, 1])
    with pytest.raises(UndefinedMetric, match="never inferred"):
        inference(torch.eye(2), torch.tensor([1, 0]), [0, 1])


def test_recency_bias_by_hand():
    outputs = torch.tensor([[1.0, 3.0, 5.0], [0.0, 0.0, 1.0]])
    assert recency_bias(outputs, [2]) == pytest.approx(((5 - 2) + 1) / 2)
    with pytest.raises(UndefinedMetric, match="new classes with old ones"):
        recency_bias(outputs, [0, 1, 2])


def test_ratios_by_hand():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    assert kernel_ratio([a], [b]) == pytest.approx(0.5**0.5)
    assert kernel_ratio([a], [a]) == pytest.approx(1.0)
    assert kernel_ratio([a], [torch.tensor([0.0, 3.0])]) == 0.0
    # two layers: K_st = 1 + 2, K_ss = 1 + 4, K_tt = 2 + 1
    two = kernel_ratio([a, torch.tensor([2.0])], [b, torch.tensor([1.0])])
    assert two == pytest.approx(3 / 15**0.5)
    with pytest.raises(ValueError, match="of the same layers"):
        kernel_ratio([a], [torch.ones(3)])
    with pytest.raises(UndefinedMetric):
        kernel_ratio([a], [torch.zeros(2)])


def test_means_give_the_mean_kernel_over_all_pairs_of_samples():
    torch.manual_seed(0)
    old = torch.rand(7, 5, 3, dtype=torch.float64)
    new = torch.rand(9, 5, 3, dtype=torch.float64)

    def kernel(a, b):
        pairs = [(x * y).sum() for x in a for y in b]
        return torch.stack(pairs).mean()

    expected = kernel(old, new) / (kernel(old, old) * kernel(new, new)).sqrt()
    assert kernel_ratio([old.mean(0)], [new.mean(0)]) == pytest.approx(expected.item())


def test_what_each_training_took():
    r = torch.tensor([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.3, 0.9, 1]])
    assert falls(r) == {
        (0, 1): pytest.approx(0.5),
        (0, 2): pytest.approx(0.1),
        (1, 2): pytest.approx(-0.1),
    }
    assert falls(r, higher_is_better=False)[0, 1] == pytest.approx(-0.5)
    r[2, 0] = float("nan")
    assert list(falls(r)) == [(1, 2)]


def test_forecast_quality():
    assert forecast_quality([0.1, 0.2, 0.9], [1, 5, 6]) == pytest.approx(1)
    assert forecast_quality([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    # ranks 1 2.5 2.5 4 against 1 3 2 4
    assert forecast_quality([0, 1, 1, 2], [0, 5, 4, 9]) == pytest.approx(
        4.5 / math.sqrt(4.5 * 5)
    )
    with pytest.raises(UndefinedMetric, match="needs 3 pairs, got 2"):
        forecast_quality([1, 2], [1, 2])
    with pytest.raises(UndefinedMetric, match="a constant has no rank"):
        forecast_quality([1, 1, 1], [1, 2, 3])
    with pytest.raises(ValueError, match="each of 3 pairs, got 2"):
        forecast_quality([1, 2], [1, 2, 3])
