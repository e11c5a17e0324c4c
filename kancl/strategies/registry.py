"""The strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from avalanche.training.templates import SupervisedTemplate

from kancl.strategies.baselines import cumulative, from_scratch, joint, naive
from kancl.strategies.rehearsal import replay

STRATEGIES: dict[str, Callable[..., SupervisedTemplate]] = {
    "naive": naive,
    "joint": joint,
    "cumulative": cumulative,
    "from_scratch": from_scratch,
    "replay": replay,
}


def trains_jointly(name: str) -> bool:
    """Whether the strategy trains once on the whole stream, not once per experience."""
    return STRATEGIES[name] is joint
