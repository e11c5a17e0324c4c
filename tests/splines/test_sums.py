"""Every way to sum splines gives the same, on kind and on hostile inputs."""

import itertools
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kancl import KANLinear
from kancl.splines import (
    UniformGrid,
    cpu,
    dense_spline_sum,
    sparse_spline_sum,
    spline_basis,
    uniform_knots,
)

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
BIG = 3.4e38


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(params=["zero", "clamp", "linear"])
def outside(request: pytest.FixtureRequest) -> str:
    return request.param


def reference_sum(
    x: Tensor, coefficients: Tensor, scale: Tensor | None, grid: UniformGrid
) -> Tensor:
    """By Cox-de Boor, in float64."""
    low, high = grid.low.double(), grid.high.double()
    knots = uniform_knots(low, high, grid.size, grid.degree)
    basis = spline_basis(x.double(), knots, grid.degree, grid.outside)
    if grid.anchor is not None:
        anchor = grid.anchor.double().unsqueeze(0)
        basis = basis - spline_basis(anchor, knots, grid.degree, grid.outside)
    y = torch.einsum("big,igo->bio", basis, coefficients.double())
    return (y if scale is None else y * scale.double()).sum(1)


def case(
    dtype: torch.dtype,
    size: int,
    degree: int,
    outside: str,
    anchored: bool,
    n: int = 33,
) -> tuple[Tensor, UniformGrid]:
    """Samples on and off grids that differ between features, many at ends and knots."""
    low = torch.tensor([-1.0, 0.0, 0.25, -3.0, 100.0], dtype=dtype)
    high = torch.tensor([1.0, 1.0, 2.5, -1.0, 101.0], dtype=dtype)
    x = (low + (torch.rand(n, 5, dtype=dtype) * 2 - 0.5) * (high - low)).to(dtype)
    knots = uniform_knots(low, high, size, degree).to(dtype).T
    x[: len(knots[:9])] = knots[:9]
    x[9], x[10] = low, high
    anchor = (low + 0.3 * (high - low)) if anchored else None
    if anchor is not None:
        x[11:20:2] = anchor
    return x, UniformGrid(low, high, size, degree, outside, anchor)  # type: ignore


def relative_error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [1, 2, 5, 64, 256])
@pytest.mark.parametrize("anchored", [False, True])
def test_sums_are_exact(
    dtype: torch.dtype, outside: str, degree: int, size: int, anchored: bool
) -> None:
    x, grid = case(dtype, size, degree, outside, anchored)
    for n_outputs, scaled in ((1, False), (8, True), (21, True), (32, False)):
        coefficients = torch.randn(5, size + degree, n_outputs, dtype=dtype)
        scale = torch.randn(5, n_outputs, dtype=dtype) if scaled else None
        expected = reference_sum(x, coefficients, scale, grid)
        found = [dense_spline_sum(x, coefficients, scale, grid)]
        if cpu.why_not(size, degree) is None:
            found.append(sparse_spline_sum(x, coefficients, scale, grid))
        for y in found:
            assert y.dtype == dtype
            # A cell position in float64 is exact; one of 256 cells near 100 in float32
            # is not representable any better than this.
            assert relative_error(y, expected) < 4 * TOLERANCE[dtype]


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("n_outputs", [1, 10, 16, 40])
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_those_of_the_dense_path(
    dtype: torch.dtype,
    outside: str,
    degree: int,
    anchored: bool,
    n_outputs: int,
    scaled: bool,
) -> None:
    for size in (3, 20):
        x, grid = case(dtype, size, degree, outside, anchored)
        inputs = [x, torch.randn(5, size + degree, n_outputs, dtype=dtype)]
        inputs += [torch.randn(5, n_outputs, dtype=dtype)] if scaled else []
        weight = torch.randn(len(x), n_outputs, dtype=dtype)
        gradients = []
        for path in (dense_spline_sum, sparse_spline_sum):
            leaves = [tensor.clone().requires_grad_() for tensor in inputs]
            y = path(leaves[0], leaves[1], leaves[2] if scaled else None, grid)
            gradients.append(torch.autograd.grad(y, leaves, weight))
        for found, expected in zip(gradients[1], gradients[0]):
            assert relative_error(found, expected) < 4 * TOLERANCE[dtype]


@pytest.mark.parametrize("scaled", [False, True])
def test_a_cell_of_degree_1_on_its_grid_is_a_line(
    dtype: torch.dtype, outside: str, scaled: bool
) -> None:
    """The short way: no value off the grid, no gradient of the inputs wanted."""
    x, grid = case(dtype, 1, 1, outside, True)
    x = torch.minimum(torch.maximum(x, grid.low), grid.high)
    leaves = [torch.randn(5, 2, 12, dtype=dtype, requires_grad=True)]
    leaves += [torch.randn(5, 12, dtype=dtype, requires_grad=True)] if scaled else []
    scale = leaves[1] if scaled else None
    weight = torch.randn(len(x), 12, dtype=dtype)
    results = []
    for path in (dense_spline_sum, reference_sum):
        y = path(x, leaves[0], scale, grid)
        results.append([y, *torch.autograd.grad(y, leaves, weight.to(y.dtype))])
    for found, expected in zip(*results):
        assert relative_error(found, expected) < 4 * TOLERANCE[dtype]
    long = dense_spline_sum(x.clone().requires_grad_(), leaves[0], scale, grid)
    assert relative_error(results[0][0], long) < 4 * TOLERANCE[dtype]
    x[3, 2] = grid.high[2] + 0.5 * (grid.high[2] - grid.low[2])  # one is off its grid
    y = dense_spline_sum(x, leaves[0], scale, grid)
    assert relative_error(y, reference_sum(x, leaves[0], scale, grid)) < (
        4 * TOLERANCE[dtype]
    )


def test_sparse_splines_are_scipys(dtype: torch.dtype) -> None:
    for degree, size in itertools.product((1, 2, 3), (5, 64)):
        grid = UniformGrid(torch.tensor([-1.0]), torch.tensor([1.0]), size, degree)
        coefficients = torch.randn(1, size + degree, 1, dtype=dtype)
        x = torch.rand(400, 1, dtype=dtype) * 2 - 1
        knots = uniform_knots(grid.low.double(), grid.high.double(), size, degree)[0]
        spline = BSpline(knots.numpy(), coefficients[0, :, 0].double().numpy(), degree)
        expected = torch.from_numpy(spline(x[:, 0].double().numpy()))
        y = sparse_spline_sum(x, coefficients, None, grid)[:, 0]
        assert relative_error(y, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("background", [0.0, 0.37, 1.0, 1.2, float("inf")])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_common_background_changes_nothing(
    dtype: torch.dtype, outside: str, background: float, scaled: bool
) -> None:
    """Inputs that most samples have in common are worked on together."""
    low, high = torch.zeros(30), torch.ones(30)
    grid = UniformGrid(low, high, 5, 3, outside)  # type: ignore[arg-type]
    x = torch.rand(40, 30, dtype=dtype) * 1.4 - 0.2
    x[torch.rand(40, 30) < 0.8] = background
    x[:, 7] = torch.rand(40)
    leaves = [torch.randn(30, 8, 21, dtype=dtype, requires_grad=True)]
    leaves += [torch.randn(30, 21, dtype=dtype, requires_grad=True)] if scaled else []
    weight = torch.randn(40, 21, dtype=dtype)
    results = []
    for path in (dense_spline_sum, sparse_spline_sum):
        y = path(x, leaves[0], leaves[1] if scaled else None, grid)
        results.append([y, *torch.autograd.grad(y, leaves, weight)])
    if outside == "linear" and background == float("inf"):
        assert not bool(results[1][0].isfinite().all(1).any())
        return
    for found, expected in zip(results[1], results[0]):
        assert relative_error(found, expected) < 4 * TOLERANCE[dtype]
    with torch.no_grad():  # as for a batch in which one sample is broken
        x[3, 4] = float("nan")
        y = sparse_spline_sum(x, leaves[0], None, grid)
        assert bool(y[3].isnan().all())
        assert not bool(y[torch.arange(40) != 3].isnan().any())


def test_nothing_is_learned_at_the_anchor(outside: str) -> None:
    x, grid = case(torch.float32, 5, 3, outside, True)
    assert grid.anchor is not None
    x = grid.anchor.repeat(7, 1)
    for path in (dense_spline_sum, sparse_spline_sum):
        coefficients = torch.randn(5, 8, 20, requires_grad=True)
        scale = torch.randn(5, 20, requires_grad=True)
        y = path(x, coefficients, scale, grid)
        y.backward(torch.randn(7, 20))
        # Exactly: Adam would blow up any rounding error to full steps.
        for tensor in (y, coefficients.grad, scale.grad):
            assert not bool(tensor.any())


@pytest.mark.parametrize(
    "value", [BIG, -BIG, 1e-45, -1e-45, 1e-39, -0.0, 2.0**31, 1e12]
)
def test_hostile_values(value: float, outside: str) -> None:
    low, high = torch.tensor([0.0, -1.0]), torch.tensor([1.0, 1.0])
    grid = UniformGrid(low, high, 5, 3, outside)  # type: ignore[arg-type]
    x = torch.tensor([[0.5, value], [value, 0.2]])
    coefficients = torch.rand(2, 8, 16)
    expected = reference_sum(x, coefficients, None, grid)
    for path in (dense_spline_sum, sparse_spline_sum):
        y = path(x, coefficients, None, grid)
        assert bool(y.isfinite().all()) == bool(expected.float().isfinite().all())
        if bool(y.isfinite().all()):
            assert relative_error(y, expected) < 1e-5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_propagates_and_infinity_is_far_outside(value: float, outside: str) -> None:
    low, high = torch.tensor([0.0, -1.0]), torch.tensor([1.0, 1.0])
    grid = UniformGrid(low, high, 5, 3, outside)  # type: ignore[arg-type]
    x = torch.tensor([[0.5, 0.1], [0.5, value]])
    coefficients = torch.rand(2, 8, 16)
    for path in (dense_spline_sum, sparse_spline_sum):
        y = path(x, coefficients, None, grid)
        assert bool(y[0].isfinite().all())
        if value == value and outside == "zero":
            expected = reference_sum(x[:1], coefficients, None, grid)
            alone = reference_sum(x[:1, :1], coefficients[:1], None, _first(grid))
            torch.testing.assert_close(y[:1].double(), expected, rtol=1e-5, atol=0)
            torch.testing.assert_close(y[1:].double(), alone, rtol=1e-5, atol=0)
        elif value == value and outside == "clamp":
            nearest = x.clamp(-1, 1)
            expected = reference_sum(nearest, coefficients, None, grid)
            torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=0)
        else:
            assert not bool(y[1].isfinite().any())


def _first(grid: UniformGrid) -> UniformGrid:
    return UniformGrid(
        grid.low[:1], grid.high[:1], grid.size, grid.degree, grid.outside
    )


def test_threads_change_no_bit() -> None:
    x = torch.rand(64, 300) * 2.4 - 1.2
    x[torch.rand(64, 300) < 0.7] = 0.0
    results = []
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            torch.manual_seed(0)
            layer = KANLinear(300, 100, implementation="sparse")
            leaf = x.clone().requires_grad_()
            layer(leaf).square().sum().backward()
            splines = layer.coefficients.grad, layer.edge_scale.grad, leaf.grad
            results.append([*splines, sparse_of(layer, x)])
    finally:
        torch.set_num_threads(before)
    for one, three in zip(
        results[0][:2] + results[0][3:], results[1][:2] + results[1][3:]
    ):
        assert torch.equal(one, three)
    torch.testing.assert_close(
        results[0][2], results[1][2]
    )  # has torch's products in it


def sparse_of(layer: KANLinear, x: Tensor) -> Tensor:
    low, high = layer.grid[:, 3], layer.grid[:, -4]
    grid = UniformGrid(low, high, layer.grid_size, 3)
    return sparse_spline_sum(x, layer.coefficients.detach(), layer.edge_scale, grid)


def test_layers_of_all_implementations_agree() -> None:
    for anchor in (None, 0.25):
        for warp in (False, True):
            outputs, gradients = [], []
            for name in ("reference", "dense", "sparse", "auto"):
                torch.manual_seed(1)
                layer = KANLinear(
                    7, 20, 9, anchor=anchor, implementation=name, outside="linear"
                )  # type: ignore[arg-type]
                if warp:
                    layer.warp_grid(torch.rand(500, 7) ** 3 - 0.3)
                x = torch.rand(50, 7) * 3 - 1.5
                x[:3] = 0.25  # the anchor: its slope is as elsewhere
                x.requires_grad_()
                y = layer(x)
                y.square().sum().backward()
                outputs.append(y.detach())
                gradients.append([x.grad, *(p.grad for p in layer.parameters())])
            for y, grads in zip(outputs[1:], gradients[1:]):
                torch.testing.assert_close(y, outputs[0], rtol=1e-5, atol=1e-5)
                for found, expected in zip(grads, gradients[0]):
                    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_impossible_implementation_is_refused() -> None:
    with pytest.raises(ValueError, match="degree is 4, the sparse path takes 1 to 3"):
        KANLinear(3, 2, spline_order=4, implementation="sparse")
    with pytest.raises(ValueError, match="at least 4 bases"):
        KANLinear(3, 2, 1, 1, implementation="sparse")
    with pytest.raises(ValueError, match="one of .*'auto'.* got 'fast'"):
        KANLinear(3, 2, implementation="fast")  # type: ignore[arg-type]
    layer = KANLinear(3, 2, implementation="dense")
    layer.update_grid(torch.rand(100, 3) ** 2)
    with pytest.raises(ValueError, match="needs a uniform grid"):
        layer(torch.rand(4, 3))


class Broken:
    """Finds no module of Numba, with an error that a broken llvmlite gives."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "numba":
            raise OSError("Could not find/load shared object file 'libllvmlite.so'")


@pytest.fixture(params=["absent", "broken", "disabled"])
def no_numba(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    pytest.importorskip("kancl.splines.compiled")  # and keep it for other tests
    for name in ("compiled", "kernels_cpu", "simd"):
        monkeypatch.delitem(sys.modules, f"kancl.splines.{name}", raising=False)
    if request.param == "absent":
        monkeypatch.setitem(sys.modules, "numba", None)
    elif request.param == "broken":
        monkeypatch.delitem(sys.modules, "numba")
        monkeypatch.setattr(sys, "meta_path", [Broken, *sys.meta_path])
    else:
        monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", 1)
    cpu._compiled.cache_clear()
    cpu._kernels.cache_clear()
    yield
    cpu._compiled.cache_clear()
    cpu._kernels.cache_clear()


def test_without_numba_the_dense_path_serves(
    no_numba: None, caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.rand(5, 3)
    with caplog.at_level(logging.WARNING):
        layer = KANLinear(3, 2)
        y = [layer(x) for _ in range(3)]
    assert len(caplog.records) == 1 and "dense path" in caplog.text
    torch.testing.assert_close(y[0], y[2])
    with pytest.raises(ValueError, match="pip install numba"):
        KANLinear(3, 2, implementation="sparse")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    x, coefficients = torch.rand(256, 300), torch.rand(300, 8, 100)
    grid = UniformGrid(torch.zeros(300), torch.ones(300), 5, 3, "zero", None)
    samples, before = cpu.prepare(x, grid), torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        expected = cpu.spline_sum(samples, coefficients, None, None)
        meet = threading.Barrier(3)  # all three threads have begun
        list(cpu._threads(3).map(lambda _: meet.wait(), range(3)))
        if (pid := os.fork()) == 0:
            signal.alarm(20)  # ends it if it waits for threads that are its parent's
            y = cpu.spline_sum(samples, coefficients, None, None)
            os._exit(int(not torch.equal(y, expected)))
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        torch.set_num_threads(before)
