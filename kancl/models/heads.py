"""Last layers that Avalanche can adapt: single, growing with the classes, one per task."""

# Parameters of a head are only ever added, never replaced: optimizers keep their state,
# importances keep their shapes. Only training adds heads, and loading a state dict that
# has more of them; evaluating never does.

from collections.abc import Iterable
from typing import Any, Literal, get_args

import torch
from avalanche.models import DynamicModule, MultiTaskModule
from avalanche.models.base_model import BaseModel
from torch import Tensor, nn

from kancl.models.kan_linear import KANLinear
from kancl.models.layer_features import linear_twin

HeadKind = Literal["single", "growing", "multi"]

UNSEEN = -1000.0  # output for a class not seen yet, as Avalanche's mask_value


def with_head(network: nn.Module, kind: HeadKind, n_outputs: int) -> nn.Module:
    """Put a network behind the head that an incremental kind wants.

    Args:
        network: complete for a single head; for others it has ``features(x)``,
            ``make_head(n)`` and ``remove_head()``, as ``KAN`` and ``MLP`` do.
        kind: ``single``: all classes from the start; ``growing``: the classes seen so
            far; ``multi``: a head per task label.
        n_outputs: outputs of the single or growing head, or of each of several.
    Shape: ``(batch, ...)`` -> ``(batch, outputs)``; inputs are flattened.
    """
    if n_outputs < 1:
        raise ValueError(f"n_outputs must be at least 1, got {n_outputs}")
    if kind not in get_args(HeadKind):
        raise ValueError(f"head must be one of {get_args(HeadKind)}, got {kind!r}")
    if kind == "single":
        return SingleHead(network)
    return (GrowingHead if kind == "growing" else MultiHead)(network, n_outputs)


def replace_network(model: nn.Module, network: Any) -> None:
    """Put another network and fresh heads of the same kind in the place of a model's.

    Raises: ValueError for a model that ``with_head`` did not make.
    """
    if isinstance(model, GrowingHead):
        sizes = [len(classes) for classes in model.classes]
        model.heads = nn.ModuleList(map(network.make_head, sizes))
        network.remove_head()
    elif isinstance(model, MultiHead):
        fresh = {label: network.make_head(model.n_outputs) for label in model.heads}
        model.heads = nn.ModuleDict(fresh)
        network.remove_head()
    elif not isinstance(model, SingleHead):
        raise ValueError(
            "a network is replaced in models from kancl.models.heads.with_head, got "
            f"{type(model).__name__}: put it behind a head first instead"
        )
    model.network = network


class SingleHead(nn.Module):
    """A complete network, fed flattened inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flatten(1))


class LinearClassifier(nn.Module, BaseModel):
    """A network for Avalanche's methods that look for a last ``nn.Linear``.

    CWR*, CoPE, LFL and feature replay work with it, and iCaRL with its two parts,
    ``feature_extractor`` and ``classifier``. The last layer of a KAN becomes an
    ``nn.Linear`` behind its bases, the same function to rounding; its grid stays from
    then on. An MLP's last layer is taken as it is. StreamingLDA needs
    ``output_layer_name="feature_extractor", input_size=model.classifier.in_features``;
    FeCAM needs ``FeCAMClassifier(tukey=False)``, as features may be negative.

    Args:
        network: a ``KAN`` or ``MLP`` with its last layer, not behind a head.
    Shape: ``(batch, ...)`` -> ``(batch, outputs)``; inputs are flattened.
    Raises: ValueError for a model that is behind a head, or has none.

    >>> model = LinearClassifier(KAN([784, 64, 10]))
    >>> strategy = CWRStar(model=model, cwr_layer_name="classifier", ...)
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        head = getattr(network, "head", None)
        if not isinstance(head, (KANLinear, nn.Linear)):
            raise ValueError(
                "LinearClassifier takes a network with its last layer, a KAN or an MLP as "
                f"kancl.models makes them, got {type(network).__name__}"
            )
        parts: list[nn.Module] = [nn.Flatten(), _Features(network)]
        if isinstance(head, KANLinear):
            bases, head = linear_twin(head)
            parts.append(bases)
        self.feature_extractor = nn.Sequential(*parts)
        network.remove_head()
        self.classifier = head

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.feature_extractor(x))

    def get_features(self, x: Tensor) -> Tensor:
        """What enters the last ``nn.Linear``: ``(batch, n_features)``."""
        return self.feature_extractor(x)


class _Features(nn.Module):
    """Everything of a network before its last layer."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network.features(x)


class GrowingHead(DynamicModule):
    """Outputs for the classes seen so far; each experience's new ones get a head.

    Always ``n_outputs`` wide: a class that was not seen yet gives ``UNSEEN``, which no
    softmax notices.
    """

    def __init__(self, network: Any, n_outputs: int) -> None:
        super().__init__()
        network.remove_head()
        self.network = network
        self.n_outputs = n_outputs
        self.heads = nn.ModuleList()
        self.classes: list[list[int]] = []  # ids of each head's outputs, ascending
        self.head_of_class: Tensor  # of each class, for the state dict; -1: none yet
        self.register_buffer("head_of_class", torch.full((n_outputs,), -1))
        self.columns: Tensor  # classes in the order of the heads' outputs
        none = torch.empty(0, dtype=torch.long)
        self.register_buffer("columns", none, persistent=False)

    def adaptation(self, experience: Any) -> None:
        """Add a head for the classes of a training experience not seen before."""
        new = set(experience.classes_in_this_experience).difference(*self.classes)
        if self.training and new:
            _check_classes(experience, self.n_outputs)
            self._add_head(sorted(new))

    def forward(self, x: Tensor) -> Tensor:
        features = self.network.features(x.flatten(1))
        masked = features.new_full((len(features), self.n_outputs), UNSEEN)
        if not self.heads:
            return masked
        outputs = torch.cat([head(features) for head in self.heads], 1)
        columns = self.columns.expand_as(outputs)
        return masked.to(outputs.dtype).scatter(1, columns, outputs)

    def keep_heads(self, n: int) -> None:
        """Drop all heads but the first ``n``; their classes were not seen then."""
        del self.heads[n:]
        del self.classes[n:]
        self.head_of_class[self.head_of_class >= n] = -1
        self.columns = self.columns[: sum(map(len, self.classes))]

    def _add_head(self, classes: list[int]) -> None:
        columns = torch.tensor(classes, device=self.head_of_class.device)
        self.head_of_class[columns] = len(self.heads)
        self.columns = torch.cat([self.columns, columns])
        self.heads.append(_fresh_head(self.network, len(classes)))
        self.classes.append(classes)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *arguments: Any
    ) -> None:
        of_class = state_dict.get(f"{prefix}head_of_class")
        if of_class is not None and of_class.shape == self.head_of_class.shape:
            heads = range(int(of_class.max()) + 1)
            groups = [torch.nonzero(of_class == k).flatten().tolist() for k in heads]
            if groups[: len(self.classes)] == self.classes:
                for classes in groups[len(self.classes) :]:
                    self._add_head(classes)
            else:
                *_, errors = arguments
                errors.append(
                    f"the heads are for the classes {self.classes}, those of the state "
                    f"for {groups}: load it into a network before it is trained"
                )
        super()._load_from_state_dict(state_dict, prefix, *arguments)


class MultiHead(MultiTaskModule):
    """A head of its own for every task label, each ``n_outputs`` wide.

    A task label without a head gives ``UNSEEN`` throughout.
    """

    def __init__(self, network: Any, n_outputs: int) -> None:
        super().__init__()
        network.remove_head()
        self.network = network
        self.n_outputs = n_outputs
        self.max_class_label = n_outputs  # width of MultiTaskModule's output
        self.heads = nn.ModuleDict()
        self._read: tuple[Tensor | None, int, int] = None, 0, 0

    def forward(self, x: Tensor, task_labels: Any) -> Any:
        """Outputs by the samples' task labels; of all heads by label for None."""
        if isinstance(task_labels, Tensor):
            label = self._only_label(task_labels)
            task_labels = task_labels if label is None else label
        return super().forward(x, task_labels)

    def _only_label(self, labels: Tensor) -> int | None:
        """The value that all labels show, of one place in memory; None if there are more.

        It is read, and a GPU waited for, once: what was read holds for the same tensor.
        """
        place = labels._base
        if place is None or place.dim() > 0 or torch.compiler.is_compiling():
            return None
        known, version, label = self._read
        if known is not place or version != place._version:
            label = int(place)
            self._read = place, place._version, label
        return label

    def adaptation(self, experience: Any) -> None:
        """Add the heads of task labels that a training experience brings."""
        _check_classes(experience, self.n_outputs)
        super().adaptation(experience)
        if self.training:
            self._add_heads(map(str, sorted(set(experience.task_labels))))

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        features = self.network.features(x.flatten(1))
        if str(task_label) not in self.heads:
            return features.new_full((len(x), self.n_outputs), UNSEEN)
        return self.heads[str(task_label)](features)

    def _add_heads(self, labels: Iterable[str]) -> None:
        for label in labels:
            if label not in self.heads:
                self.heads[label] = _fresh_head(self.network, self.n_outputs)

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *arguments: Any
    ) -> None:
        start = f"{prefix}heads."
        names = [k.removeprefix(start) for k in state_dict if k.startswith(start)]
        self._add_heads(name.split(".")[0] for name in names)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def _fresh_head(network: Any, n_outputs: int) -> nn.Module:
    """A head on the device of the network's parameters."""
    parameter = next(network.parameters(), None)
    head: nn.Module = network.make_head(n_outputs)
    return head if parameter is None else head.to(parameter.device)


def _check_classes(experience: Any, n_outputs: int) -> None:
    """Raises: ValueError if a class id of the experience is not below ``n_outputs``."""
    last = max(experience.classes_in_this_experience)
    if last >= n_outputs:
        raise ValueError(
            f"class {last} of experience {experience.current_experience + 1} is beyond "
            f"the head's {n_outputs} outputs; n_outputs is to be higher"
        )
