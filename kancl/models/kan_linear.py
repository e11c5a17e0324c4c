"""One KAN layer: a learned univariate spline on every edge."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kancl.models.memory import keep_freed_memory
from kancl.splines import (
    Outside,
    Refit,
    adapted_knots,
    check_outside,
    fit_coefficients,
    grid_ends,
    is_uniform,
    refit,
    second_moment,
    spline_basis,
    uniform_basis,
    uniform_knots,
)

# Largest change of a feature's functions when the grid moves, of their size.
GRID_TOLERANCE = 0.01

SMALLEST = 1e-30  # far below any share; its inverse and logarithm are finite


class KANLinear(nn.Module):
    """Learn one univariate function per input-output edge and sum them.

    ``y_o = sum_i (base_weight[o,i]*silu(x_i)
    + spline_scaler[o,i] * sum_g spline_weight[o,i,g]*B_g(x_i))``

    Arguments, attributes and ``state_dict`` are those of efficient-kan's class of the
    same name; those after ``grid_range`` are new. On a uniform grid the bases come in
    closed form; on any other (after ``update_grid``, or loaded) by Cox-de Boor.

    Args:
        grid_size: intervals on ``grid_range``; ``grid_size + spline_order`` bases.
        spline_order: degree of the splines, 1 to 5; 3 = cubic.
        scale_noise: size of the random spline part of a fresh layer: the standard
            deviation that it gives an output, for inputs on the grid.
        scale_base: multiplies the base weights of a fresh layer, which are uniform
            within ``1/sqrt(in_features)`` for 1, as in ``torch.nn.Linear``.
        scale_spline: multiplies the spline part of a fresh layer.
        enable_standalone_scale_spline: one more learned factor per edge, redundant but
            a brake on the splines' steps: starts from ``in_features^(-1/4)``.
        base_activation: class of the base branch's activation.
        grid_eps: share of equal spacing, against quantiles, in ``update_grid``.
        grid_range: ends of the grid, the same for all inputs.
        base: whether there is a base branch.
        outside: beyond the grid the splines decay to 0 within ``spline_order`` cells
            (``zero``), keep their end value (``clamp``) or go straight on (``linear``).
    Shape: ``(..., in_features)`` -> ``(..., out_features)``, dtype kept.
    Raises: ValueError if a size is below 1, the degree is not 1 to 5, ``grid_range``
        does not increase or ``outside`` is no policy.
    Source: Liu et al. 2024, arXiv:2404.19756; arguments: efficient-kan (Blealtan).
        Differs: ``update_grid`` keeps the function; starts from closed-form moments.

    >>> layer = KANLinear(784, 64, grid_range=(0, 1))
    >>> layer(torch.rand(32, 784)).shape
    torch.Size([32, 64])
    """

    grid: Tensor
    base_weight: nn.Parameter | None
    spline_scaler: nn.Parameter | None
    uniform: bool  # whether `grid` is equally spaced: selects the fast path

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
        base: bool = True,
        outside: Outside = "zero",
    ) -> None:
        super().__init__()
        sizes = {
            "in_features": in_features,
            "out_features": out_features,
            "grid_size": grid_size,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if spline_order not in range(1, 6):
            raise ValueError(
                f"spline_order is the degree, 1 to 5 (3 = cubic), got {spline_order}"
            )
        low, high = grid_range
        if not low < high:
            raise ValueError(f"grid_range must increase, got {tuple(grid_range)}")
        if not 0 <= grid_eps <= 1:
            raise ValueError(f"grid_eps is a share from 0 to 1, got {grid_eps}")
        check_outside(outside)
        keep_freed_memory()
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.scale_noise = scale_noise
        self.scale_base = scale_base
        self.scale_spline = scale_spline
        self.enable_standalone_scale_spline = enable_standalone_scale_spline
        self.grid_eps = grid_eps
        self.outside: Outside = outside

        knots = uniform_knots(low, high, grid_size, spline_order)
        dtype = torch.get_default_dtype()
        self.register_buffer("grid", knots.to(dtype).repeat(in_features, 1))
        self.uniform = True
        self.base_activation = base_activation()
        edges = (out_features, in_features)
        self.base_weight = nn.Parameter(torch.empty(edges)) if base else None
        self.spline_weight = nn.Parameter(torch.empty(*edges, grid_size + spline_order))
        self.spline_scaler = (
            nn.Parameter(torch.empty(edges)) if enable_standalone_scale_spline else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights whose sums over the inputs have a known size.

        Independent coefficients of variance ``s^2`` give each edge the mean square
        ``s^2 * E sum_g B_g^2`` (``second_moment``), and ``in_features`` edges add up.
        """
        with torch.no_grad():
            if self.base_weight is not None:
                bound = self.scale_base / math.sqrt(self.in_features)
                self.base_weight.uniform_(-bound, bound)
            moment = self.in_features * second_moment(self.spline_order)
            deviation = self.scale_spline * self.scale_noise / math.sqrt(moment)
            if self.spline_scaler is not None:
                # A step of a coefficient moves the function by so much less: with 1 in
                # place of it, all inputs' steps add up to jumps (lower accuracy).
                factor = self.in_features**-0.25
                self.spline_scaler.fill_(factor)
                deviation /= factor
            self.spline_weight.normal_(0, deviation)

    @property
    def scaled_spline_weight(self) -> Tensor:
        """The coefficients in use, ``(out_features, in_features, n_basis)``."""
        weight, scaler = self.spline_weight, self.spline_scaler
        if scaler is None:
            return weight
        if weight.is_cuda or torch.is_autocast_enabled("cpu"):
            return weight * scaler.unsqueeze(-1)
        # The same, four times faster on a CPU, where broadcasting along a last dimension
        # as short as this one is slow.
        repeated = scaler.reshape(-1, 1) @ weight.new_ones(1, weight.shape[-1])
        return weight * repeated.view_as(weight)

    def b_splines(self, x: Tensor) -> Tensor:
        """All bases at ``x``, outside the grid by policy; at least float32.

        Shape: ``(batch, in_features)`` -> ``(batch, in_features, n_basis)``.
        """
        self._check_input(x, 2)
        return self._bases(x, self.grid, self.uniform)

    def forward(self, x: Tensor) -> Tensor:
        self._check_input(x)
        rows = x.reshape(-1, self.in_features)
        bases = self._bases(rows, self.grid, self.uniform)
        y = F.linear(
            bases.flatten(1).to(x.dtype),  # (batch, in_features * n_basis)
            self.scaled_spline_weight.flatten(1),
        )
        if self.base_weight is not None:
            y = y + F.linear(self.base_activation(rows), self.base_weight)
        return y.reshape(*x.shape[:-1], self.out_features)

    def curve2coeff(self, x: Tensor, y: Tensor) -> Tensor:
        """Coefficients of the curves through (or nearest to) given points.

        Shape: ``(n, in_features)``, ``(n, in_features, out_features)`` ->
            ``(out_features, in_features, n_basis)``.
        """
        self._check_input(x, 2)
        expected = (len(x), self.in_features, self.out_features)
        if y.shape != expected:
            raise ValueError(f"expected y of shape {expected}, got {tuple(y.shape)}")
        bases = self.b_splines(x).transpose(0, 1)  # (in_features, n, n_basis)
        return fit_coefficients(bases, y.transpose(0, 1)).permute(2, 0, 1).contiguous()

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> None:
        """Move the knots towards where the data are, as far as the functions stay.

        The aim are the knots of ``adapted_knots``. With as many coefficients as before a
        spline on other knots can't be quite the same: each feature's knots go the whole
        way, a half, a quarter, an eighth, or stay, the first that changes its functions
        by at most ``GRID_TOLERANCE`` of their root mean square, on the samples and all
        over the new grid alike. Features with samples off the present grid go the whole
        way. Parameters and grid change in place, so that optimizers keep working.

        Args:
            margin: how far the grid reaches beyond the smallest and largest sample.
        Shape: ``(batch, in_features)``.
        Raises: ValueError if ``x`` has another shape or is not finite.
        """
        self._check_input(x, 2)
        if not bool(torch.isfinite(x).all()):
            raise ValueError("update_grid needs finite samples, got NaN or inf")
        x, present = x.double(), self.grid.double()
        aim = adapted_knots(x, present, self.spline_order, self.grid_eps, margin)
        low, high = grid_ends(present, self.spline_order)
        off_grid = (x.amin(0) < low) | (x.amax(0) > high)
        scaled = self.scaled_spline_weight
        knots = present.clone()
        matrix = torch.eye(scaled.shape[-1], dtype=x.dtype, device=x.device)
        matrix = matrix.repeat(self.in_features, 1, 1)
        todo = torch.ones_like(off_grid)
        for share in (1.0, 0.5, 0.25, 0.125):
            # Rounded as the grid will be, so that the fit is to the knots in use.
            tried = (present + share * (aim - present)).to(self.grid.dtype).double()
            fit = self._refit(x, present, tried)
            fine = fit.relative_change(scaled) <= GRID_TOLERANCE
            accepted = todo & (fine | off_grid)
            knots[accepted], matrix[accepted] = tried[accepted], fit.matrix[accepted]
            todo &= ~accepted
            if not bool(todo.any()):
                break
        # The same map for every output, so that a scaler per edge needs no undoing.
        weight = self.spline_weight.to(matrix.dtype)
        self.spline_weight.copy_(torch.einsum("inm,oim->oin", matrix, weight))
        self.grid.copy_(knots)
        self.uniform = is_uniform(self.grid, self.spline_order)

    def _refit(self, x: Tensor, present: Tensor, knots: Tensor) -> Refit:
        """From the present knots to others, over samples and, equally, the new grid."""
        uniform = is_uniform(knots.to(self.grid.dtype), self.spline_order)
        low, high = grid_ends(knots, self.spline_order)
        share = torch.linspace(0, 1, 16 * self.grid_size, device=x.device).to(x.dtype)
        even = low + share.unsqueeze(1) * (high - low)  # (n_even, in_features)
        weights = [
            torch.full_like(points[:, 0], 1 / len(points)) for points in (x, even)
        ]
        return refit(
            lambda points: self._bases(points, present, self.uniform),
            lambda points: self._bases(points, knots, uniform),
            torch.cat([x, even]),
            torch.cat(weights),
        )

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """L1 size of the edges' coefficients plus the entropy of its distribution.

        As in efficient-kan: the mean magnitude of an edge's coefficients stands for
        that of its function over the data. An edge that is exactly 0 adds nothing.
        """
        size = self.spline_weight.abs().mean(-1)  # (out_features, in_features)
        total = size.sum()
        share = size / total.clamp(min=SMALLEST)
        entropy = -(share * share.clamp(min=SMALLEST).log()).sum()
        return regularize_activation * total + regularize_entropy * entropy

    def off_grid_share(self, x: Tensor) -> float:
        """Share of the values in ``x`` that lie outside the grid."""
        self._check_input(x)
        low, high = grid_ends(self.grid, self.spline_order)
        return float(((x < low) | (x > high)).double().mean())

    @torch.no_grad()
    def edge_functions(self, n_points: int = 100) -> tuple[Tensor, Tensor]:
        """The learned function of every edge over its grid, base branch included.

        Shape: ``(in_features, n_points)``, ``(out_features, in_features, n_points)``.
        """
        low, high = (
            end.unsqueeze(1) for end in grid_ends(self.grid, self.spline_order)
        )
        share = torch.linspace(0, 1, n_points, dtype=low.dtype, device=low.device)
        x = low + share * (high - low)
        bases = self.b_splines(x.T).to(low.dtype)  # (n_points, in_features, n_basis)
        weight = self.scaled_spline_weight.to(low.dtype)
        y = torch.einsum("nig,oig->oin", bases, weight)
        if self.base_weight is not None:
            y = y + self.base_weight.unsqueeze(-1) * self.base_activation(x)
        return x, y

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_weight is not None}, "
            f"outside={self.outside!r}, uniform={self.uniform}"
        )

    def _bases(self, x: Tensor, knots: Tensor, uniform: bool) -> Tensor:
        """The fast path if ``knots`` are equally spaced, else the reference."""
        if uniform:
            low, high = grid_ends(knots, self.spline_order)
            size, degree = (
                knots.shape[-1] - 1 - 2 * self.spline_order,
                self.spline_order,
            )
            return uniform_basis(x, low, high, size, degree, self.outside)
        dtype = torch.promote_types(x.dtype, torch.float32)
        return spline_basis(
            x.to(dtype), knots.to(dtype), self.spline_order, self.outside
        )

    def _check_input(self, x: Tensor, n_dimensions: int | None = None) -> None:
        if n_dimensions is not None and x.dim() != n_dimensions:
            raise ValueError(
                f"expected samples as (batch, {self.in_features}), got {tuple(x.shape)}"
            )
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"expected {self.in_features} input features in the last dimension, "
                f"got shape {tuple(x.shape)}"
            )

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "KANLinear":
        # Knots keep float32 when the weights go to half precision: rounded to bfloat16
        # they would be other knots.
        knots = self.grid
        super()._apply(fn, recurse)
        if self.grid.is_floating_point() and self.grid.dtype.itemsize < 4:
            self.grid = knots.to(self.grid.device)
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Take a state of another grid size, and one with or without scaler."""
        knots = state_dict.get(f"{prefix}grid")
        weight = state_dict.get(f"{prefix}spline_weight")
        scaler = state_dict.get(f"{prefix}spline_scaler")
        if knots is not None and weight is not None:
            n_basis = weight.shape[-1]
            degree = knots.shape[-1] - 1 - n_basis
            if degree != self.spline_order:
                error_msgs.append(
                    f"{prefix or 'state_dict: '}grid and spline_weight are those of "
                    f"degree {degree}, this layer has degree {self.spline_order}: build "
                    f"it with spline_order={degree}"
                )
                return
            if n_basis - degree != self.grid_size:
                self._resize_grid(n_basis - degree)
            if scaler is not None and self.spline_scaler is None:
                state_dict[f"{prefix}spline_weight"] = weight * scaler.unsqueeze(-1)
                del state_dict[f"{prefix}spline_scaler"]
            if scaler is None and self.spline_scaler is not None:
                state_dict[f"{prefix}spline_scaler"] = torch.ones_like(weight[..., 0])
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )
        if not self.grid.is_meta:
            self.uniform = is_uniform(self.grid, self.spline_order)

    def _resize_grid(self, grid_size: int) -> None:
        """Make room for another grid size; contents are for the caller to fill."""
        degree = self.spline_order
        self.grid_size = grid_size
        self.grid = self.grid.new_empty(self.in_features, grid_size + 2 * degree + 1)
        weight = self.spline_weight.data
        self.spline_weight.data = weight.new_empty(
            *weight.shape[:2], grid_size + degree
        )
