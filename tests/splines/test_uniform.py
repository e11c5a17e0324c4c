"""The closed form's own promises."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kancl.splines import second_moment, uniform_basis


@given(
    x=st.floats(-1, 1),
    grid_size=st.integers(1, 256),
    degree=st.integers(1, 5),
)
def test_bases_on_the_grid_sum_to_one(x: float, grid_size: int, degree: int) -> None:
    low, high = torch.tensor([-1.0]).double(), torch.tensor([1.0]).double()
    point = torch.tensor([[x]], dtype=torch.float64)
    basis = uniform_basis(point, low, high, grid_size, degree)
    assert abs(float(basis.sum()) - 1) < 1e-12
    assert int((basis != 0).sum()) <= degree + 1
    assert float(basis.min()) >= -1e-15


@pytest.mark.parametrize(
    ("degree", "expected"),
    [
        (1, Fraction(2, 3)),
        (2, Fraction(11, 20)),
        (3, Fraction(151, 315)),
        (4, Fraction(15619, 36288)),
        (5, Fraction(655177, 1663200)),
    ],
)
def test_second_moment(degree: int, expected: Fraction) -> None:
    assert second_moment(degree) == pytest.approx(float(expected), rel=1e-13)
    low, high = torch.tensor([0.0]).double(), torch.tensor([1.0]).double()
    x = (torch.arange(20000, dtype=torch.float64).unsqueeze(1) + 0.5) / 20000
    basis = uniform_basis(x, low, high, 4, degree)
    assert float(basis.square().sum(-1).mean()) == pytest.approx(
        float(expected), rel=1e-6
    )
