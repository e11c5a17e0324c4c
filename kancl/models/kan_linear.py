"""The spline layer: one learned univariate function per input-output edge."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kancl.splines.basis import Outside, check_outside, spline_basis
from kancl.splines.fitting import fit_coefficients
from kancl.splines.knots import grid_ends, is_uniform, uniform_knots
from kancl.splines.uniform import second_moment, uniform_basis


class KANLinear(nn.Module):
    """Learn one univariate function per input-output edge and sum them.

    Source: Liu et al. 2024, arXiv:2404.19756.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        enable_standalone_scale_spline: bool = True,
        base_activation: Callable[[], nn.Module] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        *,
        outside: Outside = "zero",
        base: bool = True,
    ) -> None:
        super().__init__()
        check_outside(outside)
        self.in_features, self.out_features = in_features, out_features
        self.grid_size, self.spline_order = grid_size, spline_order
        self.scale_noise, self.grid_eps, self.outside = scale_noise, grid_eps, outside
        knots = uniform_knots(grid_range[0], grid_range[1], grid_size, spline_order)
        knots = knots.expand(in_features, -1).to(torch.get_default_dtype())
        self.register_buffer("grid", knots.contiguous())
        n_basis = grid_size + spline_order
        self.spline_weight = nn.Parameter(
            torch.empty(out_features, in_features, n_basis)
        )
        self.base_weight = (
            nn.Parameter(torch.empty(out_features, in_features)) if base else None
        )
        self.spline_scaler = (
            nn.Parameter(torch.empty(out_features, in_features))
            if enable_standalone_scale_spline
            else None
        )
        self.base_activation = base_activation()
        with torch.no_grad():
            std = scale_noise / math.sqrt(in_features * second_moment(spline_order))
            self.spline_weight.normal_(0, std * scale_spline)
            if self.base_weight is not None:
                bound = scale_base / math.sqrt(in_features)
                self.base_weight.uniform_(-bound, bound)
            if self.spline_scaler is not None:
                self.spline_scaler.fill_(1.0)

    @property
    def scaled_spline_weight(self) -> Tensor:
        if self.spline_scaler is None:
            return self.spline_weight
        return self.spline_weight * self.spline_scaler.unsqueeze(-1)

    def b_splines(self, x: Tensor) -> Tensor:
        if is_uniform(self.grid, self.spline_order):
            low, high = grid_ends(self.grid, self.spline_order)
            return uniform_basis(
                x, low, high, self.grid_size, self.spline_order, self.outside
            )
        return spline_basis(x, self.grid, self.spline_order, self.outside)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        x = x.reshape(-1, self.in_features)
        y = F.linear(self.b_splines(x).flatten(1), self.scaled_spline_weight.flatten(1))
        if self.base_weight is not None:
            y = y + F.linear(self.base_activation(x), self.base_weight)
        return y.view(*shape[:-1], self.out_features)

    def off_grid_share(self, x: Tensor) -> float:
        low, high = grid_ends(self.grid, self.spline_order)
        return ((x < low) | (x > high)).double().mean().item()

    @torch.no_grad()
    def edge_functions(self, n_points: int = 100) -> tuple[Tensor, Tensor]:
        low, high = grid_ends(self.grid, self.spline_order)
        share = torch.linspace(0, 1, n_points, device=low.device)
        x = low.unsqueeze(1) + share * (high - low).unsqueeze(1)  # (in, n)
        basis = self.b_splines(x.T.contiguous())  # (n, in, n_basis)
        y = torch.einsum("nig,oig->oin", basis, self.scaled_spline_weight)
        if self.base_weight is not None:
            y = y + self.base_weight.unsqueeze(-1) * self.base_activation(x)
        return x, y

    def curve2coeff(self, x: Tensor, y: Tensor) -> Tensor:
        basis = self.b_splines(x).transpose(0, 1)
        return fit_coefficients(basis, y.transpose(0, 1)).permute(2, 0, 1).contiguous()
