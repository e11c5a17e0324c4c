"""Last layers that Avalanche can adapt: single, growing with the classes, one per task.

Parameters of a head are only ever added, never replaced: optimizers keep their state,
importances keep their shapes.
"""

from typing import Any, Literal, Protocol, get_args

import torch
from avalanche.models import DynamicModule, MultiTaskModule
from torch import Tensor, nn

HeadKind = Literal["single", "growing", "multi"]

UNSEEN = -1000.0
"""Output for a class that has not been seen, as Avalanche's ``mask_value``."""


class Network(Protocol):
    """What a model needs, to be given any head."""

    def features(self, x: Tensor) -> Tensor: ...

    def make_head(self, n_outputs: int) -> nn.Module: ...


def with_head(network: nn.Module, kind: HeadKind, n_outputs: int) -> nn.Module:
    """Put a network behind the head that an incremental kind wants.

    Args:
        network: has ``features(x)``, ``make_head(n)`` and, for a single head, is
            complete itself.
        kind: ``single``: all classes from the start; ``growing``: the classes seen so
            far; ``multi``: a head per task label.
        n_outputs: outputs of the single head, most outputs of a growing one, outputs
            of each of several heads.

    Shape: ``(batch, ...)`` -> ``(batch, outputs)``; inputs are flattened.

    Raises: ValueError for another ``kind`` or fewer than one output.
    """
    if n_outputs < 1:
        raise ValueError(f"n_outputs must be at least 1, got {n_outputs}")
    if kind == "single":
        return SingleHead(network)
    if kind == "growing":
        return GrowingHead(network, n_outputs)
    if kind == "multi":
        return MultiHead(network, n_outputs)
    raise ValueError(f"head must be one of {get_args(HeadKind)}, got {kind!r}")


class SingleHead(nn.Module):
    """A complete network, fed flattened inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flatten(1))


class GrowingHead(DynamicModule):
    """Outputs for the classes seen so far; each experience's new ones get a head.

    As wide as the highest class seen requires; classes below it that were not seen
    yet give ``UNSEEN``.

    Args:
        max_outputs: number of classes that can ever come.
    """

    def __init__(self, network: nn.Module, max_outputs: int) -> None:
        super().__init__()
        self.network = _without_head(network)
        self.max_outputs = max_outputs
        self.heads = nn.ModuleList()
        self.classes: list[list[int]] = []
        """Class ids of each head's outputs."""

    def adaptation(self, experience: Any) -> None:
        """Add a head for the classes of a training experience not seen before."""
        if not self.training:
            return
        known = {c for group in self.classes for c in group}
        new = sorted(set(experience.classes_in_this_experience) - known)
        if not new:
            return
        if new[-1] >= self.max_outputs:
            raise ValueError(
                f"class {new[-1]} of experience {experience.current_experience} is "
                f"beyond the head's {self.max_outputs} outputs"
            )
        device = next(self.network.parameters(), torch.empty(0)).device
        self.heads.append(self.network.make_head(len(new)).to(device))
        self.classes.append(new)

    def forward(self, x: Tensor) -> Tensor:
        if not self.heads:
            raise RuntimeError("the head is empty until an experience adapts it")
        features = self.network.features(x.flatten(1))
        order = [c for group in self.classes for c in group]
        outputs = torch.cat([head(features) for head in self.heads], 1)
        if order == list(range(len(order))):
            return outputs
        columns = torch.tensor(order, device=outputs.device).expand_as(outputs)
        masked = outputs.new_full((len(outputs), max(order) + 1), UNSEEN)
        return masked.scatter(1, columns, outputs)  # (batch, highest class + 1)


class MultiHead(MultiTaskModule):
    """A head of its own for every task label, each ``n_outputs`` wide."""

    def __init__(self, network: nn.Module, n_outputs: int) -> None:
        super().__init__()
        self.network = _without_head(network)
        self.n_outputs = n_outputs
        self.heads = nn.ModuleDict()

    def adaptation(self, experience: Any) -> None:
        """Add the heads of task labels that a training experience brings."""
        super().adaptation(experience)
        if not self.training:
            return
        device = next(self.network.parameters(), torch.empty(0)).device
        for label in sorted(set(experience.task_labels)):
            if str(label) not in self.heads:
                head = self.network.make_head(self.n_outputs)
                self.heads[str(label)] = head.to(device)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        head = self.heads[str(task_label)]
        return head(self.network.features(x.flatten(1)))


def _without_head(network: Any) -> Any:
    """The network less its last layer, which heads from ``make_head`` replace."""
    network.remove_head()
    return network
