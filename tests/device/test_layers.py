"""Each way to sum splines on a device: exact, differentiable, the same twice."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from kancl.bench.device_steps import layer_sizes, why_not_triton
from kancl.models import KAN, KANLinear
from kancl.splines import UniformGrid, dense_spline_sum, fused_spline_sum

TOLERANCE = 1e-5
"""Largest error of outputs and gradients in float32, relative to the largest entry."""

# NumPy speaks up where Triton's interpreter computes with NaN and inf; a GPU doesn't.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
implementations = pytest.mark.parametrize("name", ["dense", "triton"])


def skip_without_triton(name: str, device: str, degree: int = 3) -> None:
    if name == "triton" and (why := why_not_triton(device, degree)):
        pytest.skip(why)


@implementations
@pytest.mark.parametrize("degree", [1, 3, 5])
def test_outputs_and_gradients_are_those_of_float64_on_the_cpu(
    name: str, degree: int, device: str, small: bool
) -> None:
    skip_without_triton(name, device, degree)
    # A layer at a time: a fine grid in the next one would blow up the rounding of
    # hidden values, which is no fault.
    layers = ([3, 2],) if small else ([784, 64], [64, 10])
    sizes = (5,) if small else (5, 20, 64, 256)
    policies = itertools.cycle([("zero", None), ("linear", -1.0)])
    for layer in layers:
        for size, (outside, anchor) in zip(sizes, policies):
            torch.manual_seed(0)
            build = partial(
                KAN,
                layer,
                grid_size=size,
                spline_order=degree,
                outside=outside,
                input_anchor=anchor,
            )
            exact = build(implementation="dense").double()
            x = torch.empty(8 if small else 200, layer[0]).uniform_(-1.3, 1.3)
            x[0, :3] = torch.tensor([-1.0, 0.0, 1.0])
            single = build(implementation=name)
            single.load_state_dict(exact.state_dict())
            ours = outputs_and_gradients(single.to(device), x)
            theirs = outputs_and_gradients(exact, x.double())
            assert max(map(relative_error, ours, theirs)) <= TOLERANCE


def outputs_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.to(next(model.parameters()).device).requires_grad_()
    output = model(x)
    weights = torch.linspace(0, 1, output.numel(), dtype=x.dtype, device=x.device)
    loss = (output * weights.view_as(output)).sum()
    return [output, *torch.autograd.grad(loss, [x, *model.parameters()])]


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Largest difference, as a share of the largest entry."""
    ours, exact = ours.detach().cpu().double(), exact.detach().cpu().double()
    return float((ours - exact).abs().max() / exact.abs().max().clamp_min(1e-30))


@implementations
@pytest.mark.parametrize(
    "check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck]
)
def test_derivatives_hold_by_finite_differences(
    check, name: str, device: str, small: bool
) -> None:
    skip_without_triton(name, device)
    shapes = ((2, 1), (1, 7, 1), (1, 1)) if small else ((4, 3), (3, 7, 2), (3, 2))
    low = -torch.ones(shapes[1][0], device=device)
    grid = UniformGrid(low, -low, 4, 3, "linear", low / 2)
    path = {"dense": dense_spline_sum, "triton": fused_spline_sum}[name]
    torch.manual_seed(0)
    inputs = [
        (torch.rand(shape, dtype=torch.float64) * 2.4 - 1.2).to(device)
        for shape in shapes
    ]
    for tensor in inputs:
        tensor.requires_grad_()
    assert check(partial(path, grid=grid), inputs, fast_mode=True)


@implementations
def test_equal_inputs_give_equal_bits(name: str, device: str, small: bool) -> None:
    skip_without_triton(name, device)
    sizes = layer_sizes(small)
    model = KAN(sizes, implementation=name).to(device)
    x = torch.rand(4 if small else 500, sizes[0])
    once, again = (outputs_and_gradients(model, x.clone()) for _ in range(2))
    assert all(map(torch.equal, once, again))


@implementations
def test_nan_propagates_and_infinity_is_far_off(name: str, device: str) -> None:
    skip_without_triton(name, device)
    layer = KANLinear(2, 3, implementation=name, base=False).to(device)
    rows = [[0.5, 0.1], [0.5, math.nan], [0.5, math.inf]]
    y = layer(torch.tensor(rows, device=device))
    far = layer(torch.tensor([[0.5, 99.0]], device=device))
    assert y[0].isfinite().all() and y[1].isnan().all()
    assert relative_error(y[2:], far) <= TOLERANCE
