"""B-spline bases on any knots, by the recursion in the books: the readable reference."""

from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from kancl.splines.knots import grid_ends

Outside = Literal["zero", "clamp", "linear"]


def check_outside(outside: str) -> None:
    """Raises: ValueError if ``outside`` is no policy outside the grid."""
    if outside not in get_args(Outside):
        raise ValueError(f"outside must be one of {get_args(Outside)}, got {outside!r}")


def spline_basis(
    x: Tensor, knots: Tensor, degree: int, outside: Outside = "zero"
) -> Tensor:
    """All basis functions at ``x``, with a policy outside the grid.

    Args:
        outside: ``zero``: bases decay to 0 within ``degree`` cells beyond the grid;
            ``clamp``: as at the nearest end; ``linear``: straight on from the end.
    Shape: ``(..., in_features)``, ``(in_features, n_knots)`` ->
        ``(..., in_features, n_knots - 1 - degree)``.
    """
    if outside == "zero":
        # Everything beyond the last knot is 0 as at it; keeps inf out of the sums.
        first, last = knots[..., 0], knots[..., -1]
        return cox_de_boor(torch.clamp(x, first, last), knots, degree)
    inside = nearest_inside(x, *grid_ends(knots, degree))
    basis = cox_de_boor(inside, knots, degree, extend_ends=True)
    if outside == "linear":
        slope = basis_slope(inside.detach(), knots, degree)
        basis = basis + (x - inside).unsqueeze(-1) * slope
    return basis


def nearest_inside(x: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """``x`` moved to the nearest end if outside; an end itself counts as inside.

    ``torch.clamp`` has a gradient of 0 or 1 there, depending on torch's version.
    """
    low, high = (end.to(x) if isinstance(end, Tensor) else end for end in (low, high))
    return torch.where(x < low, low, torch.where(x > high, high, x))


def anchored(basis: Tensor, at_anchor: Tensor, is_anchor: Tensor) -> Tensor:
    """``B_g(x) - B_g(anchor)``, exactly 0 where the input is the anchor."""
    basis = basis - at_anchor
    # Not left to the subtraction: rounding may differ between batch sizes.
    no_value = basis - basis.detach()  # 0, with the derivatives of the bases
    return torch.where(is_anchor.unsqueeze(-1), no_value, basis)


def cox_de_boor(
    x: Tensor, knots: Tensor, degree: int, extend_ends: bool = False
) -> Tensor:
    """Basis functions by the Cox-de Boor recursion.

    ``B_{i,0} = 1 on [t_i, t_{i+1})``,
    ``B_{i,k} = (x-t_i)/(t_{i+k}-t_i) B_{i,k-1}
    + (t_{i+k+1}-x)/(t_{i+k+1}-t_{i+1}) B_{i+1,k-1}``, with ``0/0 = 0``.

    Args:
        extend_ends: the first and last cell's polynomials also serve at and beyond the
            ends.
    Shape: see ``spline_basis``.
    Source: de Boor, A Practical Guide to Splines, 1978, chapter X.
    """
    n_cells = knots.shape[-1] - 1
    starts, stops = knots[..., :-1], knots[..., 1:]
    if extend_ends:
        cell = torch.arange(n_cells, device=knots.device)
        last = n_cells - 1 - degree
        starts = starts.masked_fill(cell == degree, -inf).masked_fill(cell > last, inf)
        stops = stops.masked_fill(cell < degree, -inf).masked_fill(cell == last, inf)
    x = x.unsqueeze(-1)
    basis = ((x >= starts) & (x < stops)).to(x.dtype)  # (..., in_features, n_cells)
    tiny = torch.finfo(x.dtype).tiny
    for k in range(1, degree + 1):
        span = knots[..., k:] - knots[..., :-k]  # t_{i+k} - t_i
        inverse = torch.where(span > 0, 1 / span.clamp(min=tiny), 0)
        rising = (x - knots[..., : -k - 1]) * inverse[..., :-1] * basis[..., :-1]
        falling = (knots[..., k + 1 :] - x) * inverse[..., 1:] * basis[..., 1:]
        basis = rising + falling  # (..., in_features, n_cells - k)
    return basis


def basis_slope(x: Tensor, knots: Tensor, degree: int) -> Tensor:
    """First derivative of the basis functions on the grid, ends included.

    ``B'_{i,d} = d (B_{i,d-1}/(t_{i+d}-t_i) - B_{i+1,d-1}/(t_{i+d+1}-t_{i+1}))``
    """
    lower = cox_de_boor(x, knots[..., 1:-1], degree - 1, extend_ends=True)
    span = knots[..., 1 + degree : -1] - knots[..., 1 : -1 - degree]
    scaled = degree * torch.where(span > 0, lower / span, 0)
    return pad(scaled, (1, 0)) - pad(scaled, (0, 1))
