"""The spline network: KAN layers in a row."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor, nn

from kancl.config.values import Bounds, Count
from kancl.models.edges import (
    EdgeScores,
    Pruning,
    edge_scores,
    layers_with_inputs,
    prune,
    sparsity_loss,
)
from kancl.models.efficient_kan import for_efficient_kan
from kancl.models.hidden_control import HiddenControl, check_hidden_control, controlled
from kancl.models.inputs import flat
from kancl.models.kan_linear import KANLinear
from kancl.splines import Implementation, Outside

InputGrid = Literal["uniform", "range", "quantile"]


class KAN(nn.Module):
    """KAN layers in a row; a drop-in for efficient-kan's class of the same name.

    Args:
        layers_hidden: sizes from inputs to outputs, ``[784, 64, 10]``.
        grid_size .. grid_range: of every layer, see ``KANLinear``.
        input_range, input_grid_size, input_spline_order: of the first layer alone;
            ``None``: as the others have it.
        input_grid: what ``fit_input_grid`` makes of the first layer's grids: nothing
            (``uniform``), each input's own ``range``, or cells that hold as many samples
            each (``quantile``), atoms such as a constant background set apart.
        input_anchor, anchor: of the first layer, and of all others; see ``KANLinear``.
        hidden_control: bounds hidden values by ``tanh``, or ``layernorm_tanh``, which
            normalises them first.
        top_k: only so many hidden values of a layer, the largest, are not set to 0.
        lazy: see ``kan``; the runner adds the plugin.
        layer_options: further ones of every layer, ``base`` and so on.
    Shape: ``(..., layers_hidden[0])`` -> ``(..., layers_hidden[-1])``; images,
        ``(batch, ...)`` of as many values each, are flattened.
    Raises: ValueError for fewer than two sizes, and as ``KANLinear`` does.
    Source: Liu et al. 2024, arXiv:2404.19756.

    >>> KAN([784, 64, 10])(torch.rand(32, 784)).shape
    torch.Size([32, 10])
    """

    def __init__(
        self,
        layers_hidden: Sequence[int],
        grid_size: int = 5,
        spline_order: int = 3,
        scale_noise: float = 0.1,
        scale_base: float = 1.0,
        scale_spline: float = 1.0,
        base_activation: Callable[[], nn.Module] = nn.SiLU,
        grid_eps: float = 0.02,
        grid_range: Sequence[float] = (-1, 1),
        *,
        input_range: Sequence[float] | Tensor | None = None,
        input_grid_size: int | None = None,
        input_spline_order: int | None = None,
        input_grid: InputGrid = "uniform",
        input_anchor: float | Tensor | None = None,
        anchor: float | None = None,
        hidden_control: HiddenControl = "none",
        top_k: int | None = None,
        lazy: bool = False,
        **layer_options: Any,
    ) -> None:
        super().__init__()
        if len(layers_hidden) < 2:
            raise ValueError(
                f"layers_hidden must be at least two sizes, got {list(layers_hidden)}"
            )
        check_hidden_control(hidden_control, top_k)
        if input_grid not in get_args(InputGrid):
            kinds = ", ".join(get_args(InputGrid))
            raise ValueError(f"input_grid must be one of {kinds}, got {input_grid!r}")
        if input_grid == "quantile" and (input_grid_size or grid_size) == 1:
            raise ValueError(
                "input_grid=quantile places the borders between cells, and a grid of "
                "size 1 has none; set input_grid_size to 2 or more"
            )
        self.input_grid, self.lazy = input_grid, lazy
        self.grid_size, self.spline_order = grid_size, spline_order
        self.hidden_control: HiddenControl = hidden_control
        self.top_k = top_k
        self.in_features, self.feature_dim = layers_hidden[0], layers_hidden[-2]
        self._n_hidden = len(layers_hidden) - 2
        layer: Callable[..., KANLinear] = partial(
            KANLinear,
            scale_noise=scale_noise,
            scale_base=scale_base,
            scale_spline=scale_spline,
            base_activation=base_activation,
            grid_eps=grid_eps,
            **layer_options,
        )
        names = "grid_range", "grid_size", "spline_order"
        other: dict[str, Any] = dict(zip(names, (grid_range, grid_size, spline_order)))
        own = dict(zip(names, (input_range, input_grid_size, input_spline_order)))
        first = other | {
            name: value for name, value in own.items() if value is not None
        }
        first["anchor"], other["anchor"] = input_anchor, anchor
        grids = [first] + [other] * self._n_hidden
        self.layers: Any = nn.ModuleList(
            layer(n_in, n_out, **grid)
            for n_in, n_out, grid in zip(layers_hidden, layers_hidden[1:], grids)
        )
        self._head = partial(layer, self.feature_dim, **grids[-1])

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.layers[self._n_hidden]

    def features(self, x: Tensor) -> Tensor:
        """Everything before the last layer: ``(..., in)`` -> ``(..., feature_dim)``."""
        x = flat(x, self.in_features)
        for layer in self.layers[: self._n_hidden]:
            x = controlled(layer(x), self.hidden_control, self.top_k)
        return x

    def fit_input_grid(self, x: Tensor) -> None:
        """Let the first layer's grids follow the samples, as ``input_grid`` says.

        Changes the functions: call it once, before training, with samples of the first
        experience, ``(n, in_features)``.

        Raises: ValueError if there is no first layer any more (no hidden layer, and the
            head removed), or as ``KANLinear.fit_range`` and ``warp_grid`` do.
        """
        if self.input_grid == "uniform":
            return
        if not len(self.layers):
            raise ValueError(
                f"input_grid={self.input_grid} needs a first layer that is there from the "
                "start: a hidden layer, or a single head"
            )
        first = self.layers[0]
        (first.fit_range if self.input_grid == "range" else first.warp_grid)(x)

    def make_head(self, n_outputs: int) -> nn.Module:
        """A fresh last layer on ``features``."""
        return self._head(n_outputs)

    def remove_head(self) -> None:
        """Drop the last layer for good: ``features`` goes on working."""
        self.layers = self.layers[: self._n_hidden]

    def forward(self, x: Tensor, update_grid: bool = False) -> Tensor:
        """Apply all layers, and with ``update_grid`` move their grids to their inputs."""
        x = flat(x, self.in_features)
        for number, layer in enumerate(self.layers):
            if number > 0:
                x = controlled(x, self.hidden_control, self.top_k)
            if update_grid:
                layer.update_grid(x.reshape(-1, layer.in_features))
            x = layer(x)  # (..., out_features)
        return x

    def regularization_loss(
        self, regularize_activation: float = 1.0, regularize_entropy: float = 1.0
    ) -> Tensor:
        """Sum of the layers' losses, see ``KANLinear.regularization_loss``."""
        losses = [
            layer.regularization_loss(regularize_activation, regularize_entropy)
            for layer in self.layers
        ]
        return torch.stack(losses).sum()

    def sparsity_loss(
        self,
        x: Tensor,
        regularize_activation: float = 1.0,
        regularize_entropy: float = 1.0,
    ) -> Tensor:
        """The paper's loss on what the edges do with samples ``(n, in_features)``.

        ``regularization_loss`` takes coefficients for it; see ``edges.sparsity_loss``.
        """
        layers = [(layer, x) for (layer,), x in layers_with_inputs(self, x)]
        return sparsity_loss(layers, regularize_activation, regularize_entropy)

    def edge_scores(self, x: Tensor) -> EdgeScores:
        """How much every edge and node matters on samples; see ``edges.EdgeScores``."""
        return edge_scores(self, x)

    def prune(self, x: Tensor, y: Tensor, **options: Any) -> Pruning:
        """A smaller copy without edges and nodes that matter little; see ``edges.prune``.

        >>> print(model.prune(x, y))  # doctest: +SKIP
        accuracy 0.971 -> 0.968, edges 50,816 -> 6,120, hidden nodes 64 -> 41
        """
        return prune(self, x, y, **options)

    def plot(self, x: Tensor | None = None, **options: Any) -> Any:
        """The network as a matplotlib figure, each edge its learned function.

        See ``network_figure`` for the arguments.

        >>> KAN([2, 5, 1]).plot(torch.rand(100, 2)).savefig("kan.png")  # doctest: +SKIP
        """
        from kancl.models.network_figure import network_figure  # matplotlib is slow

        return network_figure(self, x, **options)

    @torch.no_grad()
    def off_grid_share(self, x: Tensor) -> list[float]:
        """For every layer, the share of its input values that lie off its grid."""
        shares, x = [], flat(x, self.in_features)
        for number, layer in enumerate(self.layers):
            if number > 0:
                x = controlled(x, self.hidden_control, self.top_k)
            shares.append(layer.off_grid_share(x))
            x = layer(x)
        return shares

    def efficient_kan_state_dict(self) -> dict[str, Tensor]:
        """The state under efficient-kan's names and in its shapes, for its class.

        Raises: ValueError if bases are anchored or warped, or hidden values controlled,
            which it doesn't know.
        """
        if self.hidden_control != "none" or self.top_k is not None:
            raise ValueError(
                f"efficient-kan has no hidden_control={self.hidden_control!r}, "
                f"top_k={self.top_k}: its networks differ"
            )
        return for_efficient_kan(self.state_dict())


def kan(
    in_features: int,
    n_outputs: int,
    *,
    input_range: tuple[float, float] = (0, 1),
    hidden: Sequence[Count] = (64,),
    hidden_range: tuple[float, float] = (-4, 4),
    grid_size: Count = 5,
    degree: Annotated[int, Bounds(1, 5)] = 3,
    input_grid_size: Count | None = None,
    input_degree: Annotated[int, Bounds(1, 5)] | None = None,
    input_grid_range: tuple[float, float] | None = None,
    input_grid: InputGrid = "uniform",
    base: bool = True,
    outside: Outside = "zero",
    standalone_scale: bool = False,
    anchored: bool = False,
    hidden_control: HiddenControl = "none",
    top_k: Count | None = None,
    lazy: bool = False,
    implementation: Implementation = "auto",
) -> KAN:
    """KAN with uniform grids; the first covers the inputs' range.

    Args:
        hidden: sizes of the hidden layers, ``[]`` for a single spline layer.
        hidden_range: ends of the other layers' grids. Hidden values grow in training:
            after an epoch of MNIST 4 of 5 are off a grid over [-1, 1].
        grid_size: intervals of a grid.
        degree: of the splines, 1 to 5; 3 = cubic.
        input_grid_size: of the first layer; null: ``grid_size``.
        input_degree: of the first layer; null: ``degree``.
        input_grid_range: ends of the first layer's grids; null: the inputs' range.
        input_grid: of the first layer, fitted on the first experience, then frozen:
            uniform, each input's own range, or quantile (a constant background apart).
        base: whether every edge has a SiLU branch beside its spline.
        outside: what a spline does beyond its grid: decay to 0 (zero), keep its end
            value (clamp), or go straight on (linear).
        standalone_scale: one more learned factor per edge.
        anchored: whether splines are 0 at the background, the low end of the inputs'
            range, and hidden ones at 0, and learn nothing there.
        hidden_control: keeps hidden values inside (-1, 1), see ``KAN``.
        top_k: so many hidden values of a layer are not 0; null: all.
        lazy: training leaves alone coefficients that no sample of a batch touches.
        implementation: how splines are summed, see ``KANLinear``.
    """
    if input_grid == "range" and input_grid_range is not None:
        raise ValueError(
            f"input_grid=range takes the grids' ends from the data, and "
            f"input_grid_range={list(input_grid_range)} says them: set one of the two"
        )
    return KAN(
        [in_features, *hidden, n_outputs],
        grid_size,
        degree,
        grid_range=hidden_range,
        input_range=input_grid_range or input_range,
        input_grid_size=input_grid_size,
        input_spline_order=input_degree,
        input_grid=input_grid,
        enable_standalone_scale_spline=standalone_scale,
        base=base,
        outside=outside,
        input_anchor=input_range[0] if anchored else None,
        anchor=0.0 if anchored else None,
        hidden_control=hidden_control,
        top_k=top_k,
        lazy=lazy,
        implementation=implementation,
    )
