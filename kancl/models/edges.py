"""How much every edge and node of a KAN matters, and KANs without those that don't."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kancl.models.hidden_control import controlled
from kancl.models.kan_linear import KANLinear
from kancl.models.sparsity import l1_and_entropy

By = Literal["attribution", "l1"]

NUMBERS_AT_ONCE = 2**20
"""Values of edge functions that are in memory together."""


@dataclass(frozen=True)
class EdgeScores:
    """How much edges and nodes matter on given samples, layer by layer.

    Attributes:
        l1: mean absolute values of the edges' functions, ``(in, out)`` each.
        attribution: shares of the outputs' variation that an edge explains: ``B = A_j E /
            N_j``, ``E`` the standard deviation of its function, ``N_j`` that of the node
            it leads to, ``A_j`` that node's own score; ``(in, out)`` each.
        nodes: ``A``: 1 for an output, else the sum of ``B`` over the edges that leave the
            node; ``(n,)`` each, from the inputs to the outputs.
    Source: L1: Liu et al. 2024, arXiv:2404.19756, section 2.5.1; attribution: Liu et al.
        2024, KAN 2.0, arXiv:2408.10205, section 4.1.
    """

    l1: list[Tensor]
    attribution: list[Tensor]
    nodes: list[Tensor]

    def relative(self, by: By = "attribution") -> list[Tensor]:
        """The edges' scores, divided by the largest of their layer."""
        scores = self.attribution if by == "attribution" else self.l1
        return [score / _largest(score) for score in scores]

    def hidden_nodes(self, by: By = "attribution") -> list[Tensor]:
        """The hidden nodes' scores, divided by the largest of their layer.

        ``l1``: the smaller one of a node's strongest edge in and strongest edge out.
        """
        if by == "attribution":
            return [node / _largest(node) for node in self.nodes[1:-1]]
        edges = self.relative("l1")
        return [
            torch.minimum(before.amax(0), after.amax(1))
            for before, after in zip(edges, edges[1:])
        ]


@torch.no_grad()
def edge_scores(network: Any, x: Tensor, heads: Sequence[KANLinear] = ()) -> EdgeScores:
    """What the edges of a KAN contribute on samples.

    Args:
        network: a ``KAN``; without its last layer if there are heads.
        x: samples, ``(n, in_features)``; two or more.
        heads: last layers on its features, taken as one.
    Raises: ValueError for fewer than two samples.
    """
    if len(x) < 2:
        raise ValueError(f"scores need two samples or more, got {len(x)}")
    l1, spreads, node_spreads = [], [], []
    for layers, inputs in layers_with_inputs(network, x, heads):
        size, spread, node_spread = _moments(layers, inputs)
        l1.append(size)
        spreads.append(spread)
        node_spreads.append(node_spread)
    nodes = [torch.ones_like(node_spreads[-1])]
    attribution: list[Tensor] = []
    for spread, node_spread in zip(reversed(spreads), reversed(node_spreads)):
        share = spread / node_spread.where(node_spread > 0, torch.inf)
        attribution.insert(0, share * nodes[0])
        nodes.insert(0, attribution[0].sum(1))
    return EdgeScores(l1, attribution, nodes)


def layers_with_inputs(
    network: Any, x: Tensor, heads: Sequence[KANLinear] = ()
) -> Iterator[tuple[list[KANLinear], Tensor]]:
    """The layers of a KAN, heads together as the last one, each with what enters it."""
    groups = [[layer] for layer in network.layers] + [list(heads)] * bool(heads)
    for number, layers in enumerate(groups):
        if number > 0:
            x = controlled(x, network.hidden_control, network.top_k)
        yield layers, x
        if number + 1 < len(groups):
            x = layers[0](x)


def sparsity_loss(
    layers: Sequence[tuple[KANLinear, Tensor]], l1: float, entropy: float
) -> Tensor:
    """``sum_l (l1 |Phi_l|_1 + entropy S(Phi_l))`` of layers with what enters them.

    ``|Phi|_1``: sum over a layer's edges of the mean absolute values of their functions;
    ``S``: entropy of the edges' shares of it.

    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5.1, eq. 2.17 to 2.20.
    """
    losses = [
        l1_and_entropy(layer.edge_outputs(x).abs().mean(0), l1, entropy)
        for layer, x in layers
    ]
    return torch.stack(losses).sum()


@dataclass(frozen=True)
class Pruning:
    """A pruned network, and what it cost.

    Attributes:
        network: the smaller KAN, of parameters of its own.
        measure: ``accuracy`` or ``rmse``.
        before, after: its value on the samples that the scores were taken from.
        n_edges, n_hidden_nodes: before and after.
    """

    network: Any
    measure: str
    before: float
    after: float
    n_edges: tuple[int, int]
    n_hidden_nodes: tuple[int, int]

    def __str__(self) -> str:
        edges, nodes = self.n_edges, self.n_hidden_nodes
        return (
            f"{self.measure} {self.before:.4g} -> {self.after:.4g}, edges {edges[0]:,} -> "
            f"{edges[1]:,}, hidden nodes {nodes[0]:,} -> {nodes[1]:,}"
        )


@torch.no_grad()
def prune(
    network: Any,
    x: Tensor,
    y: Tensor,
    *,
    edge_threshold: float = 3e-2,
    node_threshold: float = 1e-2,
    by: By = "attribution",
) -> Pruning:
    """A copy of a KAN without the hidden nodes and edges that matter little.

    Nodes are taken out of the layers. Edges are masked: their functions are 0 and stay 0,
    whatever trains, refines or loads the layers. The copy's parameters are new ones; give
    them an optimizer. With ``hidden_control=layernorm_tanh`` a node that is gone changes
    the others' values too.

    Args:
        network: with its last layer; it stays as it is.
        x, y: samples that the scores and the cost are taken from, ``(n, in_features)``
            and class ids ``(n,)`` or values ``(n, out_features)``.
        edge_threshold, node_threshold: edges and nodes whose score is a smaller share of
            the largest of their layer are pruned, and nodes that have no edge out left.
        by: the score, see ``EdgeScores``.
    Raises: ValueError for a threshold outside [0, 1], another score, a network without its
        last layer, or shapes that don't fit.
    Source: Liu et al. 2024, arXiv:2404.19756, section 2.5.1; arXiv:2408.10205. Differs:
        thresholds are shares of the largest score, so that they serve any width.
    """
    for name, value in ("edge", edge_threshold), ("node", node_threshold):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}_threshold is a share from 0 to 1, got {value}")
    if by not in get_args(By):
        raise ValueError(f"by must be one of {', '.join(get_args(By))}, got {by!r}")
    if len(network.layers) == network._n_hidden:
        raise ValueError(
            "this KAN's last layer was taken off (a growing or multi head): prune a "
            "network with a single head"
        )
    measure, judge = _judge(y)
    before = judge(network(x))
    scores = edge_scores(network, x)
    nodes = [score >= node_threshold for score in scores.hidden_nodes(by)]
    edges = [
        (score >= edge_threshold) & _alive(layer)
        for score, layer in zip(scores.relative(by), network.layers)
    ]
    for k in reversed(range(len(nodes))):  # what leads nowhere matters nothing
        edges[k + 1] &= nodes[k].unsqueeze(1)
        nodes[k] &= edges[k + 1].any(1)
        edges[k] &= nodes[k]
        if not nodes[k].any():
            raise ValueError(
                f"no node of hidden layer {k + 1} matters on these samples: train the "
                "network first, or lower the thresholds"
            )
    pruned = deepcopy(network)
    ends = [torch.ones(n, dtype=torch.bool, device=x.device) for n in _ends(network)]
    kept = [ends[0], *nodes, ends[1]]
    for layer, mask, inputs, outputs in zip(pruned.layers, edges, kept, kept[1:]):
        _cut(layer, mask, inputs, outputs)
    pruned.feature_dim = pruned.layers[-1].in_features
    head = pruned._head
    pruned._head = partial(head.func, pruned.feature_dim, **head.keywords)
    return Pruning(
        pruned,
        measure,
        before,
        judge(pruned(x)),
        (n_edges(network), n_edges(pruned)),
        (sum(map(len, nodes)), sum(int(node.sum()) for node in nodes)),
    )


def n_edges(model: nn.Module) -> int:
    """Edges that are not pruned."""
    layers = (m for m in model.modules() if isinstance(m, KANLinear))
    return sum(int(_alive(layer).sum()) for layer in layers)


def _alive(layer: KANLinear) -> Tensor:
    if layer.edge_mask is not None:
        return layer.edge_mask > 0
    shape = layer.in_features, layer.out_features
    return torch.ones(shape, dtype=torch.bool, device=layer.grid.device)


def _ends(network: Any) -> tuple[int, int]:
    return network.layers[0].in_features, network.layers[-1].out_features


def _largest(score: Tensor) -> Tensor:
    top = score.max()
    return torch.where(top > 0, top, torch.ones_like(top))


def _moments(layers: Sequence[KANLinear], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean absolute values and standard deviations of edges, the latter of nodes too."""
    width = sum(layer.out_features for layer in layers)
    rows = max(1, NUMBERS_AT_ONCE // (layers[0].in_features * width))
    sums: list[Tensor] = []
    first: Tensor | None = None
    for part in x.split(rows):
        edges = torch.cat([layer.edge_outputs(part) for layer in layers], -1)
        first = edges[0] if first is None else first
        moved = edges - first  # a constant edge has a deviation of exactly 0
        nodes = moved.sum(1)
        new = [edges.abs(), moved, moved.square(), nodes, nodes.square()]
        added = [each.sum(0).double() for each in new]
        sums = [a + b for a, b in zip(sums, added)] if sums else added
    size, edge, edge2, node, node2 = (each / len(x) for each in sums)
    spreads = [
        (b - a * a).clamp(min=0).sqrt() for a, b in ((edge, edge2), (node, node2))
    ]
    return size, spreads[0], spreads[1]


def _cut(layer: KANLinear, mask: Tensor, inputs: Tensor, outputs: Tensor) -> None:
    """Keep the inputs and outputs that are True, and of their edges those of ``mask``."""
    layer.in_features, layer.out_features = int(inputs.sum()), int(outputs.sum())
    for name in ("grid", "anchor", "warp"):
        if (buffer := getattr(layer, name)) is not None:
            setattr(layer, name, buffer[inputs])
    parts: dict[str, Callable[[Tensor], Tensor]] = {
        "coefficients": lambda c: c[inputs][:, :, outputs],
        "edge_scale": lambda s: s[inputs][:, outputs],
        "base_weight": lambda w: w[outputs][:, inputs],
    }
    for name, part in parts.items():
        if (old := getattr(layer, name)) is not None:
            new = nn.Parameter(part(old.data).contiguous(), old.requires_grad)
            setattr(layer, name, new)
    mask = mask[inputs][:, outputs]
    # Of floats, which averages of models can take.
    layer.edge_mask = None if bool(mask.all()) else mask.to(layer.grid.dtype)


def _judge(y: Tensor) -> tuple[str, Callable[[Tensor], float]]:
    """Accuracy of class ids, root mean square error of values."""
    values = y.is_floating_point()

    def judge(outputs: Tensor) -> float:
        shape = outputs.shape if values else outputs.shape[:1]
        if y.shape != shape:
            raise ValueError(f"expected y of shape {[*shape]}, got {[*y.shape]}")
        if values:
            return float((outputs - y).square().mean().sqrt())
        return float((outputs.argmax(1) == y).double().mean())

    return "rmse" if values else "accuracy", judge
