"""Knot insertion against SciPy, and the function before and after."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline, insert
from torch import Tensor

from kancl.splines import is_uniform, spline_basis, uniform_knots
from kancl.splines.insertion import Insertion, growth, insertion_matrix, refinement

POLICIES = ["zero", "clamp", "linear"]
degrees = st.integers(1, 5)
seeds = st.integers(0, 10**6)


def uneven_knots(seed: int, grid_size: int, degree: int) -> Tensor:
    """Two features, cells between 1 and 10 wide, somewhere."""
    generator = torch.Generator().manual_seed(seed)
    cells = 0.1 + 0.9 * torch.rand(
        2, grid_size + 2 * degree, generator=generator, dtype=torch.float64
    )
    start = 4 * torch.rand(2, 1, generator=generator, dtype=torch.float64) - 2
    return torch.cat([start, start + cells.cumsum(1)], dim=1)


def everywhere(knots: Tensor, n: int = 400) -> Tensor:
    """Points on, near and far off the grid, knots included: ``(n, in_features)``."""
    low, high = float(knots.min()), float(knots.max())
    reach = high - low
    even = torch.linspace(low - reach, high + reach, n, dtype=torch.float64)
    return torch.cat([even.unsqueeze(1).expand(-1, len(knots)), knots.T])


def evaluate(
    x: Tensor, knots: Tensor, coefficients: Tensor, degree: int, outside: str
) -> Tensor:
    basis = spline_basis(x, knots, degree, outside)
    return torch.einsum("nig,ig->ni", basis, coefficients)


def change(old: Tensor, insertion: Insertion, degree: int, outside: str) -> float:
    """Largest change of a spline with random coefficients, of its size."""
    generator = torch.Generator().manual_seed(len(old))
    size = len(insertion.knots), insertion.matrix.shape[-1]
    c = torch.randn(size, generator=generator, dtype=torch.float64)
    x = everywhere(insertion.knots)
    before = evaluate(x, old.double(), c, degree, outside)
    after = evaluate(x, insertion.knots, insertion.values(c), degree, outside)
    return float((after - before).abs().max() / before.abs().max())


@settings(max_examples=40)
@given(degrees, st.integers(1, 12), st.integers(1, 4), st.sampled_from(POLICIES))
def test_refining_a_uniform_grid_keeps_the_function_everywhere(
    degree: int, grid_size: int, factor: int, outside: str
) -> None:
    knots = uniform_knots(torch.tensor([-1.0, 0.3]), 2.0, grid_size, degree)
    insertion = refinement(knots, degree, factor, outside)
    assert change(knots, insertion, degree, outside) < 1e-12
    assert is_uniform(insertion.knots, degree)
    wider = 2 * degree * (factor - 1) if outside == "zero" else 0
    cells = insertion.knots.shape[1] - 1 - 2 * degree
    assert cells == factor * grid_size + wider


@settings(max_examples=40)
@given(degrees, st.integers(1, 8), st.integers(0, 6), st.integers(0, 6), seeds)
@pytest.mark.parametrize("outside", POLICIES)
@pytest.mark.parametrize("even", [True, False])
def test_growing_keeps_the_function_everywhere(
    outside: str,
    even: bool,
    degree: int,
    grid_size: int,
    n_left: int,
    n_right: int,
    seed: int,
) -> None:
    knots = uneven_knots(seed, grid_size, degree)
    if even:
        knots = uniform_knots(knots[:, 0], knots[:, -1], grid_size, degree)
    insertion = growth(knots, degree, n_left, n_right, outside)
    assert change(knots, insertion, degree, outside) < 1e-12
    smooth = {"zero": 5, "clamp": 1, "linear": 2}[outside]
    grown = n_left + n_right > 0
    if even:
        expected = degree <= smooth or not grown
        assert is_uniform(insertion.knots, degree) == expected


@settings(max_examples=40)
@given(degrees, st.integers(1, 8), st.integers(1, 3), st.sampled_from(POLICIES), seeds)
def test_refining_uneven_and_grown_grids(
    degree: int, grid_size: int, factor: int, outside: str, seed: int
) -> None:
    knots = uneven_knots(seed, grid_size, degree)
    insertion = refinement(knots, degree, factor, outside)
    assert change(knots, insertion, degree, outside) < 1e-11
    grown = growth(insertion.knots, degree, 2, 1, outside)
    assert change(insertion.knots, grown, degree, outside) < 1e-11
    again = refinement(grown.knots, degree, factor, outside)
    assert change(grown.knots, again, degree, outside) < 1e-10


@settings(max_examples=40)
@given(degrees, st.integers(2, 8), seeds)
def test_single_knots_as_scipy_inserts_them(
    degree: int, grid_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    t = uneven_knots(seed, grid_size, degree)[:1]
    c = rng.normal(size=grid_size + degree)
    x = rng.uniform(t[0, degree] + 1e-3, t[0, -degree - 1] - 1e-3)
    knots, coefficients, _ = insert(
        x, (t[0].numpy(), np.append(c, np.zeros(degree + 1)), degree)
    )
    matrix = insertion_matrix(t, torch.from_numpy(knots)[None], degree, "clamp")
    found = matrix[0] @ torch.from_numpy(c)
    torch.testing.assert_close(
        found, torch.from_numpy(coefficients[: len(c) + 1]), rtol=1e-11, atol=1e-11
    )


@settings(max_examples=30)
@given(degrees, st.integers(1, 10), st.integers(2, 3))
def test_refined_coefficients_are_those_of_scipys_spline(
    degree: int, grid_size: int, factor: int
) -> None:
    """On the grid, by interpolation with SciPy's bases on the finer knots."""
    knots = uniform_knots(torch.tensor([-1.0]), 1.0, grid_size, degree)
    insertion = refinement(knots, degree, factor, "clamp")
    c = torch.randn(1, grid_size + degree, dtype=torch.float64)
    x = np.linspace(-1, 1, 50 * grid_size)
    before = BSpline(knots[0].numpy(), c[0].numpy(), degree)(x)
    after = BSpline(insertion.knots[0].numpy(), insertion.values(c)[0].numpy(), degree)(
        x
    )
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-12)


def test_features_with_the_same_knots_share_a_matrix() -> None:
    alike = uniform_knots(torch.zeros(3), 1.0, 4, 3)
    shared = refinement(alike, 3, 2, "zero")
    assert len(shared.matrix) == 1 and len(shared.knots) == 3
    unlike = uniform_knots(torch.tensor([0.0, 0.0, 0.5]), 1.0, 4, 3)
    apart = refinement(unlike, 3, 2, "zero")
    assert len(apart.matrix) == 3
    c = torch.rand(3, 7, 2, dtype=torch.float64)
    torch.testing.assert_close(shared.values(c), apart.values(c))
    torch.testing.assert_close(shared.shares(c), apart.shares(c))
    torch.testing.assert_close(shared.second_moments(c), apart.second_moments(c))


def test_two_scale_relation_of_the_cubic() -> None:
    """1/8 (1 4 6 4 1): what a cubic basis is made of on knots twice as dense."""
    knots = uniform_knots(torch.tensor([0.0]), 6.0, 6, 3)
    matrix = refinement(knots, 3, 2, "zero").matrix[0]
    column = matrix[:, 4]
    expected = torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 8
    torch.testing.assert_close(column[column != 0], expected)


@settings(max_examples=30)
@given(degrees, st.integers(1, 8), st.integers(1, 4), st.sampled_from(POLICIES))
def test_rows_of_a_refinement_are_averages(
    degree: int, grid_size: int, factor: int, outside: str
) -> None:
    knots = uniform_knots(torch.tensor([0.0]), 1.0, grid_size, degree)
    insertion = refinement(knots, degree, factor, outside)
    assert float(insertion.matrix.min()) > -1e-12
    sums = insertion.matrix.sum(-1)[0]
    inner = slice(factor * degree, len(sums) - factor * degree)
    rows = sums if outside != "zero" else sums[inner]
    torch.testing.assert_close(rows, torch.ones_like(rows))


@settings(max_examples=20)
@given(degrees, st.integers(1, 6), st.integers(2, 4))
def test_shares_add_up_and_are_right_for_even_samples(
    degree: int, grid_size: int, factor: int
) -> None:
    knots = uniform_knots(torch.tensor([0.0]), 1.0, grid_size, degree)
    insertion = refinement(knots, degree, factor, "zero")
    old = torch.rand(1, grid_size + degree, 3, dtype=torch.float64)
    torch.testing.assert_close(insertion.shares(old).sum(1), old.sum(1))
    even = torch.full((1, grid_size + degree), 0.6, dtype=torch.float64)
    found = insertion.shares(even)[0]
    expected = 0.6 * insertion.matrix[0].sum(-1) / factor
    torch.testing.assert_close(found, expected)


def test_second_moments_keep_steps_where_parents_agree() -> None:
    knots = uniform_knots(torch.tensor([0.0]), 1.0, 5, 3)
    insertion = refinement(knots, 3, 2, "clamp")
    m, v = torch.randn(1, 8, 4), torch.full((1, 8, 4), 0.25)
    step = insertion.values(m) / insertion.second_moments(v).sqrt()
    torch.testing.assert_close(step, insertion.values(m / v.sqrt()))
    uneven = torch.rand(1, 8, 4)
    found = insertion.second_moments(uneven)
    assert uneven.min() <= found.min() and found.max() <= uneven.max()


def test_new_ground_starts_from_the_edges_mean_second_moment() -> None:
    knots = uniform_knots(torch.tensor([0.0]), 1.0, 4, 2)
    insertion = growth(knots, 2, 3, 0, "zero")
    v = torch.rand(1, 6, 5)
    found = insertion.second_moments(v)
    torch.testing.assert_close(found[:, 3:], v)
    torch.testing.assert_close(found[:, :3], v.mean(1, keepdim=True).expand(1, 3, 5))
    assert insertion.values(v)[:, :3].abs().max() == 0


def test_what_new_knots_cannot_hold_is_refused() -> None:
    old = uniform_knots(torch.tensor([0.0]), 1.0, 4, 3)
    with pytest.raises(ValueError, match="every old knot must be among the new ones"):
        insertion_matrix(old, uniform_knots(torch.tensor([0.0]), 1.0, 6, 3), 3, "clamp")
    narrow = uniform_knots(torch.tensor([0.0]), 1.0, 8, 3)
    with pytest.raises(ValueError, match="must reach from -0.75 to 1.75"):
        insertion_matrix(old, narrow, 3, "zero")
    wide = uniform_knots(torch.tensor([-1.0]), 2.0, 12, 3)
    with pytest.raises(ValueError, match="less smooth .* repeat the knot"):
        insertion_matrix(old, wide, 3, "clamp")
    folded = old.repeat_interleave(torch.tensor([1] * 5 + [5] + [1] * 5), dim=1)
    with pytest.raises(ValueError, match="repeated more than degree=3 times"):
        insertion_matrix(old, folded, 3, "zero")
    unequal = torch.tensor([[0.0, 1, 2, 3, 4], [0.0, 1, 1, 2, 3]])
    with pytest.raises(ValueError, match=r"equally many cells .* got \[3, 4\]"):
        refinement(unequal, 1, 2, "zero")
    with pytest.raises(ValueError, match="factor must be 1 or more, got 0"):
        refinement(old, 3, 0, "zero")
    with pytest.raises(ValueError, match="cells are added only, got -1 and 0"):
        growth(old, 3, -1, 0, "zero")
