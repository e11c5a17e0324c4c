"""Which parameters carried the forgetting: put a group back and measure again."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kancl.models.heads import GrowingHead
from kancl.models.inspect import state_groups


@dataclass(frozen=True)
class Rollback:
    """Accuracy (or whatever is measured) on an old experience.

    Args:
        now: with nothing put back.
        regained: by group, with that group alone as it was; ``all`` is the old value.
    """

    now: float
    regained: Mapping[str, float]

    @property
    def values(self) -> dict[str, float]:
        """By group, with ``nothing`` first and ``all`` last."""
        return {"nothing": self.now, **self.regained}

    @property
    def then(self) -> float:
        return self.regained["all"]

    @property
    def forgotten(self) -> float:
        return self.then - self.now

    def share(self, group: str) -> float | None:
        """The part of what was forgotten that a group alone brings back; None if
        nothing was forgotten. Shares need not add up to 1: groups act together.
        """
        lost = self.forgotten
        return (self.regained[group] - self.now) / lost if lost else None


def rollback(
    model: nn.Module,
    then: Mapping[str, Tensor],
    evaluate: Callable[[nn.Module], float],
) -> Rollback:
    """Put back each group of ``state_groups``, one at a time, as it was ``then``.

    Args:
        then: its state dict after the old experience.
        evaluate: measures a model on the old experience.
    """
    regained = {}
    for name, keys in state_groups(model).items():
        with put_back(model, then, keys) as earlier:
            regained[name] = evaluate(earlier)
    return Rollback(evaluate(model), regained)


@contextmanager
def put_back(
    model: nn.Module, then: Mapping[str, Tensor], keys: Iterable[str] | None = None
) -> Iterator[nn.Module]:
    """``rolled_back`` for a while: the model itself, unless more than values differ."""
    state, parameters = model.state_dict(), dict(model.named_parameters())
    chosen = set(state if keys is None else keys)
    then = {key: then[key].to(state[key].device) for key in chosen if key in then}
    if any(
        key not in then
        or then[key].shape != state[key].shape
        or not (key in parameters or torch.equal(then[key], state[key]))
        for key in chosen
    ):
        yield rolled_back(model, then, chosen)
        return
    now = {key: parameters[key].data for key in chosen & parameters.keys()}
    try:
        for key in now:
            parameters[key].data = then[key]
        yield model
    finally:
        for key, value in now.items():
            parameters[key].data = value


@torch.no_grad()
def rolled_back(
    model: nn.Module, then: Mapping[str, Tensor], keys: Iterable[str] | None = None
) -> nn.Module:
    """A copy of the model with parts of its state (None: all) as they were ``then``.

    Heads that did not exist then are gone with the group they belong to; a grid that has
    grown since shrinks again with its splines.
    """
    copy = deepcopy(model)
    chosen = set(copy.state_dict() if keys is None else keys)
    for name, module in copy.named_modules():
        head = f"{name}.head_of_class" if name else "head_of_class"
        if isinstance(module, GrowingHead) and head in chosen:
            module.keep_heads(int(then[head].max()) + 1)
    state = copy.state_dict()
    state |= {key: then[key] for key in state if key in chosen and key in then}
    copy.load_state_dict(state)
    return copy
