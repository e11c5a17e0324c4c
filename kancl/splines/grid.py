"""A grid as a value: whatever decides how splines are computed, read from tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import SiLU
from torch.nn.functional import silu

from kancl.splines import gpu, modes
from kancl.splines.basis import Outside, anchored, spline_basis
from kancl.splines.flops import basis_flops, counted
from kancl.splines.knots import (
    evenly_spaced,
    grid_ends,
    is_uniform,
    uniform_knots,
    warped,
)
from kancl.splines.sums import Implementation, fastest, spline_sum
from kancl.splines.uniform import UniformGrid, grid_basis

MOVED = (
    "the knots were moved after the graph was compiled for even ones: call the layer once "
    "outside the compiled graph, which is made anew then"
)


class Grid:
    """The grids of all inputs of a layer.

    Args:
        knots: the extended vectors, ``(in_features, size + 2*degree + 1)``.
        outside: policy outside the grid, see ``spline_basis``.
        anchor: where every basis is shifted to 0, ``(in_features,)``; ``None``: not.
        warp: maps inputs to places on the grid, see ``warped``; ``None``: knots do.
        uniform: whether the knots are equally spaced, so that closed forms hold;
            ``None``: read from them.
    """

    def __init__(
        self,
        knots: Tensor,
        degree: int,
        outside: Outside = "zero",
        anchor: Tensor | None = None,
        warp: Tensor | None = None,
        uniform: bool | None = None,
    ) -> None:
        self.knots, self.degree, self.outside = knots, degree, outside
        self.anchor, self.warp = anchor, warp
        self.uniform = is_uniform(knots, degree) if uniform is None else uniform
        if not self.uniform and warp is not None and uniform is None:
            raise ValueError(
                "a warp maps onto even knots, and these were moved: take one of the two"
            )
        self.size = knots.shape[-1] - 1 - 2 * degree
        self.low, self.high = grid_ends(knots, degree)
        ends = self.low, self.high
        if warp is not None:
            if anchor is not None:
                anchor = self.position(anchor.unsqueeze(0)).squeeze(0)
            ends = torch.zeros_like(self.low), torch.full_like(self.high, self.size)
        self._closed = UniformGrid(*ends, self.size, degree, outside, anchor)

    def position(self, x: Tensor) -> Tensor:
        """Where ``x`` is on the grid: the value itself, or cells behind a warp."""
        return x if self.warp is None else warped(x, self.low, self.high, self.warp)

    def basis(self, x: Tensor) -> Tensor:
        """All bases at ``x``, less their values at the anchor; at least float32.

        Shape: ``(batch, in_features)`` -> ``(batch, in_features, n_basis)``.
        """
        dtype = torch.promote_types(x.dtype, torch.float32)
        if not self.uniform or modes.plain_operators_only():
            return self._cox_de_boor(x).to(dtype)
        basis = grid_basis(self.position(x), self._closed).to(dtype)
        return counted(basis, basis_flops(self.degree))

    def sum(
        self,
        x: Tensor,
        coefficients: Tensor,
        scale: Tensor | None = None,
        implementation: Implementation = "auto",
        base_weight: Tensor | None = None,
        activation: Callable[[Tensor], Tensor] = silu,
    ) -> Tensor:
        """``y_o = sum_i (base_weight_oi activation(x_i) + scale_io sum_g coefficients_igo
        B_g(x_i))``

        Shape: x ``(batch, in_features)``, coefficients ``(in_features, n_basis,
            out_features)``, scale ``(in_features, out_features)``, base_weight
            ``(out_features, in_features)`` -> ``(batch, out_features)``.
        Where nothing else can be followed, whatever the implementation, it goes the way
        of the ``reference``: forward mode, tracing, ONNX, stacked models.

        Raises: ValueError if the implementation needs uniform knots, and as
            ``spline_sum`` does.
        """
        splines, fused = (coefficients, scale), False
        plain = implementation == "reference" or modes.plain_operators_only()
        if self.uniform and not plain:
            fuses = self.warp is None and _is_plain_silu(activation)
            fusible = base_weight if fuses else None
            options = *splines, fusible, self._closed, implementation
            y, fused = spline_sum(self.position(x), *options)
        elif plain or implementation == "auto" or modes.transforms():
            y = self._reference_sum(x, *splines)
        else:
            raise ValueError(
                f"implementation={implementation!r} needs a uniform grid, and this one "
                f"was moved: choose 'auto' or 'reference'"
            )
        if base_weight is None or fused:
            return y
        # One product for both parts took 1.0 to 1.3 times as long, for the copying.
        return torch.addmm(y, activation(x), base_weight.T)

    def idle(self, x: Tensor) -> Tensor:
        """Whether each basis is 0 at all of the samples.

        Shape: ``(batch, in_features)`` -> ``(in_features, n_basis)``, boolean.
        """
        if self.uniform and fastest(x.device.type, self._closed) == "triton":
            dtype = torch.promote_types(x.dtype, torch.float32)
            samples = gpu.prepare(self.position(x).detach(), self._closed)
            return gpu.idle_bases(samples, self.size + self.degree, dtype)
        return (self.basis(x) == 0).all(0)

    def _reference_sum(
        self, x: Tensor, coefficients: Tensor, scale: Tensor | None
    ) -> Tensor:
        if scale is not None:
            coefficients = coefficients * scale.unsqueeze(1)
        basis = self._cox_de_boor(x).to(coefficients.dtype)
        return basis.flatten(1) @ coefficients.flatten(0, 1)

    def exact_knots(self) -> Tensor:
        """The knots in use: evenly between a uniform grid's ends, in cells if warped."""
        if not self.uniform:
            return self.knots
        ends = self._closed.low.double(), self._closed.high.double()
        return uniform_knots(*ends, self.size, self.degree)

    def _cox_de_boor(self, x: Tensor) -> Tensor:
        """``basis`` by the recursion, which takes any knots; at least float32."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        x, knots, anchor = self.position(x).to(dtype), self.knots, self._closed.anchor
        if self.uniform or self.warp is not None:  # in cells, whose knots are exact
            last = self.size + self.degree
            knots = torch.arange(-self.degree, last + 1, device=x.device).to(dtype)
            x = self._in_cells(x)
            anchor = None if anchor is None else self._in_cells(anchor)
        options = knots.to(dtype), self.degree, self.outside
        basis = spline_basis(x, *options)
        if anchor is not None:
            anchor = anchor.to(x.dtype)
            at_anchor = spline_basis(anchor.unsqueeze(0), *options)
            basis = anchored(basis, at_anchor, x == anchor)
        return counted(basis, basis_flops(self.degree))

    def _in_cells(self, x: Tensor) -> Tensor:
        low, high = self._closed.low.double(), self._closed.high.double()
        return ((x.double() - low) * (self.size / (high - low))).to(x.dtype)


class GridReader:
    """Reads the grid of a layer from its tensors, and keeps the last reading.

    Reading takes as long as a small layer does; it holds while these tensors have the
    same values. On a GPU, to ask which is to wait, that is left to torch's count of
    writes unless there are several processes: they write past it, as ``data`` does. Where
    values can't be read, as in a graph that is compiled, knots are taken to be even if they
    were so at the last reading.
    """

    def __init__(self) -> None:
        self._uniform = True
        self._last: tuple[Grid, list[tuple[Tensor, int, Tensor]]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_uniform": self._uniform, "_last": None}

    def read(
        self,
        knots: Tensor,
        degree: int,
        outside: Outside,
        anchor: Tensor | None,
        warp: Tensor | None,
    ) -> Grid:
        options = degree, outside, anchor, warp
        if torch.compiler.is_compiling():
            if self._uniform and not torch.compiler.is_exporting():
                torch._assert_async(evenly_spaced(knots, degree), MOVED)
            return Grid(knots, *options, self._uniform)
        if knots.is_meta or not modes.readable(knots):
            return Grid(knots, *options, self._uniform)
        transformed = modes.transforms()
        if transformed and modes.batched(knots):
            return Grid(knots, *options, uniform=False)  # right for any knots
        tensors = [t for t in (knots, anchor, warp) if t is not None]
        if self._last is not None:
            grid, read = self._last
            if (grid.outside, len(read)) == (outside, len(tensors)) and all(
                t is known and t._version == version and _same_values(t, values)
                for t, (known, version, values) in zip(tensors, read)
            ):
                return grid
        grid = Grid(knots, *options)
        self._uniform = grid.uniform
        if not transformed and not any(t.is_inference() for t in tensors):
            self._last = grid, [(t, t._version, t.detach().clone()) for t in tensors]
        return grid


def _same_values(tensor: Tensor, values: Tensor) -> bool:
    """Whether they are; taken for granted where to ask is to wait, or to be traced."""
    unasked = tensor.is_cuda and not modes.several_processes()
    return unasked or torch._C._is_tracing() or torch.equal(tensor, values)


def _is_plain_silu(activation: Callable[[Tensor], Tensor]) -> bool:
    """Whether a kernel may compute it: a module with hooks has to be called."""
    if not isinstance(activation, SiLU):
        return activation is silu
    before = activation._forward_pre_hooks or activation._backward_pre_hooks
    hooks = before or activation._forward_hooks or activation._backward_hooks
    return type(activation) is SiLU and not hooks
