"""The spline network: KAN layers in a row."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from kancl.models.kan_linear import KANLinear


class KAN(nn.Module):
    """KAN layers in a row.

    Source: Liu et al. 2024, arXiv:2404.19756.
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
        input_range: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.in_features = layers_hidden[0]
        self.feature_dim = layers_hidden[-2]
        self._n_hidden = len(layers_hidden) - 2
        self._options = dict(
            grid_size=grid_size,
            spline_order=spline_order,
            scale_noise=scale_noise,
            scale_base=scale_base,
            scale_spline=scale_spline,
            base_activation=base_activation,
            grid_eps=grid_eps,
            **options,
        )
        self._ranges = [input_range or grid_range] + [grid_range] * self._n_hidden
        self.layers = nn.ModuleList(
            KANLinear(n_in, n_out, grid_range=range_, **self._options)
            for n_in, n_out, range_ in zip(
                layers_hidden, layers_hidden[1:], self._ranges
            )
        )

    @property
    def head(self) -> nn.Module:
        """The last layer."""
        return self.layers[-1]

    def features(self, x: Tensor) -> Tensor:
        for layer in self.layers[: self._n_hidden]:
            x = layer(x)
        return x

    def make_head(self, n_outputs: int) -> nn.Module:
        return KANLinear(
            self.feature_dim, n_outputs, grid_range=self._ranges[-1], **self._options
        )

    def remove_head(self) -> None:
        self.layers = self.layers[: self._n_hidden]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))

    def off_grid_share(self, x: Tensor) -> list[float]:
        shares = []
        for layer in self.layers:
            shares.append(layer.off_grid_share(x))
            x = layer(x)
        return shares


def kan(
    in_features: int,
    n_outputs: int,
    *,
    input_range: tuple[float, float] = (0, 1),
    hidden: Sequence[int] = (64,),
    grid_size: int = 5,
    degree: int = 3,
    base: bool = True,
) -> KAN:
    """KAN with a uniform grid over the inputs' range."""
    return KAN(
        [in_features, *hidden, n_outputs],
        grid_size,
        degree,
        input_range=input_range,
        base=base,
        enable_standalone_scale_spline=False,
    )
