"""The layers that a model's outputs come from, whatever kind of head it has."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from kancl.models.heads import GrowingHead, MultiHead, SingleHead


@dataclass(frozen=True)
class LastLayers:
    """Layers on the same features whose outputs stand side by side.

    Args:
        classes: of each layer, the classes that its outputs are for.
    """

    layers: list[nn.Module]
    classes: list[list[int]]
    n_classes: int


def last_layers(model: nn.Module) -> dict[int | None, LastLayers]:
    """By task label, or None for the one that serves all of them.

    Raises: ValueError for a model that ``with_head`` did not make.
    """
    if isinstance(model, SingleHead):
        head: Any = model.network.head
        n = int(head.out_features)
        return {None: LastLayers([head], [list(range(n))], n)}
    if isinstance(model, GrowingHead):
        return {None: LastLayers(list(model.heads), model.classes, model.n_outputs)}
    if isinstance(model, MultiHead):
        n = model.n_outputs
        every = list(range(n))
        return {int(k): LastLayers([h], [every], n) for k, h in model.heads.items()}
    raise ValueError(
        "the last layer is known of models from kancl.models.heads.with_head, got "
        f"{type(model).__name__}: put it behind a head first instead"
    )


def replace_network(model: nn.Module, network: Any) -> None:
    """Put another network, complete with a head of its own, in the place of a model's.

    Heads that exist are replaced by fresh ones; the kind of head stays.

    Raises: ValueError for a model that ``with_head`` did not make.
    """
    if isinstance(model, SingleHead):
        model.network = network
        return
    last_layers(model)  # or it refuses
    assert isinstance(model, (GrowingHead, MultiHead))
    if isinstance(model, GrowingHead):
        sizes = [len(classes) for classes in model.classes]
        model.heads = nn.ModuleList(network.make_head(n) for n in sizes)
    else:
        labels = list(model.heads)
        model.heads = nn.ModuleDict(
            {label: network.make_head(model.n_outputs) for label in labels}
        )
    network.remove_head()
    model.network = network
