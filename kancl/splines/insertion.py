"""Exact knot insertion: more knots, other coefficients, the same function.

A spline's coefficient is its blossom (polar form) at the knots inside its basis's
support, so those on new knots are linear in the old ones, ``new = T @ old``, with a
matrix that the knots alone decide. What a layer does outside its grid belongs to the
function, and says which new knots can hold it:

=========  ================================  ==========================================
outside    refinement                        growth
=========  ================================  ==========================================
zero       exact; a uniform grid gets wider  exact, uniform grids stay uniform
           by the fading part on both sides
clamp      exact, ends stay                  has a kink at the old end: uniform for
                                             degree 1, else a ``degree``-fold knot there
linear     exact, ends stay                  uniform for degrees 1 and 2, else a
                                             ``degree - 1``-fold knot at the old end
=========  ================================  ==========================================

Sources: Boehm 1980, Computer-Aided Design 12, 199-201; Cohen, Lyche, Riesenfeld 1980,
Computer Graphics and Image Processing 14, 87-111 (Oslo algorithm); Ramshaw 1989,
Computer Aided Geometric Design 6, 323-358 (blossoms).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from kancl.splines.basis import Outside
from kancl.splines.knots import grid_ends, is_uniform, uniform_knots

TOLERANCE = 1e-9  # of two blossoms that are to be the same


@dataclass(frozen=True)
class Insertion:
    """New knots, and how what belongs to coefficients goes over to them.

    All methods: ``(in_features, n_old, ...)`` -> ``(in_features, n_new, ...)``.

    Args:
        knots: ``(in_features, n_new_knots)``, float64.
        matrix: T, ``(in_features or 1, n_new, n_old)``, see ``insertion_matrix``.
        error: largest root mean square change of a feature's functions over the grid,
            relative to them; 0 for knots that are inserted, rounding apart.
    """

    knots: Tensor
    matrix: Tensor
    error: float = 0.0

    def values(self, old: Tensor) -> Tensor:
        """``T @ old``: coefficients, their past values, and moves of them.

        Momentum is a move: the step it makes changes the function as it would have.
        """
        return self._apply(self.matrix, old)

    def second_moments(self, old: Tensor) -> Tensor:
        """Means of the parents' second moments, weighted by ``|T|``.

        With ``values`` of the first moments, a step ``m / sqrt(v)`` moves the function as
        before (exactly where the parents' ``v`` agree). New coefficients without parents
        start from their edge's mean.
        """
        size = self.matrix.abs()
        total = size.sum(-1, keepdim=True)
        n_old = size.shape[-1]
        weights = torch.where(total > 0, size / total.clamp(min=1e-300), 1 / n_old)
        return self._apply(weights, old)

    def shares(self, old: Tensor) -> Tensor:
        """Every old amount divided among its children, in proportion to ``|T|``.

        For occupancies and importances, sums over samples that keep their total: right
        for samples that lie evenly in a parent's support, an estimate for others. A
        penalty ``sum Omega (c - c*)^2`` stays for drifts that all coefficients share.
        """
        size = self.matrix.abs()
        return self._apply(size / size.sum(-2, keepdim=True), old)

    def _apply(self, matrix: Tensor, old: Tensor) -> Tensor:
        new = torch.einsum(
            "inm,im...->in...", matrix.to(old.device), old.to(matrix.dtype)
        )
        return new.to(old.dtype).contiguous()


def refinement(knots: Tensor, degree: int, factor: int, outside: Outside) -> Insertion:
    """Split every cell into ``factor`` equal ones.

    With ``outside="zero"`` the cells where the function fades out as well:
    ``factor*(grid_size + 2*degree) - 2*degree`` intervals; else ``factor*grid_size``.

    Raises: ValueError if ``factor`` is below 1, or repeated knots leave features with
        unequal numbers of cells.
    """
    if factor < 1:
        raise ValueError(f"factor must be 1 or more, got {factor}")
    old, uniform = _in_use(knots, degree)
    inner = old if outside == "zero" else _proper(old, degree)
    share = torch.arange(factor, dtype=old.dtype, device=old.device) / factor
    starts, widths = inner[:, :-1, None], inner.diff(dim=1)[..., None]
    split = starts + share * widths  # (in_features, n_cells, factor)
    # Repeated knots stay as they are.
    is_knot = ((widths > 0) | (share == 0)).flatten(1)
    if bool((is_knot.sum(1) != is_knot[0].sum()).any()):
        raise ValueError(
            "features must have equally many cells that are not empty, got "
            f"{(inner.diff(dim=1) > 0).sum(1).unique().tolist()}"
        )
    new = split.flatten(1)[is_knot].view(len(old), -1)
    new = torch.cat([new, inner[:, -1:]], dim=1)
    if outside != "zero":  # whatever lies beyond decides nothing
        new = _with_outer_cells(new, degree, degree)
    return _insertion(old, new, degree, outside, None if uniform else knots.dtype)


def growth(
    knots: Tensor, degree: int, n_left: int, n_right: int, outside: Outside
) -> Insertion:
    """Add cells to the grid, as wide as those at its ends.

    Args:
        n_left, n_right: how many on either side.
    Raises: ValueError if a count is negative.
    """
    if min(n_left, n_right) < 0:
        raise ValueError(f"cells are added only, got {n_left} and {n_right}")
    old, uniform = _in_use(knots, degree)
    smoothness = {"zero": degree - 1, "clamp": 0, "linear": 1}[outside]
    folds = max(1, degree - smoothness)  # knots needed at an end that becomes inner
    even = uniform and folds == 1
    if outside == "zero" or even:
        new = _with_outer_cells(old, n_left, n_right)
    else:
        counts = n_left + degree, n_right + degree
        repeats = (folds - 1) * (n_left > 0), (folds - 1) * (n_right > 0)
        new = _with_outer_cells(_proper(old, degree), *counts, repeats)
    return _insertion(old, new, degree, outside, None if even else knots.dtype)


def _insertion(
    old: Tensor, new: Tensor, degree: int, outside: Outside, dtype: torch.dtype | None
) -> Insertion:
    """To knots rounded as the layer's dtype does, or, without one, spaced evenly."""
    new = _evenly(new, degree) if dtype is None else new.to(dtype).double()
    return Insertion(new, insertion_matrix(old, new, degree, outside))


def cells_to_reach(
    knots: Tensor, degree: int, low: float, high: float, outside: Outside
) -> tuple[int, int]:
    """How many cells ``growth`` must add so that every feature's grid covers a range."""
    old, _ = _in_use(knots, degree)
    # With "zero" the knots beyond the end are in use: growth goes through them first.
    first = 0 if outside == "zero" else degree

    def below(knots: Tensor, low: float) -> int:
        passed = (knots[:, first : degree + 1] > low + 1e-9).sum(1)
        width = knots[:, first + 1] - knots[:, first]
        further = ((knots[:, first] - low) / width - 1e-9).ceil()
        n = torch.where(knots[:, first] > low, further + degree - first, passed)
        return max(0, int(n.max()))

    return below(old, low), below(-old.flip(1), -high)


def insertion_matrix(
    old: Tensor, new: Tensor, degree: int, outside: Outside = "zero"
) -> Tensor:
    """The matrix that takes coefficients on ``old`` knots to those on ``new`` ones.

    ``T_j = blossom of the old function's piece in the support of basis j, at the
    knots t_{j+1} .. t_{j+degree}``.

    Args:
        old, new: extended knot vectors; knots may be repeated inside.
        outside: what the function does beyond its grid, before and after.
    Shape: ``(in_features, n_old_knots)``, ``(in_features, n_new_knots)`` ->
        ``(in_features, n_new, n_old)``, or 1 if all features agree, float64.
    Raises: ValueError if no coefficients on ``new`` give the same function.
    """
    if len(old) > 1 and all(bool((knots == knots[0]).all()) for knots in (old, new)):
        old, new = old[:1], new[:1]
    old, new = old.double(), new.double()
    rounding = 1e-12 * (old[:, -1:] - old[:, :1])
    kept, reach = (
        knots if outside == "zero" else _proper(knots, degree) for knots in (old, new)
    )
    low, high = kept[:, :1], kept[:, -1:]
    if bool(
        ((reach[:, :1] > low + rounding) | (reach[:, -1:] < high - rounding)).any()
    ):
        raise ValueError(
            f"with outside={outside!r} the new knots must reach from "
            f"{float(low.min())} to {float(high.max())} at least"
        )
    after = torch.searchsorted(new, kept.contiguous()).clamp(1, new.shape[1] - 1)
    gaps = ((new.gather(1, near) - kept).abs() for near in (after, after - 1))
    distance = torch.minimum(*gaps)
    if bool((distance > rounding).any()):
        raise ValueError(
            "every old knot must be among the new ones, for a spline may break there; "
            f"the farthest is {float(distance.max())} away from the next"
        )
    matrix, from_first, from_last = (
        _blossoms(old, new, degree, outside, at) for at in _pieces(new, degree, outside)
    )
    difference = float((from_first - from_last).abs().max())
    if difference > TOLERANCE * max(1.0, float(matrix.abs().max())):
        raise ValueError(
            f"the function on the old knots is less smooth (blossoms differ by "
            f"{difference:.1e}) than the new knots allow: repeat the knot where it "
            f"breaks, up to degree={degree} times"
        )
    return matrix


def _pieces(new: Tensor, degree: int, outside: Outside) -> tuple[Tensor, ...]:
    """A piece amid, the first and the last in each basis's support, by their middles.

    Of new cells that are not empty and where splines decide: ``(in_features, n_new)``.
    """
    n_cells = new.shape[1] - 1
    cell = torch.arange(n_cells, device=new.device)
    rounding = 1e-12 * (new[:, -1:] - new[:, :1])
    valid = new.diff(dim=1) > rounding  # (in_features, n_cells)
    if outside != "zero":
        valid = valid & (cell >= degree) & (cell < n_cells - degree)
    number = valid.long().cumsum(1)  # valid cells up to and including this one
    first = pad(number, (1, 0))[:, : n_cells - degree]
    last = number[:, degree:] - 1
    if bool((last < first).any()):
        raise ValueError(f"a knot is repeated more than degree={degree} times")
    order = torch.argsort((~valid).long(), dim=1, stable=True)
    middles = ((new[:, :-1] + new[:, 1:]) / 2).gather(1, order)
    pieces = (first + last) // 2, first, last
    return tuple(middles.gather(1, piece) for piece in pieces)


def _blossoms(
    old: Tensor, new: Tensor, degree: int, outside: Outside, at: Tensor
) -> Tensor:
    """``T`` from the pieces of the old function at ``at``, ``(in_features, n_new)``."""
    n_old = old.shape[1] - 1 - degree
    inside = new[:, 1:-1].unfold(1, degree, 1)  # (in_features, n_new, degree)
    if outside != "zero":
        low, high = (end.unsqueeze(1) for end in grid_ends(old, degree))
        for end, beyond in ((low, at < low), (high, at > high)):
            # There the function is a constant or a line; both have blossoms that are
            # those of the end piece, at other arguments.
            line = end.unsqueeze(-1).repeat(1, at.shape[1], degree)
            if outside == "linear":
                line[..., -1] += degree * (inside.mean(-1) - end)
            inside = torch.where(beyond.unsqueeze(-1), line, inside)
        inner = _proper(old, degree)
        middles = (inner[:, :-1] + inner[:, 1:]) / 2
        at = at.clamp(middles[:, :1], middles[:, -1:])
    # Zero coefficients beyond the ends make the fading pieces like all others.
    padded = _with_outer_cells(old, degree, degree)
    cell = torch.searchsorted(padded.contiguous(), at.contiguous(), right=True) - 1
    known = (cell >= degree) & (cell < padded.shape[1] - 1 - degree)
    cell = cell.clamp(degree, padded.shape[1] - 2 - degree)
    weights = _blossom_weights(padded, degree, cell, inside)
    weights = weights * known.unsqueeze(-1)
    columns = cell.unsqueeze(-1) + torch.arange(-degree, 1, device=old.device)
    matrix = old.new_zeros(*at.shape, n_old + 2 * degree)
    matrix.scatter_(-1, columns, weights)
    return matrix[..., degree : degree + n_old]


def _blossom_weights(
    knots: Tensor, degree: int, cell: Tensor, arguments: Tensor
) -> Tensor:
    """Weights of coefficients ``cell - degree .. cell`` in a piece's blossom.

    The bases' recursion, with another of the ``degree`` arguments in each round.
    """
    weights = torch.ones_like(arguments[..., :1])
    for k in range(1, degree + 1):
        slot = torch.arange(k, device=knots.device)
        index = cell.unsqueeze(-1) + slot + 1  # (in_features, n, k)
        stop = knots.gather(1, index.flatten(1)).view(index.shape)
        start = knots.gather(1, (index - k).flatten(1)).view(index.shape)
        rising = (arguments[..., k - 1 : k] - start) / (stop - start) * weights
        weights = pad(weights - rising, (0, 1)) + pad(rising, (1, 0))
    return weights


def _proper(knots: Tensor, degree: int) -> Tensor:
    """Knots of the grid proper, ends included."""
    return knots[:, degree : knots.shape[1] - degree]


def _with_outer_cells(
    knots: Tensor, n_left: int, n_right: int, repeats: tuple[int, int] = (0, 0)
) -> Tensor:
    """Go on on either side as far apart as at the ends, after repeating these."""
    count = torch.arange(1, max(n_left, n_right) + 1, device=knots.device)
    first, last = knots[:, 1:2] - knots[:, :1], knots[:, -1:] - knots[:, -2:-1]
    low, high = knots[:, :1], knots[:, -1:]
    left = low - count[:n_left].flip(0) * first
    right = high + count[:n_right] * last
    lows, highs = low.expand(-1, repeats[0]), high.expand(-1, repeats[1])
    return torch.cat([left, lows, knots, highs, right], dim=1)


def _in_use(knots: Tensor, degree: int) -> tuple[Tensor, bool]:
    """Knots in float64, free of their dtype's rounding if uniform; whether they are."""
    uniform = is_uniform(knots, degree)
    return _evenly(knots.double(), degree) if uniform else knots.double(), uniform


def _evenly(knots: Tensor, degree: int) -> Tensor:
    """Knots that are equally spaced up to rounding, as a layer takes them."""
    low, high = grid_ends(knots, degree)
    return uniform_knots(low, high, knots.shape[1] - 1 - 2 * degree, degree)
