"""One KAN layer: a learned univariate spline on every edge."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kancl.models.checks import check_dtype, check_input, check_options
from kancl.models.efficient_kan import adapt_to_state_dict
from kancl.models.processes import all_samples, as_in_first
from kancl.models.sparsity import l1_and_entropy
from kancl.splines import (
    Grid,
    GridReader,
    Implementation,
    Outside,
    anchors_of,
    ends_of,
    fit_coefficients,
    fitted_knots,
    grid_ends,
    moved_grid,
    quantile_warp,
    second_moment,
    uniform_knots,
)


class KANLinear(nn.Module):
    """Learn one univariate function per input-output edge and sum them.

    ``y_o = sum_i (base_weight[o,i]*silu(x_i)
    + edge_scale[i,o] * sum_g coefficients[i,g,o]*B_g(x_i))``

    Takes the arguments and the ``state_dict`` of efficient-kan's class of the same name;
    arguments after ``grid_range`` are new. An input's coefficients lie together, as the
    fast paths want it; ``spline_weight`` and ``spline_scaler`` show efficient-kan's order.

    Args:
        grid_size: intervals on ``grid_range``; ``grid_size + spline_order`` bases.
        spline_order: degree of the splines, 1 to 5; 3 = cubic.
        scale_noise: standard deviation that a fresh layer's random splines give an
            output, for inputs on the grid.
        scale_base: multiplies a fresh layer's base weights, for 1 those of
            ``torch.nn.Linear``.
        scale_spline: multiplies the spline part of a fresh layer.
        enable_standalone_scale_spline: one more learned factor per edge, redundant but
            a brake on the splines' steps: starts from ``in_features^(-1/4)``.
        base_activation: class of the base branch's activation.
        grid_eps: share of equal spacing, against quantiles, in ``update_grid``.
        grid_range: ends of the grid, the same for all inputs, or ``(in_features, 2)``.
        base: whether there is a base branch.
        outside: beyond the grid the splines decay to 0 within ``spline_order`` cells
            (``zero``), keep their end value (``clamp``) or go straight on (``linear``).
        anchor: an input value, or one per input, at which every edge's spline is 0 and
            learns nothing: ``B_g(x) - B_g(anchor)`` takes the place of ``B_g(x)``.
        implementation: how the splines are summed, alike within rounding. ``reference``:
            Cox-de Boor, any knots. ``dense``: one matrix product over all bases.
            ``sparse``: live bases only, on a CPU, degree 1 to 3; ``triton``: that on a
            CUDA device. ``auto``: the fastest that is possible, as far as measured.
    Shape: ``(..., in_features)`` -> ``(..., out_features)``. Inputs have the weights' dtype
        and outputs keep it, as with ``torch.nn.Linear``; under autocast it is autocast's.
    Raises: ValueError for options that are out of range or can't go together, and for
        inputs of another width or dtype.
    Source: Liu et al. 2024, arXiv:2404.19756; arguments: efficient-kan (Blealtan).
        Differs: ``update_grid`` keeps the function; starts from closed-form moments.

    >>> layer = KANLinear(784, 64, grid_range=(0, 1))
    >>> layer(torch.rand(32, 784)).shape
    torch.Size([32, 64])
    """

    grid: Tensor
    anchor: Tensor | None
    warp: Tensor | None
    edge_mask: Tensor | None
    base_weight: nn.Parameter | None
    coefficients: nn.Parameter
    edge_scale: nn.Parameter | None

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
        grid_range: Sequence[float] | Tensor = (-1, 1),
        *,
        base: bool = True,
        outside: Outside = "zero",
        anchor: float | Tensor | None = None,
        implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.spline_order, self.grid_eps = spline_order, grid_eps
        self.scale_noise, self.scale_base = scale_noise, scale_base
        self.scale_spline = scale_spline
        self.enable_standalone_scale_spline = has_scale = enable_standalone_scale_spline
        self.outside: Outside = outside
        self.implementation: Implementation = implementation
        check_options(self, grid_size)

        self._ends = ends_of(grid_range, in_features)
        self._anchors = None if anchor is None else anchors_of(anchor, in_features)
        knots = torch.empty(in_features, grid_size + 2 * spline_order + 1)
        self.register_buffer("grid", knots)
        anchors = None if anchor is None else torch.empty(in_features)
        self.register_buffer("anchor", anchors)
        self.register_buffer("warp", None)
        self.register_buffer("edge_mask", None)
        self._reader = GridReader()
        self.base_activation = base_activation()
        n_basis = grid_size + spline_order
        for name, used, shape in (
            ("base_weight", base, (out_features, in_features)),
            ("coefficients", True, (in_features, n_basis, out_features)),
            ("edge_scale", has_scale, (in_features, out_features)),
        ):
            empty = nn.Parameter(torch.empty(shape)) if used else None
            self.register_parameter(name, empty)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Give the grid its range again and draw fresh weights.

        The sums of the weights over the inputs have a known size.
        Coefficients of variance ``s^2`` give an edge the mean square ``s^2 * E sum_g
        B_g^2`` (``second_moment``), and ``in_features`` edges add up.
        """
        with torch.no_grad():
            self.grid.copy_(
                uniform_knots(*self._ends, self.grid_size, self.spline_order)
            )
            self.warp = None
            if self.anchor is not None and self._anchors is not None:
                self.anchor.copy_(self._anchors)
            if self.base_weight is not None:
                bound = self.scale_base / math.sqrt(self.in_features)
                self.base_weight.uniform_(-bound, bound)
            moment = self.in_features * second_moment(self.spline_order)
            deviation = self.scale_spline * self.scale_noise / math.sqrt(moment)
            if self.edge_scale is not None:
                # A coefficient's step moves the function by so much less: with 1, all
                # inputs' steps add up to jumps (lower accuracy).
                factor = self.in_features**-0.25
                self.edge_scale.fill_(factor)
                deviation /= factor
            self.coefficients.normal_(0, deviation)

    def forward(self, x: Tensor) -> Tensor:
        check_input(self, x)
        check_dtype(x, self.coefficients)
        splines = self.coefficients, self.edge_factor
        rows = x.reshape(-1, self.in_features)  # (batch, in_features)
        base = self.masked_base_weight, self.base_activation
        y = self.spline_grid.sum(rows, *splines, self.implementation, *base)
        if x.dim() == 2:
            return y  # a view of it would be in the way of FSDP's hooks
        return y.reshape(*x.shape[:-1], self.out_features)  # (..., out_features)

    def b_splines(self, x: Tensor) -> Tensor:
        """All bases at ``x``, see ``Grid.basis``."""
        check_input(self, x, 2)
        return self.spline_grid.basis(x)

    @property
    def spline_grid(self) -> Grid:
        """``grid``, ``anchor`` and ``warp`` as one value, read from these tensors."""
        options = self.spline_order, self.outside, self.anchor, self.warp
        return self._reader.read(self.grid, *options)

    @property
    def grid_size(self) -> int:
        return self.grid.shape[1] - 1 - 2 * self.spline_order

    @property
    def uniform(self) -> bool:
        return self.spline_grid.uniform

    @property
    def edge_factor(self) -> Tensor | None:
        """``edge_scale``, 0 where ``edge_mask`` is 0, ``(in, out)``; None: 1."""
        if self.edge_mask is None:
            return self.edge_scale
        if self.edge_scale is None:
            return self.edge_mask.to(self.coefficients.dtype)
        return self.edge_scale * self.edge_mask.to(self.edge_scale.dtype)

    @property
    def masked_base_weight(self) -> Tensor | None:
        """The base weights in use, ``(out_features, in_features)``."""
        if self.edge_mask is None or self.base_weight is None:
            return self.base_weight
        return self.base_weight * self.edge_mask.T.to(self.base_weight.dtype)

    @property
    def scaled_coefficients(self) -> Tensor:
        """The coefficients in use, ``(in_features, n_basis, out_features)``."""
        if (factor := self.edge_factor) is None:
            return self.coefficients
        return self.coefficients * factor.unsqueeze(1)

    @property
    def spline_weight(self) -> Tensor:
        """``coefficients`` as ``(out_features, in_features, n_basis)``: a view."""
        return self.coefficients.permute(2, 0, 1)

    @property
    def spline_scaler(self) -> Tensor | None:
        """``edge_scale`` as ``(out_features, in_features)``: a view."""
        return None if self.edge_scale is None else self.edge_scale.T

    @torch.no_grad()
    def fit_range(self, x: Tensor) -> None:
        """Let each input's grid reach from its smallest sample to its largest.

        Changes the functions: call it before training, with ``(n, in_features)`` samples.

        Raises: ValueError if ``x`` is not finite, or the grid was moved or warped before.
        """
        x = self._all_samples(x, "a grid is fitted on finite samples")
        grid = self.spline_grid
        if not grid.uniform or grid.warp is not None:
            raise ValueError(
                "fit_range needs a uniform grid, and this one was moved or warped: fit a "
                "fresh layer"
            )
        self.grid.copy_(fitted_knots(x, grid))

    def warp_grid(self, x: Tensor, uniform_share: float = 0.2) -> None:
        """Let the grid follow the samples: cells between quantiles, atoms set apart.

        Changes the functions: call it before training. See ``quantile_warp``.

        Raises: ValueError if the knots were moved before, or as ``quantile_warp`` does.
        """
        x = self._all_samples(x, "a warp is fitted on finite samples")
        grid = self.spline_grid
        if not grid.uniform:
            raise ValueError(
                "warp_grid needs a uniform grid, and this one was moved (update_grid): "
                "warp a fresh layer"
            )
        table = quantile_warp(x, grid.low, grid.high, grid.size, uniform_share)
        self.warp = table.to(self.grid.dtype)  # (in_features, resolution + 1)

    @torch.no_grad()
    def update_grid(self, x: Tensor, margin: float = 0.01) -> None:
        """Move the knots towards where the data are, in place; see ``moved_grid``.

        As far as the functions stay, within 1 % of their root mean square; features with
        samples off the present grid get there whatever it takes.

        Args:
            margin: how far the grid reaches beyond the smallest and largest sample.
        Shape: ``(batch, in_features)``.
        Several processes (``torch.distributed``) move their copies alike, for the samples
        of all of them: each has to call this.

        Raises: ValueError if ``x`` has another shape or is not finite, the grid is warped,
            or the coefficients are pruned, reparametrized or sharded.
        """
        self.check_grid_may_change()
        x = self._all_samples(x, "update_grid needs finite samples")
        if self.warp is not None:
            raise ValueError(
                "update_grid moves knots, but this grid is warped: it stays"
            )
        scaled = self.scaled_coefficients.permute(2, 0, 1)
        knots, matrix = moved_grid(x, self.spline_grid, scaled, self.grid_eps, margin)
        as_in_first(knots, matrix)
        # The same map for every output, so that a scale per edge needs no undoing.
        self.coefficients.copy_(matrix @ self.coefficients.to(matrix.dtype))
        self.grid.copy_(knots)
        _ = self.spline_grid  # read for graphs, which can't

    def check_grid_may_change(self) -> None:
        """Raises: ValueError unless the coefficients are a parameter of the layer."""
        if type(self._parameters.get("coefficients")) is not nn.Parameter:
            raise ValueError(
                "a grid can't change while its coefficients are pruned, reparametrized or "
                "sharded: torch.nn.utils.prune.remove or parametrize."
                "remove_parametrizations first, or change it before fully_shard"
            )

    def curve2coeff(self, x: Tensor, y: Tensor) -> Tensor:
        """Coefficients of the curves through (or nearest to) given points.

        Shape: ``(n, in)``, ``(n, in, out)`` -> ``(out, in, n_basis)``.
        """
        bases = self.b_splines(x).transpose(0, 1)  # (in_features, n, n_basis)
        expected = (len(x), self.in_features, self.out_features)
        if y.shape != expected:
            raise ValueError(f"expected y of shape {expected}, got {tuple(y.shape)}")
        return fit_coefficients(bases, y.transpose(0, 1)).permute(2, 0, 1)

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """``l1_and_entropy`` of the edges' mean absolute coefficients, as efficient-kan's."""
        size = self.coefficients.abs().mean(1)  # (in_features, out_features)
        if self.edge_mask is not None:
            size = size * self.edge_mask.to(size.dtype)
        return l1_and_entropy(size, regularize_activation, regularize_entropy)

    def edge_outputs(self, x: Tensor) -> Tensor:
        """Every edge's function at ``x``, base branch included; they add up to ``forward``.

        Shape: ``(batch, in_features)`` -> ``(batch, in_features, out_features)``.
        """
        weights = self.scaled_coefficients
        basis = self.b_splines(x).to(weights.dtype).transpose(0, 1)
        y = (basis @ weights).transpose(0, 1)
        if (base_weight := self.masked_base_weight) is not None:
            y = y + self.base_activation(x).unsqueeze(-1) * base_weight.T
        return y

    def off_grid_share(self, x: Tensor) -> float:
        """Share of the values in ``x`` that lie outside the grid."""
        check_input(self, x)
        grid = self.spline_grid
        return float(((x < grid.low) | (x > grid.high)).double().mean())

    @torch.no_grad()
    def edge_functions(self, n_points: int = 100) -> tuple[Tensor, Tensor]:
        """The learned function of every edge over its grid, base branch included.

        Shape: ``(in_features, n_points)``, ``(out_features, in_features, n_points)``.
        """
        grid = self.spline_grid
        low, high = grid.low.unsqueeze(1), grid.high.unsqueeze(1)
        share = torch.linspace(0, 1, n_points, dtype=low.dtype, device=low.device)
        x = low + share * (high - low)  # (in_features, n_points)
        return x, self.edge_outputs(x.T).permute(2, 1, 0)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, grid_size={self.grid_size}, "
            f"spline_order={self.spline_order}, base={self.base_weight is not None}, "
            f"outside={self.outside!r}, anchored={self.anchor is not None}, "
            f"uniform={self.uniform}, warped={self.warp is not None}, "
            f"implementation={self.implementation!r}"
        )

    def _all_samples(self, x: Tensor, rule: str) -> Tensor:
        """Those of all processes."""
        check_input(self, x, 2)
        x = all_samples(x)
        if len(x) == 0 or not bool(torch.isfinite(x).all()):
            raise ValueError(f"{rule}, got NaN, inf or none")
        return x

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> "KANLinear":
        before, old = dict(self._buffers), self.spline_grid
        super()._apply(fn, recurse)
        # The grid keeps float32 when the weights go to half precision: rounded to
        # bfloat16 it would be another one.
        for name, buffer in before.items():
            now = self._buffers[name]
            if buffer is not None and now is not None and now.dtype.itemsize < 4:
                self._buffers[name] = buffer.to(now.device)
        # Knots that were even for their old dtype are to be so for a finer one.
        if old.uniform and self.grid.dtype != old.knots.dtype:
            ends = grid_ends(self.grid, self.spline_order)
            knots = uniform_knots(*ends, self.grid_size, self.spline_order)
            self.grid = knots.to(self.grid.dtype)
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *options: Any
    ) -> None:
        """Take efficient-kan's, another grid size, and one with or without scale."""
        if (error := adapt_to_state_dict(self, state_dict, prefix)) is not None:
            options[-1].append(error)
            return
        for name in "warp", "edge_mask":
            tensor = state_dict.get(f"{prefix}{name}")
            if tensor is not None:
                tensor = self.grid.new_empty(tensor.shape)
            setattr(self, name, tensor)
        super()._load_from_state_dict(state_dict, prefix, *options)
        _ = self.spline_grid  # read for graphs, which can't
