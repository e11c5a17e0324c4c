"""Which layers a model has, what they see, and its outputs in evaluation mode."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from avalanche.models import avalanche_forward
from torch import Tensor, nn

from kancl.models.heads import GrowingHead, MultiHead, SingleHead
from kancl.models.kan_linear import KANLinear
from kancl.models.layer_features import has_features

HEAD = "head"
ROWS = 512  # samples per forward pass

See = Callable[[Any, Any, Tensor], None]
"""Gets a layer's name, the layer and its inputs ``(batch, in_features)``."""


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by name; buffers, such as grids, are none."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def kan_layers(model: nn.Module) -> dict[str, KANLinear]:
    """The KAN layers by their names as submodules."""
    return {n: m for n, m in model.named_modules() if isinstance(m, KANLinear)}


def named_layers(model: nn.Module) -> dict[str, list[nn.Module]]:
    """KAN and linear layers: ``layer_1``, ``layer_2``, ... and, last, ``head`` or heads."""
    layers = [(n.split("."), m) for n, m in model.named_modules() if has_features(m)]
    heads = [m for n, m in layers if "heads" in n]
    body = [m for n, m in layers if "heads" not in n]
    if not heads and body:
        heads = [body.pop()]
    named = {f"layer_{k}": [layer] for k, layer in enumerate(body, start=1)}
    return {**named, HEAD: heads} if heads else named


def shown_name(model: nn.Module, submodule: str) -> str:
    """The name in ``named_layers`` of the layer that is this submodule."""
    layer = model.get_submodule(submodule)
    groups = named_layers(model).items()
    return next(name for name, layers in groups if any(m is layer for m in layers))


def spline_network(model: nn.Module) -> Any | None:
    """The KAN in a model (itself, or what its heads stand on), or None."""
    networks = (m for m in model.modules() if hasattr(m, "features"))
    return next((m for m in networks if hasattr(m, "off_grid_share")), None)


@dataclass(frozen=True)
class LastLayers:
    """Layers on the same features whose outputs stand side by side."""

    layers: list[nn.Module]
    classes: list[list[int]]  # that the outputs of each layer are for
    n_classes: int


def last_layers(model: nn.Module) -> dict[int | None, LastLayers]:
    """By task label, or None for the one that serves all of them.

    Raises: ValueError for a model that ``with_head`` did not make.
    """
    if isinstance(model, SingleHead):
        head: Any = model.network.head
        n = head.out_features
        return {None: LastLayers([head], [list(range(n))], n)}
    if isinstance(model, GrowingHead):
        return {None: LastLayers(list(model.heads), model.classes, model.n_outputs)}
    if isinstance(model, MultiHead):
        n = model.n_outputs
        every = [list(range(n))]
        return {int(k): LastLayers([h], every, n) for k, h in model.heads.items()}
    raise ValueError(
        "the last layer is known of models from kancl.models.heads.with_head, got "
        f"{type(model).__name__}: put it behind a head first instead"
    )


def state_groups(model: nn.Module) -> dict[str, list[str]]:
    """Keys of the state dict by what they belong to; groups without a key are left out.

    ``layer_1``, ..., ``head``; across layers ``splines`` (with their grids), ``base``
    branches, ``weights`` and ``biases`` of linear layers; and ``all``.
    """
    keys = list(model.state_dict())
    prefixes = {m: f"{name}." if name else "" for name, m in model.named_modules()}
    groups: dict[str, list[str]] = {}
    kinds: dict[str, list[str]] = {k: [] for k in "splines base weights biases".split()}
    for name, layers in named_layers(model).items():
        groups[name] = []
        for layer in layers:
            for key in keys:
                if key.startswith(prefixes[layer]):
                    groups[name].append(key)
                    own = key.removeprefix(prefixes[layer])
                    kind = "biases" if own == "bias" else "weights"
                    if isinstance(layer, KANLinear):
                        kind = "base" if own.startswith("base") else "splines"
                    kinds[kind].append(key)
    heads = [key for key in keys if "head_of_class" in key]
    if heads:
        groups[HEAD] += heads
    return groups | {kind: part for kind, part in kinds.items() if part} | {"all": keys}


def watching(layers: Iterable[tuple[Any, nn.Module]], see: See) -> ExitStack:
    """Hand every layer's inputs to ``see`` under its name, until this is closed."""

    @torch.no_grad()
    def hook(name: Any, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        see(name, layer, inputs[0].detach().flatten(0, -2))

    stack = ExitStack()
    for name, layer in layers:
        stack.enter_context(layer.register_forward_pre_hook(partial(hook, name)))
    return stack


def layer_inputs(
    model: nn.Module, forward: Callable[[], Tensor]
) -> tuple[dict[str, Tensor], Tensor]:
    """What enters each of ``named_layers`` in a forward pass, and the outputs.

    With several heads: what enters the one that is called.
    """
    inputs: dict[str, Tensor] = {}
    named = [(name, m) for name, group in named_layers(model).items() for m in group]
    with watching(named, lambda name, layer, x: inputs.update({name: x})):
        return inputs, forward()


@torch.no_grad()
def layer_bases(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer's bases (a linear layer's inputs), ``(n, in_features, n_basis)``."""
    return layer.b_splines(x) if isinstance(layer, KANLinear) else x.unsqueeze(-1)


@torch.no_grad()
def layer_weights(layer: nn.Module) -> Tensor:
    """A copy of what multiplies the bases, ``(in_features, n_basis, out_features)``."""
    if isinstance(layer, KANLinear):
        return layer.scaled_coefficients.detach().clone()
    assert isinstance(layer, nn.Linear)
    return layer.weight.detach().T.unsqueeze(1).clone()


@torch.no_grad()
def off_grid_shares(model: nn.Module, x: Tensor) -> list[float]:
    """For every spline layer, the share of its ``(n, in_features)`` inputs off its grid.

    Growing or several heads count as one layer, the last. Empty without a KAN.
    """
    network = spline_network(model)
    if network is None:
        return []
    shares: list[float] = network.off_grid_share(x)
    own = set(network.modules())
    heads = [layer for layer in kan_layers(model).values() if layer not in own]
    if heads:
        features = network.features(x)
        each = [head.off_grid_share(features) for head in heads]
        shares.append(sum(each) / len(each))
    return shares


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode while this is open; then each module gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def rows_by_task(task_labels: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Every task label, ascending, with the numbers of its rows."""
    for task in task_labels.unique().tolist():
        yield task, (task_labels == task).nonzero().flatten()


@torch.no_grad()
def evaluate_in_chunks(
    model: nn.Module,
    x: Tensor,
    task_labels: Tensor,
    *,
    device: torch.device | str | None = None,
    chunk: int = ROWS,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield row numbers and the outputs for them, task label by task label.

    The model is in evaluation mode until the last chunk, of at most ``chunk`` rows, is
    taken. Row numbers ascend where all samples have one task label.

    Args:
        device: where the model is; None: where ``x`` is.
    """
    with eval_mode(model):
        for task, rows in rows_by_task(task_labels):
            for part in rows.split(chunk):
                inputs = x[part.to(x.device)].to(device or x.device)
                yield part, avalanche_forward(model, inputs, task)
