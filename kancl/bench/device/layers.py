"""Each way to sum splines on the device: exact, differentiable, the same twice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from kancl.bench.device.report import Report
from kancl.models import KAN, KANLinear
from kancl.splines import (
    Implementation,
    UniformGrid,
    dense_spline_sum,
    fused_spline_sum,
    why_not_fused,
)

TOLERANCE = 1e-5
"""Largest error of outputs and gradients in float32, relative to the largest entry."""


def implementations(report: Report, degree: int = 3) -> list[Implementation]:
    """Those to check on this device: the fused one only where it runs."""
    found: list[Implementation] = ["dense"]
    why = why_not_triton(report, degree)
    if why is None:
        found.append("triton")
    return found


def why_not_triton(report: Report, degree: int = 3) -> str | None:
    """What keeps the fused path from this device."""
    why = why_not_fused(degree)
    if why is None and not report.cuda:
        grid = UniformGrid(torch.zeros(1), torch.ones(1), 1, 1)
        try:
            fused_spline_sum(torch.zeros(1, 1), torch.zeros(1, 2, 1), None, grid)
        except ValueError:
            return "needs CUDA, or TRITON_INTERPRET=1"
    return why


def check_equality(report: Report) -> None:
    """Outputs and gradients on the device against float64 on the CPU."""
    # A layer at a time: a fine grid in the next one would blow up the rounding of
    # hidden values, which is no fault.
    layers = ([3, 2],) if report.small else ([784, 64], [64, 10])
    sizes = (5,) if report.small else (5, 20, 64, 256)
    for degree in (1, 3, 5):
        for name in implementations(report, degree):
            errors = [
                _error(report, layer, size, degree, name, policy, anchored)
                for layer in layers
                for size, (policy, anchored) in zip(
                    sizes, itertools.cycle((("zero", False), ("linear", True)))
                )
            ]
            report.add(
                f"equality with CPU float64, {name}, degree {degree}",
                f"largest relative error {max(errors):.1e} "
                f"(G {', '.join(map(str, sizes))})",
                f"<= {TOLERANCE:.0e}",
                max(errors) <= TOLERANCE,
            )
    if (why := why_not_triton(report)) is not None:
        report.not_run("equality with CPU float64, triton", why, f"<= {TOLERANCE:.0e}")


def _error(
    report: Report,
    layer: list[int],
    size: int,
    degree: int,
    name: Implementation,
    policy: str,
    anchored: bool,
) -> float:
    torch.manual_seed(0)
    options = dict(
        grid_size=size,
        spline_order=degree,
        outside=policy,
        input_anchor=-1.0 if anchored else None,
    )
    exact = KAN(layer, implementation="dense", **options).double()  # type: ignore
    x = torch.empty(8 if report.small else 200, layer[0]).uniform_(-1.3, 1.3)
    x[0, :3] = torch.tensor([-1.0, 0.0, 1.0])
    single = KAN(layer, implementation=name, **options)  # type: ignore[arg-type]
    single.load_state_dict(exact.state_dict())
    ours = _outputs_and_gradients(single.to(report.device), x)
    theirs = _outputs_and_gradients(exact, x.double())
    return max(map(relative_error, ours, theirs))


def _outputs_and_gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    x = x.to(next(model.parameters()).device).requires_grad_()
    output = model(x)
    weights = torch.linspace(0, 1, output.numel(), dtype=x.dtype, device=x.device)
    loss = (output * weights.view_as(output)).sum()
    return [output, *torch.autograd.grad(loss, [x, *model.parameters()])]


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """Largest difference, of the largest entry."""
    ours, exact = ours.detach().cpu().double(), exact.detach().cpu().double()
    return float((ours - exact).abs().max() / exact.abs().max().clamp_min(1e-30))


def check_gradients(report: Report) -> None:
    """First and second derivatives by finite differences, on the device."""
    shapes = ((4, 3), (3, 7, 2), (3, 2))
    if report.small:
        shapes = ((2, 1), (1, 7, 1), (1, 1))
    low = -torch.ones(shapes[1][0], device=report.device)
    grid = UniformGrid(low, -low, 4, 3, "linear", low / 2)
    paths = {"dense": dense_spline_sum, "triton": fused_spline_sum}
    for name in implementations(report):
        torch.manual_seed(0)
        inputs = [
            (torch.rand(shape, dtype=torch.float64) * 2.4 - 1.2).to(report.device)
            for shape in shapes
        ]
        for tensor in inputs:
            tensor.requires_grad_()
        for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
            path = partial(paths[name], grid=grid)
            holds = check(path, inputs, fast_mode=True)
            report.add(f"{check.__name__}, {name}", "float64", "holds", holds)


def check_determinism(report: Report) -> None:
    """The same inputs twice, and NaN and infinity among them."""
    layers = [3, 2, 2] if report.small else [784, 64, 10]
    for name in implementations(report):
        torch.manual_seed(0)
        model = KAN(layers, implementation=name).to(report.device)
        x = torch.rand(4 if report.small else 500, layers[0])
        once, again = (_outputs_and_gradients(model, x.clone()) for _ in range(2))
        same = all(map(torch.equal, once, again))
        report.add(
            f"determinism, {name}",
            "output and gradients twice" + ("" if same else ": differ"),
            "same bits",
            same,
        )
        layer = KANLinear(2, 3, implementation=name, base=False).to(report.device)
        rows = [[0.5, 0.1], [0.5, math.nan], [0.5, math.inf]]
        y = layer(torch.tensor(rows, device=report.device))
        far = layer(torch.tensor([[0.5, 99.0]], device=report.device))
        holds = bool(y[0].isfinite().all()) and bool(y[1].isnan().all())
        holds &= relative_error(y[2:], far) <= TOLERANCE
        target = "propagates, is far off"
        report.add(f"NaN and infinity, {name}", "one layer", target, holds)


def batches(report: Report) -> Iterator[tuple[int, int]]:
    """Batch and grid sizes to measure at."""
    sizes = (
        ((4, 5),) if report.small else itertools.product((64, 256, 1024), (5, 20, 64))
    )
    yield from sizes
