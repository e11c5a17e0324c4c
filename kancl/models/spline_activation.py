"""A learned activation function for every hidden unit of an MLP."""

import torch
from torch import Tensor, nn

from kancl.splines import basis_flops, counted, uniform_basis


class SplineActivation(nn.Module):
    """One cubic spline per feature, straight on outside its grid; nearly a ReLU at first.

    ``y_i = sum_g coefficients[i,g] B_g(x_i)``, the coefficients being the ReLU of the
    bases' centres (Schoenberg's approximation) until they are trained.

    Args:
        grid_size: intervals of the grid over ``[-4, 4]``; 3 more bases.
    Shape: ``(batch, features)`` -> the same.
    """

    DEGREE = 3
    REACH = 4.0

    def __init__(self, features: int, grid_size: int = 16) -> None:
        super().__init__()
        self.features, self.grid_size = features, grid_size
        self.register_buffer("high", torch.full((features,), self.REACH), False)
        self.coefficients = nn.Parameter(self.centres().relu().repeat(features, 1))

    def centres(self) -> Tensor:
        """Greville abscissae: a spline with these coefficients is the identity."""
        cell = 2 * self.REACH / self.grid_size
        number = torch.arange(self.grid_size + self.DEGREE)
        return (number - (self.DEGREE - 1) / 2) * cell - self.REACH

    def forward(self, x: Tensor) -> Tensor:
        high = self.get_buffer("high")
        basis = uniform_basis(x, -high, high, self.grid_size, self.DEGREE, "linear")
        flops = basis_flops(self.DEGREE) + 2 * basis.shape[-1]
        return (counted(basis, flops) * self.coefficients).sum(-1)  # (batch, features)
