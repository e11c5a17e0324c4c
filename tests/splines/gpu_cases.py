"""What the fused path has to be equal to; run by ``test_gpu.py``, in a process apart.

On a CUDA device if there is one, else in Triton's interpreter, which ``TRITON_INTERPRET``
must choose before Triton is imported. The dense path is the oracle, in float64.
"""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from kancl import KANLinear
from kancl.splines import (
    UniformGrid,
    dense_spline_sum,
    fused_spline_sum,
    gpu,
    uniform_knots,
)
from kancl.splines.uniform import grid_basis

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCE = {torch.float32: 4e-6, torch.float64: 4e-12}
POLICIES = ["zero", "clamp", "linear"]


def pairs(first: list[Any], second: list[Any], few: list[tuple[Any, Any]]) -> list[Any]:
    """All of them; those that are not among a ``few`` wait for the proof, or for a GPU."""
    marks = [pytest.mark.proof] if DEVICE == "cpu" else []
    return [
        pytest.param(*pair, marks=() if pair in few else marks)
        for pair in itertools.product(first, second)
    ]


# NumPy speaks up where the interpreter computes with NaN and inf; a GPU doesn't.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def case(
    dtype: torch.dtype,
    size: int,
    degree: int,
    outside: str,
    anchored: bool,
    batch: int = 23,
    n_in: int = 2,
) -> tuple[Tensor, UniformGrid]:
    """Samples on and off grids that differ between features, many at ends and knots."""
    low = torch.linspace(-3, 100, n_in, dtype=dtype)
    high = low + torch.linspace(0.5, 2, n_in, dtype=dtype)
    x = (low + (torch.rand(batch, n_in, dtype=dtype) * 2 - 0.5) * (high - low)).to(
        dtype
    )
    knots = uniform_knots(low, high, size, degree).to(dtype).T
    x[: len(knots[:9])] = knots[:9][:batch]
    x[9:11] = torch.stack([low, high])[: len(x[9:11])]
    anchor = low + 0.3 * (high - low) if anchored else None
    if anchor is not None:
        x[11:20:2] = anchor
        anchor = anchor.to(DEVICE)
    ends = low.to(DEVICE), high.to(DEVICE)
    return x.to(DEVICE), UniformGrid(*ends, size, degree, outside, anchor)  # type: ignore


def relative_error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    scale = expected.abs().max() if expected.numel() else expected.new_ones(())
    return float(
        (found - expected).abs().sum() and (found - expected).abs().max() / scale
    )


def check(
    x: Tensor,
    coefficients: Tensor,
    scale: Tensor | None,
    grid: UniformGrid,
    tolerance: float,
    base: bool = False,
) -> None:
    """Output and all gradients against the dense path in float64.

    Args:
        base: whether there is a branch with SiLU as well.
    """
    n_in, _, n_out = coefficients.shape
    weight = torch.randn(len(x), n_out, dtype=coefficients.dtype)
    inputs = {"x": x, "coefficients": coefficients}
    if scale is not None:
        inputs["scale"] = scale
    if base:
        inputs["base"] = torch.randn(n_out, n_in, device=DEVICE).to(coefficients.dtype)
    results = []
    for exact in (True, False):
        leaves = {
            name: t.detach().to(torch.float64 if exact else t.dtype).clone()
            for name, t in inputs.items()
        }
        for leaf in leaves.values():
            leaf.requires_grad_()
        given = leaves["x"], leaves["coefficients"], leaves.get("scale"), grid
        if exact:
            y = dense_spline_sum(*given)
            y = y + silu(leaves["x"]) @ leaves["base"].T if base else y
        else:
            y = fused_spline_sum(*given, leaves.get("base"))
        grads = torch.autograd.grad(y, list(leaves.values()), weight.to(y))
        results.append([y, *grads])
    alike = [coefficients, *inputs.values()]
    for found, expected, like in zip(results[1], results[0], alike):
        assert found.dtype == like.dtype
        assert found.shape == expected.shape
        assert relative_error(found, expected) < tolerance


@pytest.mark.parametrize(
    "degree, outside",
    pairs([1, 2, 3], POLICIES, few=[(1, "clamp"), (2, "linear"), (3, "zero")]),
)
def test_outputs_and_gradients_are_those_of_the_dense_path(
    outside: str, degree: int
) -> None:
    kinds = list(itertools.product((False, True), TOLERANCE))
    if DEVICE == "cpu":  # the interpreter is slow
        kinds = [kinds[(degree + POLICIES.index(outside)) % 4]]
    for anchored, dtype in kinds:
        size, n_out = (5, 10) if anchored else (15, 17)
        x, grid = case(dtype, size, degree, outside, anchored)
        n_in = x.shape[1]
        coefficients = torch.randn(n_in, size + degree, n_out, device=DEVICE).to(dtype)
        scale = torch.randn(n_in, n_out, device=DEVICE).to(dtype) if anchored else None
        check(x, coefficients, scale, grid, TOLERANCE[dtype], base=True)


@pytest.mark.parametrize(
    "batch, n_in, n_out, size", [(1, 1, 1, 1), (33, 2, 33, 2), (3, 2, 16, 40)]
)
def test_sizes_that_fill_no_block(batch: int, n_in: int, n_out: int, size: int) -> None:
    x, grid = case(torch.float64, size, 3, "linear", True, batch, n_in)
    coefficients = torch.randn(n_in, size + 3, n_out, device=DEVICE).double()
    scale = torch.randn(n_in, n_out, device=DEVICE).double()
    check(x, coefficients, scale, grid, 4e-12, base=True)


@pytest.mark.parametrize("size", [12, 13, 14])
def test_silu_has_its_row_in_whatever_block_of_bases(size: int) -> None:
    x, grid = case(torch.float64, size, 3, "zero", False, 7)  # 15, 16, 17 bases
    coefficients = torch.randn(2, size + 3, 6, device=DEVICE).double()
    check(x, coefficients, None, grid, 4e-12, base=True)


@pytest.mark.parametrize(
    "anchored, outside",
    pairs(
        [False, True],
        POLICIES,
        few=[(False, "zero"), (True, "linear"), (True, "clamp")],
    ),
)
def test_idle_bases_are_those_that_are_0_everywhere(
    outside: str, anchored: bool
) -> None:
    for degree, size in ((1, 1), (3, 20)):
        x, grid = case(torch.float32, size, degree, outside, anchored, 12)
        for rows in (x[:1], x[9:], x):
            idle = gpu.idle_bases(gpu.prepare(rows, grid), size + degree, torch.float32)
            assert torch.equal(idle, (grid_basis(rows, grid) == 0).all(0))


def test_inputs_that_are_summed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "PROGRAMS", 4)
    x, grid = case(torch.float32, 5, 3, "zero", False, 5, 17)
    for dtype in (torch.float32, torch.bfloat16):
        coefficients = torch.randn(17, 8, 10, device=DEVICE).to(dtype)
        y = fused_spline_sum(x, coefficients, None, grid)
        expected = dense_spline_sum(x.double(), coefficients.double(), None, grid)
        assert y.dtype == dtype
        tolerance = 4e-6 if dtype == torch.float32 else 2**-8
        assert relative_error(y, expected) < tolerance


def test_half_precision_keeps_place_and_sums_in_float32() -> None:
    x, grid = case(torch.float32, 20, 3, "linear", False, 9)
    coefficients = torch.randn(2, 23, 12, device=DEVICE).bfloat16()
    check(x, coefficients, None, grid, 2**-7)
    check(x.bfloat16(), coefficients.float(), None, grid, 2**-7)


def test_coordinates_of_a_warp_are_float64() -> None:
    x, grid = case(torch.float32, 12, 3, "clamp", True)
    coefficients = torch.randn(2, 15, 12, device=DEVICE)
    check(x.double(), coefficients, None, grid, 4e-6)


def test_an_empty_batch() -> None:
    x, grid = case(torch.float32, 5, 3, "zero", True, 0)
    check(x, torch.randn(2, 8, 6, device=DEVICE), torch.ones(2, 6).to(x), grid, 0.1)
    coefficients = torch.ones(2, 8, 6, device=DEVICE, requires_grad=True)
    fused_spline_sum(x, coefficients, None, grid).sum().backward()
    assert coefficients.grad is not None and not bool(coefficients.grad.any())


@pytest.mark.parametrize("outside", POLICIES)
def test_nothing_is_learned_at_the_anchor(outside: str) -> None:
    _, grid = case(torch.float32, 5, 3, outside, True)
    assert grid.anchor is not None
    x = grid.anchor.repeat(7, 1)
    coefficients = torch.randn(2, 8, 20, device=DEVICE, requires_grad=True)
    scale = torch.randn(2, 20, device=DEVICE, requires_grad=True)
    y = fused_spline_sum(x, coefficients, scale, grid)
    y.backward(torch.randn(7, 20, device=DEVICE))
    # Exactly: Adam would blow up any rounding error to full steps.
    for tensor in (y, coefficients.grad, scale.grad):
        assert not bool(tensor.any())


@pytest.mark.parametrize(
    "value, outside",
    pairs(
        [3.4e38, -3.4e38, 1e-45, -1e-45, 1e-39, -0.0, 2.0**31, 1e12],
        POLICIES,
        few=[(-3.4e38, "linear"), (3.4e38, "zero"), (1e-45, "zero"), (1e12, "clamp")],
    ),
)
def test_hostile_values(value: float, outside: str) -> None:
    low, high = torch.tensor([0.0, -1.0]), torch.tensor([1.0, 1.0])
    grid = UniformGrid(low.to(DEVICE), high.to(DEVICE), 5, 3, outside)  # type: ignore
    coefficients = torch.rand(2, 8, 16, device=DEVICE)
    x = torch.tensor([[0.5, value], [value, 0.2]], device=DEVICE)
    expected = dense_spline_sum(x.double(), coefficients.double(), None, grid)
    y = fused_spline_sum(x, coefficients, None, grid)
    assert bool(y.isfinite().all()) == bool(expected.float().isfinite().all())
    if bool(y.isfinite().all()):
        assert relative_error(y, expected) < 1e-5


@pytest.mark.parametrize(
    "value, outside",
    pairs(
        [math.nan, math.inf, -math.inf],
        POLICIES,
        few=[(math.nan, "clamp"), (math.inf, "linear"), (-math.inf, "zero")],
    ),
)
def test_nan_propagates_and_infinity_is_far_outside(value: float, outside: str) -> None:
    low, high = torch.zeros(2, device=DEVICE), torch.ones(2, device=DEVICE)
    grid = UniformGrid(low, high, 5, 3, outside)  # type: ignore[arg-type]
    x = torch.tensor([[0.5, 0.1], [0.5, value]], device=DEVICE)
    coefficients = torch.rand(2, 8, 16, device=DEVICE, requires_grad=True)
    y = fused_spline_sum(x, coefficients, None, grid)
    if value != value or outside == "linear":
        assert bool(y[0].isfinite().all()) and not bool(y[1].isfinite().any())
    else:
        far = x.clamp(-9, 9)
        expected = dense_spline_sum(far.double(), coefficients.double(), None, grid)
        torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=0)


def test_second_derivatives() -> None:
    x, grid = case(torch.float64, 5, 3, "linear", False, 4)
    shapes = (2, 8, 2), (2, 2), (2, 2)
    splines = [
        torch.randn(shape, device=DEVICE, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    inputs = [x.requires_grad_(), *splines]
    found = []
    for exact in (True, False):
        *given, base = inputs
        if exact:
            y = dense_spline_sum(*given, grid) + silu(x) @ base.T
        else:
            y = fused_spline_sum(*given, grid, base)
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        size = torch.stack([g.square().sum() for g in first]).sum()
        found.append(torch.autograd.grad(size, inputs))
    for ours, theirs in zip(found[1], found[0]):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_layer_equals_the_dense_one_warped_too() -> None:
    for warp in (False, True):
        results = []
        for name in ("dense", "triton"):
            torch.manual_seed(1)
            layer = KANLinear(
                2, 20, 9, anchor=0.25, implementation=name, outside="linear"
            )  # type: ignore[call-arg]
            if warp:
                layer.warp_grid(torch.rand(500, 2) ** 3 - 0.3)
            x = (torch.rand(30, 2) * 3 - 1.5).to(DEVICE).requires_grad_()
            y = layer.to(DEVICE)(x)
            results.append([y, *torch.autograd.grad(y.sum(), [x, *layer.parameters()])])
        for found, expected in zip(results[1], results[0]):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_activation_with_a_hook_is_called() -> None:
    x, outputs = torch.rand(6, 3, device=DEVICE), []
    for name in ("dense", "triton"):
        torch.manual_seed(0)
        layer = KANLinear(3, 4, implementation=name).to(DEVICE)  # type: ignore[arg-type]
        hook = layer.base_activation.register_forward_hook(lambda *given: 2 * given[2])
        outputs.append(layer(x))
        hook.remove()
        assert relative_error(layer(x), outputs[-1]) > 1e-3
    torch.testing.assert_close(*outputs)


def test_transforms_take_the_dense_path() -> None:
    layer = KANLinear(3, 4, implementation="triton").to(DEVICE)
    x = torch.rand(6, 5, 3, device=DEVICE)
    torch.testing.assert_close(torch.func.vmap(layer)(x), layer(x))
