"""Fits against exact curves and against least squares by QR."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from kancl.splines import fit_coefficients, refit, spline_basis, uniform_knots


def test_coefficients_are_found_again() -> None:
    knots = uniform_knots(-1.0, 1.0, 6, 3).repeat(2, 1)
    x = torch.rand(300, 2, dtype=torch.float64) * 2 - 1
    basis = spline_basis(x, knots, 3).transpose(0, 1)  # (in_features, n, n_basis)
    coefficients = torch.randn(2, 9, 4, dtype=torch.float64)
    found = fit_coefficients(basis, basis @ coefficients)
    torch.testing.assert_close(found, coefficients, rtol=1e-6, atol=1e-6)


def test_too_few_points_give_the_smallest_coefficients() -> None:
    knots = uniform_knots(-1.0, 1.0, 6, 3).repeat(1, 1)
    x = torch.linspace(-1, 1, 7, dtype=torch.float64).unsqueeze(1)
    basis = spline_basis(x, knots, 3).transpose(0, 1)
    y = torch.randn(1, 7, 3, dtype=torch.float64)
    expected = torch.linalg.pinv(basis) @ y
    torch.testing.assert_close(
        fit_coefficients(basis, y), expected, rtol=1e-5, atol=1e-6
    )


@given(extra=st.lists(st.floats(-0.95, 0.95), min_size=1, max_size=4, unique=True))
def test_refit_to_more_knots_is_exact(extra: list[float]) -> None:
    torch.manual_seed(0)
    old = uniform_knots(-1.0, 1.0, 5, 3)
    gaps = [abs(t - float(k)) for t in extra for k in old]
    gaps += [abs(s - t) for i, s in enumerate(extra) for t in extra[:i]]
    if min(gaps) < 1e-2:
        return  # nearly the same knot twice: not what a refit is for
    new = torch.cat([old, torch.tensor(extra, dtype=torch.float64)]).sort().values
    points = torch.linspace(-1, 1, 400, dtype=torch.float64).unsqueeze(1)
    fit = refit(
        lambda x: spline_basis(x, old.unsqueeze(0), 3),
        lambda x: spline_basis(x, new.unsqueeze(0), 3),
        points,
        torch.ones(400, dtype=torch.float64),
    )
    c = torch.randn(2, 1, 8, dtype=torch.float64)
    x = torch.rand(300, 1, dtype=torch.float64) * 2 - 1
    before = torch.einsum("nig,oig->no", spline_basis(x, old.unsqueeze(0), 3), c)
    moved = torch.einsum("ihg,oig->oih", fit.matrix, c)
    after = torch.einsum("nig,oig->no", spline_basis(x, new.unsqueeze(0), 3), moved)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)
    assert float(fit.relative_change(c).max()) < 1e-5


def test_reported_change_is_the_measured_one() -> None:
    old = uniform_knots(-1.0, 1.0, 5, 3).unsqueeze(0)
    new = uniform_knots(-1.1, 1.3, 5, 3).unsqueeze(0)
    points = torch.rand(200, 1, dtype=torch.float64) * 2 - 1
    weights = torch.rand(200, dtype=torch.float64)
    fit = refit(
        lambda x: spline_basis(x, old, 3),
        lambda x: spline_basis(x, new, 3),
        points,
        weights,
        chunk_size=64,
    )
    c = torch.randn(4, 1, 8, dtype=torch.float64)
    before = torch.einsum("nig,oig->no", spline_basis(points, old, 3), c)
    moved = torch.einsum("ihg,oig->oih", fit.matrix, c)
    after = torch.einsum("nig,oig->no", spline_basis(points, new, 3), moved)
    w = weights.unsqueeze(1)
    expected = ((w * (after - before) ** 2).sum() / (w * before**2).sum()).sqrt()
    torch.testing.assert_close(
        fit.relative_change(c)[0], expected, rtol=1e-4, atol=1e-8
    )
