"""Finer and wider grids for a layer in training, its function unchanged."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from kancl.models.kan_linear import KANLinear
from kancl.splines import (
    Insertion,
    cells_to_reach,
    growth,
    refinement,
    resizing,
    uniform_knots,
)

# What torch's optimizers call their state. A mean of the parents keeps a sign, as of the
# last gradient in Rprop, and a size, as of its steps.
MOVES = {"exp_avg", "momentum_buffer", "grad_avg", "ax"}
MEANS = {"exp_avg_sq", "max_exp_avg_sq", "exp_inf", "square_avg", "sum", "acc_delta"}
MEANS |= {"prev", "step_size", "row_var"}


def refine(
    layer: KANLinear, factor: int = 2, optimizer: Optimizer | None = None
) -> Insertion:
    """Split every cell of the grid into ``factor`` equal ones, in place.

    The layer's function stays what it was everywhere; the splines' fading beyond the
    grid (``outside="zero"``) is kept by a wider grid. The parameter stays the same object.

    Args:
        optimizer: has its state of the coefficients carried along.
    Returns: the map, for whatever else belongs to the coefficients: ``values`` for past
        coefficients, ``shares`` for occupancies and importances.
    Raises: ValueError if ``factor`` is below 1, for an optimizer's state that has no
        rule, or if the coefficients are pruned, reparametrized or sharded.
    """
    knots = layer.spline_grid.exact_knots()
    insertion = refinement(knots, layer.spline_order, factor, layer.outside)
    return _apply(layer, insertion, optimizer, factor)


@torch.no_grad()
def resize(
    layer: KANLinear, grid_size: int, optimizer: Optimizer | None = None
) -> Insertion:
    """Give a layer a finer or coarser grid over the same range, in place; see ``resizing``.

    Where ``grid_size`` is a multiple of the layer's, its function stays what it was on the
    grid (3 -> 6 -> 12); else it is the nearest one (3 -> 5, 5 -> 3), and the returned
    ``error`` says how near. Beyond the grid ``outside="zero"`` fades within cells of the
    new width. The parameter stays the same object.

    Args, Returns: see ``refine``.
    Raises: ValueError where ``refine`` does.
    """
    old = layer.spline_grid
    weights = layer.scaled_coefficients.permute(2, 0, 1)
    insertion = resizing(old, grid_size, weights)
    return _apply(layer, insertion, optimizer, grid_size / old.size)


def grow(
    layer: KANLinear, low: float, high: float, optimizer: Optimizer | None = None
) -> Insertion:
    """Add cells until every feature's grid covers ``[low, high]``, in place.

    Cells are as wide as those at the ends. The layer's function stays what it was
    everywhere. Uniform grids stay uniform, hence fast, but for policies whose kink at the
    old end needs a repeated knot: ``clamp`` above degree 1, ``linear`` above degree 2.

    Args, Returns: see ``refine``.
    Raises: ValueError where ``refine`` does, and for a warped grid.
    """
    if layer.warp is not None:
        raise ValueError(
            "a warp ends with its grid, so a warped grid can't grow: give it the whole "
            "range from the start (grid_range), or don't warp it"
        )
    degree, outside = layer.spline_order, layer.outside
    knots = layer.spline_grid.exact_knots()
    n_left, n_right = cells_to_reach(knots, degree, low, high, outside)
    insertion = growth(knots, degree, n_left, n_right, outside)
    return _apply(layer, insertion, optimizer)


@torch.no_grad()
def _apply(
    layer: KANLinear,
    insertion: Insertion,
    optimizer: Optimizer | None,
    factor: float = 1,
) -> Insertion:
    layer.check_grid_may_change()
    coefficients, old = layer.coefficients, layer.spline_grid
    carried = _carried_state(coefficients, insertion, optimizer)
    state = layer.state_dict()
    state["coefficients"] = insertion.values(coefficients)
    state["grid"] = insertion.knots.to(layer.grid.dtype)
    if layer.warp is not None:
        # The grid's ends stay where they are: `zero` has cells beyond them now.
        grid_size = state["coefficients"].shape[1] - old.degree
        state["warp"] = factor * layer.warp + (grid_size - factor * old.size) / 2
        ends = old.low.double(), old.high.double()
        state["grid"] = uniform_knots(*ends, grid_size, old.degree)
    resized = state["coefficients"].shape != coefficients.shape
    layer.load_state_dict(state)
    if resized:
        coefficients.grad = None
    if optimizer is not None and carried:
        optimizer.state[coefficients].update(carried)
    if isinstance(optimizer, torch.optim.LBFGS):
        # Its history is of all gradients in one row: the next step begins a new one.
        optimizer.state.clear()
        optimizer._numel_cache = None
    return insertion


def _carried_state(
    coefficients: Tensor, insertion: Insertion, optimizer: Optimizer | None
) -> dict[str, Tensor]:
    """The new state of the coefficients; other state (a count of steps) stays."""
    state = {} if optimizer is None else optimizer.state.get(coefficients, {})
    rules = dict.fromkeys(MOVES, insertion.values)
    rules |= dict.fromkeys(MEANS, insertion.second_moments)
    carried = {}
    for key, value in state.items():
        if not isinstance(value, Tensor) or value.shape[:2] != coefficients.shape[:2]:
            continue
        if key not in rules:
            raise ValueError(
                f"optimizer state {key!r} of {type(optimizer).__name__} has no rule for "
                f"a changed grid; known are {', '.join(sorted(rules))}. Empty the "
                "optimizer's state first (optimizer.state.clear())"
            )
        carried[key] = rules[key](value)
    return carried
