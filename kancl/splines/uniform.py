"""B-spline bases on equally spaced knots, in closed form: the fast path.

Every basis function is one cardinal B-spline ``M_d``, shifted. At a point the cell comes
from ``floor``, the ``degree + 1`` values from sums of truncated powers of the *local*
coordinate, at most ``(d+1)/2`` of them, so that nothing cancels however fine the grid.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import comb, factorial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from kancl.splines import modes
from kancl.splines.basis import Outside, anchored, nearest_inside

MANY_VALUES = 2**13  # above, memory traffic costs more than calls of operators
BLOCK = 2**15  # values at a time


@dataclass(frozen=True, eq=False)
class UniformGrid:
    """Equally spaced knots per feature, and what goes with them.

    Args:
        low, high: ends of the grid, ``(in_features,)``.
        size: intervals; ``size + degree`` bases.
        outside, anchor: see ``Grid``.
        constants: what was worked out once for the grid.
    """

    low: Tensor
    high: Tensor
    size: int
    degree: int
    outside: Outside = "zero"
    anchor: Tensor | None = None
    constants: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def cells(self) -> tuple[Tensor, Tensor]:
        """``low``, and the cells in a unit, in float64."""
        ends = self.low, self.high, self.size
        cells: tuple[Tensor, Tensor] = self.constant("cells", lambda: _cells(*ends))
        return cells

    def constant(self, name: Any, work_out: Callable[[], Any]) -> Any:
        """What ``work_out`` gives, kept unless it belongs to a graph or a transform."""
        if name in self.constants:
            return self.constants[name]
        tensors = self.low, self.high, self.anchor
        if (
            any(t is not None and t.requires_grad for t in tensors)
            or modes.graph()
            or modes.transforms()
            or modes.dispatch_modes()
        ):
            return work_out()
        with torch.inference_mode(False):  # of use outside as well
            self.constants[name] = work_out()
        return self.constants[name]


def grid_basis(x: Tensor, grid: UniformGrid) -> Tensor:
    """All bases of a grid at ``x``, less their values at its anchor; see ``Grid``."""
    options = *grid.cells, grid.size, grid.degree, grid.outside
    basis = _basis(x, *options)
    if grid.anchor is None:
        return basis
    anchor = grid.anchor.to(x.dtype)
    name = "basis at the anchor", x.dtype
    at_anchor = grid.constant(name, lambda: _basis(anchor.unsqueeze(0), *options))
    return anchored(basis, at_anchor, x == anchor)


def uniform_basis(
    x: Tensor,
    low: Tensor,
    high: Tensor,
    grid_size: int,
    degree: int,
    outside: Outside = "zero",
) -> Tensor:
    """All basis functions at ``x`` on a uniform grid over ``[low, high]``.

    Cell and local coordinate are float64, since ``(x - low)/h`` in float32 loses the
    digits that a fine grid needs; values at least float32. Derivatives of all orders are
    exact, at knots those from the right.

    Shape: ``(batch, in_features)`` -> ``(batch, in_features, grid_size + degree)``.
    """
    return _basis(x, *_cells(low, high, grid_size), grid_size, degree, outside)


def _cells(low: Tensor, high: Tensor, grid_size: int) -> tuple[Tensor, Tensor]:
    low = low.double().contiguous()
    return low, (grid_size / (high.double() - low)).contiguous()


def _basis(
    x: Tensor, low: Tensor, cells: Tensor, grid_size: int, degree: int, outside: Outside
) -> Tensor:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    # In cells: 0 at the grid's first knot, grid_size at its last.
    position = x.to(torch.float64, copy=True).sub_(low).mul_(cells)
    if outside == "zero":
        return _evaluate(position, grid_size, degree, 0, False, dtype)
    inside = nearest_inside(position, 0, grid_size)
    basis = _evaluate(inside, grid_size, degree, 0, True, dtype)
    if outside == "linear":
        slope = _evaluate(inside.detach(), grid_size, degree, 1, True, dtype)
        basis = basis + (position - inside).to(dtype).unsqueeze(-1) * slope
    return basis


def _evaluate(position: Tensor, *options: Any) -> Tensor:
    """``_DenseBasis``, or only its values where nobody can ask for a derivative."""
    if (
        torch.compiler.is_compiling()
        or (position.requires_grad and torch.is_grad_enabled())
        or modes.transforms()
    ):
        basis: Tensor = _DenseBasis.apply(position, *options)
        return basis
    return _dense(position, *options)


class _DenseBasis(Function):
    """A derivative of all bases by their position; its own derivative is the next one."""

    @staticmethod
    def forward(  # a compiler counts its arguments
        position: Tensor,
        grid_size: int,
        degree: int,
        derivative: int,
        closed: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        return _dense(position, grid_size, degree, derivative, closed, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        position, *ctx.options = inputs
        ctx.save_for_backward(position)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if not ctx.needs_input_grad[0]:
            return (None,) * 6
        (position,) = ctx.saved_tensors
        grid_size, degree, derivative, closed, dtype = ctx.options
        slope = _evaluate(position, grid_size, degree, derivative + 1, closed, dtype)
        along = (grad * slope).sum(-1)  # (batch, in_features)
        return along.to(position.dtype), *[None] * 5

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, ...], position: Tensor, *options: Any
    ) -> tuple[Tensor, int]:
        # Every value is on its own: one more batch dimension changes nothing.
        return _DenseBasis.apply(position.movedim(in_dims[0], 0), *options), 0


# `apply` looks the signature up each time, which costs more than small bases do.
_DenseBasis.forward.__signature__ = inspect.signature(  # type: ignore[attr-defined]
    _DenseBasis.forward
)


def _dense(
    position: Tensor,
    grid_size: int,
    degree: int,
    derivative: int,
    closed: bool,
    dtype: torch.dtype,
) -> Tensor:
    """The values of ``_DenseBasis``: those that are not 0, scattered into zeros.

    Args:
        position: in cells.
        closed: the last cell includes the grid's end, nothing lies beyond it.
    """
    n_basis = grid_size + degree
    flat = position.reshape(-1)  # (n_values,)
    basis = torch.zeros(flat.shape[0] * n_basis, dtype=dtype, device=position.device)
    options = grid_size, degree, derivative, closed
    if derivative > degree:
        pass
    elif not _is_many(flat):
        _scatter_values(basis, flat, options)
    else:  # a block at a time, whose temporaries stay in the cache
        blocks = flat.split(BLOCK), basis.split(BLOCK * n_basis)
        for block, part in zip(*blocks):
            _scatter_values(part, block, options)
    return basis.view(*position.shape, n_basis)


def _scatter_values(
    basis: Tensor, position: Tensor, options: tuple[int, int, int, bool]
) -> None:
    """Write the values that are not 0 into ``basis``, ``(n_values * n_basis,)``."""
    grid_size, degree, derivative, closed = options
    n_values, device = position.shape[0], position.device
    n_basis = grid_size + degree
    first = torch.arange(0, n_values * n_basis, n_basis, device=device)
    many = _is_many(position)
    if many and degree == 3 and derivative == 0 and _on_grid(position, grid_size):
        column = position.long().clamp_(max=grid_size - 1)
        local = (position - column).to(basis.dtype)
        column += first
        for slot, values in enumerate(_cubic_pieces(local)):
            basis.scatter_(0, column if slot == 0 else column.add_(1), values)
        return
    start = position.floor()
    cell = start.nan_to_num(0).clamp_(0, grid_size - 1)
    if derivative == degree:  # constant in a cell: take it from the middle
        position = (cell if closed else start) + 0.5
    # In [0, 1] on the grid, below 0 or above 1 outside of it.
    local = (position - cell).to(basis.dtype)
    column = cell.long().add_(first)
    # A value lives in bases cell + slot, slot = 0..degree.
    slots = torch.arange(degree + 1, device=device).unsqueeze(1)  # (degree + 1, 1)
    for some in slots.split(1) if many else [slots]:
        centred = local + ((degree - 1) / 2 - some).to(local.dtype)
        values = cardinal(centred, degree, derivative)
        basis.scatter_(0, (column + some).view(-1), values.view(-1))


def _is_many(position: Tensor) -> bool:
    """Whether memory traffic counts, on a CPU: a GPU is slowed by calls of operators."""
    if torch.compiler.is_compiling() or position.device.type != "cpu":
        return False
    return position.shape[0] > MANY_VALUES


def _on_grid(position: Tensor, grid_size: int) -> bool:
    """Whether no value is off the grid."""
    low, high = position.aminmax()
    return bool(low >= 0) and bool(high <= grid_size)  # False for NaN


def _cubic_pieces(u: Tensor) -> Iterator[Tensor]:
    """``(1-u)^3/6``, ``2/3 - u^2 (1 - u/2)``, these two mirrored; ``u`` in [0, 1]."""
    w = 1 - u
    yield (w * w).mul_(w).div_(6)
    yield (u * u).mul_(u * 0.5 - 1).add_(2 / 3)
    yield (w * w).mul_(w * 0.5 - 1).add_(2 / 3)
    yield (u * u).mul_(u).div_(6)


def cardinal(v: Tensor, degree: int, derivative: int = 0) -> Tensor:
    """The centred cardinal B-spline or, between knots, one of its derivatives.

    ``M_d(v) = 1/d! sum_k (-1)^k C(d+1,k) (r-k-|v|)_+^d``, with ``r = (d+1)/2`` half its
    support. Autograd does not reach through.

    Source: Schoenberg 1946, Quarterly of Applied Mathematics 4, 45-99.
    """
    distance = v.abs()
    power = degree - derivative
    total = None
    for k in range(degree // 2 + 1):
        reach = (degree + 1) / 2 - k
        if power:
            term = (reach - distance).clamp_(min=0).pow_(power)
        else:
            term = (distance < reach).to(v.dtype)
        factor = (-1) ** k * comb(degree + 1, k) / factorial(power)
        total = term.mul_(factor) if total is None else total.add_(term, alpha=factor)
    assert total is not None
    return total.mul_(v.sign().neg_()) if derivative % 2 else total


def second_moment(degree: int) -> float:
    """``E sum_g B_g(x)^2`` for ``x`` uniform on the grid: ``M_{2d+1}(0)``.

    2/3, 11/20, 151/315, ... for degree 1, 2, 3: the mean square of a spline with
    independent coefficients of variance 1.
    """
    middle = torch.zeros((), dtype=torch.float64, device="cpu")
    return float(cardinal(middle, 2 * degree + 1))
