"""Both ways to the bases against SciPy, at knots, ends and outside."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kancl.splines import (
    cox_de_boor,
    grid_ends,
    spline_basis,
    uniform_basis,
    uniform_knots,
)

DEGREES = (1, 2, 3, 4, 5)
POLICIES = ("zero", "clamp", "linear")


def scipy_basis(
    x: Tensor, knots: Tensor, degree: int, derivative: int = 0, outside: str = "zero"
) -> Tensor:
    """One basis function after the other by SciPy; each column with its own knots."""
    n_basis = knots.shape[-1] - 1 - degree
    expected = np.zeros((*x.shape, n_basis))
    for feature in range(x.shape[1]):
        t, values = knots[feature].numpy(), x[:, feature].numpy()
        low, high = t[degree], t[-degree - 1]
        for g in range(n_basis):
            spline = BSpline(t, np.eye(n_basis)[g], degree, extrapolate=True)
            element = BSpline.basis_element(t[g : g + degree + 2], extrapolate=False)
            if outside == "zero":
                used = element.derivative(derivative) if derivative else element
                # basis_element holds its last knot for inside; its cells are half-open
                found = np.nan_to_num(used(values)) * (values < t[g + degree + 1])
            else:
                at = np.clip(values, low, high)
                found = spline(at, nu=derivative)
                if outside == "linear":
                    found = found + spline(at, nu=1) * (values - at)
            expected[:, feature, g] = found
    return torch.from_numpy(expected)


def awkward_points(knots: Tensor, degree: int, n: int = 200) -> Tensor:
    """All knots, both ends, far outside, and random points: (n_points, in_features)."""
    low, high = grid_ends(knots, degree)
    random = low + (high - low) * (
        torch.rand(n, len(knots), dtype=knots.dtype) * 2 - 0.5
    )
    far = torch.stack([low - 100, high + 100])
    return torch.cat([knots.T, far, random])


@pytest.mark.parametrize("outside", POLICIES)
@pytest.mark.parametrize("grid_size", [1, 5, 64, 256])
@pytest.mark.parametrize("degree", DEGREES)
def test_uniform_basis_is_exact(degree: int, grid_size: int, outside: str) -> None:
    low = torch.tensor([-1.0, 0.0], dtype=torch.float64)
    high = torch.tensor([1.0, 8.0], dtype=torch.float64)
    knots = uniform_knots(low, high, grid_size, degree)
    x = awkward_points(knots, degree, n=50)
    if outside == "linear":
        x = x.clamp(low - 2, high + 2)  # values stay of order 1 per cell
    if degree == 1 or outside == "linear":
        # a kink: which side the rounding of a knot falls on decides the slope
        x = x[len(knots.T) :]
    expected = scipy_basis(x, knots, degree, outside=outside)
    scale = max(1.0, float(expected.abs().max()))
    exact = uniform_basis(x, low, high, grid_size, degree, outside)
    assert (exact - expected).abs().max() <= 1e-12 * scale
    single = x.float()
    expected = scipy_basis(single.double(), knots, degree, outside=outside)
    found = uniform_basis(single, low, high, grid_size, degree, outside)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= 1e-6 * scale


@pytest.mark.parametrize("degree", DEGREES)
def test_uniform_basis_at_every_knot(degree: int) -> None:
    # Powers of two: knots are exact, so that the cell they fall into is, too.
    low, high = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
    for grid_size in (1, 8, 256):
        knots = uniform_knots(low, high, grid_size, degree)
        expected = scipy_basis(knots.T, knots, degree)
        found = uniform_basis(knots.T, low, high, grid_size, degree)
        assert (found - expected).abs().max() <= 1e-12
        found = uniform_basis(knots.T.float(), low, high, grid_size, degree)
        assert (found - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("degree", DEGREES)
def test_reference_is_exact_on_uneven_and_repeated_knots(degree: int) -> None:
    uneven = torch.rand(3, 12 + 2 * degree, dtype=torch.float64).sort(1).values
    uneven[1, 6 + degree] = uneven[1, 5 + degree]  # an empty cell
    x = awkward_points(uneven, degree)[len(uneven.T) :]
    assert (
        cox_de_boor(x, uneven, degree) - scipy_basis(x, uneven, degree)
    ).abs().max() < (1e-12)


@pytest.mark.parametrize("outside", POLICIES)
@pytest.mark.parametrize("degree", DEGREES)
def test_reference_and_fast_path_agree_in_all_derivatives(
    degree: int, outside: str
) -> None:
    low, high = torch.tensor([-1.0, 2.0]).double(), torch.tensor([1.0, 9.0]).double()
    knots = uniform_knots(low, high, 7, degree)
    x = awkward_points(knots, degree)[len(knots.T) :].requires_grad_()
    weight = torch.randn(7 + degree, dtype=torch.float64)

    def derivatives(basis: Tensor) -> list[Tensor]:
        first = torch.autograd.grad((basis @ weight).sin().sum(), x, create_graph=True)[
            0
        ]
        second = torch.autograd.grad(first.square().sum(), x)[0]
        return [basis, first, second]

    fast = derivatives(uniform_basis(x, low, high, 7, degree, outside))
    slow = derivatives(spline_basis(x, knots, degree, outside))
    for a, b in zip(fast, slow):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("degree", DEGREES)
def test_slopes_at_knots_are_those_of_the_cell_to_the_right(degree: int) -> None:
    low, high = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
    knots = uniform_knots(low, high, 8, degree)
    x = knots.T.clone().requires_grad_()
    found = uniform_basis(x, low, high, 8, degree)
    slope = torch.stack(
        [
            torch.autograd.grad(found[..., g].sum(), x, retain_graph=True)[0]
            for g in range(8 + degree)
        ],
        -1,
    )
    to_the_right = scipy_basis(knots.T + 1e-9, knots, degree, derivative=1)
    assert (slope * 4 - to_the_right * 4).abs().max() < 1e-5


@pytest.mark.parametrize("outside", POLICIES)
def test_many_values_take_the_same_path_as_few(outside: str) -> None:
    for degree in DEGREES:
        low, high = torch.full((50,), -1.0), torch.full((50,), 1.0)
        for reach in (1.0, 1.5):  # all inside, some outside
            x = (torch.rand(1000, 50) * 2 - 1) * reach
            many = uniform_basis(x, low, high, 5, degree, outside)
            few = torch.cat(
                [uniform_basis(r, low, high, 5, degree, outside) for r in x.split(100)]
            )
            torch.testing.assert_close(many, few, rtol=0, atol=1e-6)


def test_nan_goes_on_and_infinity_is_outside() -> None:
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    x = torch.tensor([[float("nan")], [float("inf")], [-float("inf")]])
    for degree in DEGREES:
        knots = uniform_knots(low, high, 5, degree).float()
        for basis in (
            uniform_basis(x, low, high, 5, degree),
            spline_basis(x, knots, degree),
        ):
            assert basis[0].isnan().any()
            assert torch.equal(basis[1:], torch.zeros_like(basis[1:]))


def test_half_precision_inputs_keep_float32_bases() -> None:
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    x = torch.linspace(-1, 1, 101, dtype=torch.bfloat16).unsqueeze(1)
    found = uniform_basis(x, low, high, 64, 3)
    expected = uniform_basis(x.double(), low, high, 64, 3)
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() < 1e-6


def test_unknown_policy_is_refused() -> None:
    from kancl import KANLinear

    with pytest.raises(ValueError, match="'wrap'"):
        KANLinear(2, 2, outside="wrap")  # type: ignore[arg-type]
