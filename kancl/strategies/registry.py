"""The strategies by name."""

from __future__ import annotations

from collections.abc import Callable

from avalanche.training.templates import SupervisedTemplate

from kancl.strategies.baselines import cumulative, from_scratch, joint, naive
from kancl.strategies.combinations import ewc_replay, lwf_ewc, lwf_replay, si_replay
from kancl.strategies.locality import (
    gram,
    gram_ewc,
    labels_trick,
    labels_trick_gram,
    occupancy,
)
from kancl.strategies.readouts import nearest_mean, ridge_readout, spline_bayes
from kancl.strategies.regularization import (
    ewc,
    ewc_batched,
    l2_anchor,
    lwf,
    mas,
    online_ewc,
    si,
)
from kancl.strategies.rehearsal import agem, der, er_ace, gdumb, gem, mir, replay

STRATEGIES: dict[str, Callable[..., SupervisedTemplate]] = {
    "naive": naive,
    "joint": joint,
    "cumulative": cumulative,
    "from_scratch": from_scratch,
    "replay": replay,
    "ewc": ewc,
    "ewc_batched": ewc_batched,
    "online_ewc": online_ewc,
    "si": si,
    "lwf": lwf,
    "mas": mas,
    "l2_anchor": l2_anchor,
    "agem": agem,
    "gem": gem,
    "er_ace": er_ace,
    "der": der,
    "gdumb": gdumb,
    "mir": mir,
    "ewc_replay": ewc_replay,
    "si_replay": si_replay,
    "lwf_replay": lwf_replay,
    "lwf_ewc": lwf_ewc,
    "labels_trick": labels_trick,
    "occupancy": occupancy,
    "gram": gram,
    "gram_ewc": gram_ewc,
    "labels_trick_gram": labels_trick_gram,
    "ridge_readout": ridge_readout,
    "nearest_mean": nearest_mean,
    "spline_bayes": spline_bayes,
}
"""Builders: of the setup and, keyword-only, the ``strategy.*`` options."""


def trains_jointly(name: str) -> bool:
    """Whether the strategy trains once on the whole stream, not once per experience."""
    return STRATEGIES[name] is joint


def trains_last_layer_only(name: str) -> bool:
    """Whether the strategy leaves all layers but the last as they were initialised."""
    return STRATEGIES[name] in (ridge_readout, nearest_mean, spline_bayes)
