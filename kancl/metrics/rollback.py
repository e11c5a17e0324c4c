"""Which parameters carried the forgetting: put a group back and measure again."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kancl.models.heads import GrowingHead
from kancl.models.inspect import state_groups


class Rollback(NamedTuple):
    """Accuracy (or whatever is measured) on an old experience.

    Args:
        now: with nothing put back.
        regained: by group, with that group alone as it was; ``all`` is the old value.
    """

    now: float
    regained: dict[str, float]

    @property
    def then(self) -> float:
        return self.regained["all"]

    @property
    def forgotten(self) -> float:
        return self.then - self.now

    def share(self, group: str) -> float | None:
        """Of what was forgotten, the part that a group alone brings back; None if
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

    The model is as it was when it is done.

    Args:
        then: its state dict after the old experience, on the model's device.
        evaluate: measures a model on the old experience.
    """
    regained = {}
    for name, keys in state_groups(model).items():
        with put_back(model, then, keys) as earlier:
            regained[name] = evaluate(earlier)
    return Rollback(evaluate(model), regained)


@contextmanager
def put_back(
    model: nn.Module, then: Mapping[str, Tensor], keys: Iterable[str]
) -> Iterator[nn.Module]:
    """As ``rolled_back``, for a while: the model itself, where values alone differ."""
    chosen, state = set(keys), model.state_dict()
    parameters = dict(model.named_parameters())
    values_alone = all(
        key in then
        and now.shape == then[key].shape
        and (key in parameters or torch.equal(now, then[key]))
        for key, now in state.items()
        if key in chosen
    )
    if not values_alone:
        yield rolled_back(model, then, chosen)
        return
    swapped = {key: parameters[key].data for key in chosen & parameters.keys()}
    try:
        for key in swapped:
            parameters[key].data = then[key].detach()
        yield model
    finally:
        for key, now in swapped.items():
            parameters[key].data = now


@torch.no_grad()
def rolled_back(
    model: nn.Module, then: Mapping[str, Tensor], keys: Iterable[str]
) -> nn.Module:
    """A copy of the model with these parts of its state as they were ``then``.

    Heads that did not exist then are gone with the group they belong to; a grid that has
    grown since shrinks again with its splines.
    """
    copy = deepcopy(model)
    chosen = set(keys)
    for name, module in copy.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, GrowingHead) and f"{prefix}head_of_class" in chosen:
            module.keep_heads(int(then[f"{prefix}head_of_class"].max()) + 1)
    state = copy.state_dict()
    state |= {key: then[key] for key in state if key in chosen and key in then}
    copy.load_state_dict(state)
    return copy
