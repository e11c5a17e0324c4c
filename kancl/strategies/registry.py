"""The strategies by name: each a list of plugins, on an Avalanche strategy class."""

from collections import Counter

from kancl.config import Group, Part
from kancl.plugins.outputs import lwf, present_classes, readout
from kancl.plugins.penalties import ewc, importances
from kancl.plugins.plugin import Plugin
from kancl.plugins.rehearsal import replay, retraining
from kancl.plugins.steps import frozen, grid_growth, step_preconditioner
from kancl.strategies import bases

STRATEGIES: dict[str, list[type[Plugin] | type[bases.Base]]] = {
    "naive": [bases.Base],
    "joint": [bases.JointBase],
    "cumulative": [bases.CumulativeBase],
    "from_scratch": [retraining.FromScratchPlugin],
    "replay": [replay.ReplayPlugin],
    "ewc": [ewc.EWCPlugin],
    "ewc_batched": [ewc.BatchedEWCPlugin],
    "si": [importances.SynapticIntelligencePlugin],
    "lwf": [lwf.LwFPlugin],
    "mas": [importances.MASPlugin],
    "l2_anchor": [importances.L2AnchorPlugin],
    "agem": [replay.AGEMPlugin],
    "gem": [replay.GEMPlugin],
    "er_ace": [bases.ERACEBase],
    "der": [bases.DERBase],
    "gdumb": [retraining.MemoryOnlyPlugin, retraining.FromScratchPlugin],
    "mir": [replay.MIRPlugin],
    "labels_trick": [present_classes.LabelsTrickPlugin],
    "occupancy": [step_preconditioner.OccupancyPlugin],
    "gram": [step_preconditioner.GramPlugin],
    "lazy": [frozen.LazyStepsPlugin],
    "freeze_base": [frozen.FrozenBasePlugin],
    "hard_mask": [frozen.HardMaskPlugin],
    "drift_penalty": [importances.DriftPenaltyPlugin],
    "grow_grids": [grid_growth.GridGrowthPlugin],
    "ridge_readout": [readout.RidgeReadoutPlugin, bases.ForwardOnlyBase],
    "nearest_mean": [readout.NearestMeanPlugin, bases.ForwardOnlyBase],
    "spline_bayes": [readout.SplineBayesPlugin, bases.ForwardOnlyBase],
}
"""Plugins and, where it is not Avalanche's Naive, the base that they are put on.

Any sum of names is a strategy as well: ``ewc+replay``. Names with tuned values are
presets, in ``configs/strategy``.
"""


def parts(name: str) -> list[Part]:
    """Return the classes that a name, or a sum of names, stands for.

    Raises: KeyError for a name that there is not; ValueError for a sum that adds
        nothing.
    """
    names = name.split("+")
    if "naive" in names and len(names) > 1:
        others = "+".join(other for other in names if other != "naive")
        raise ValueError(
            f"strategy={name}: naive adds nothing to a sum; use strategy={others} instead"
        )
    found = []
    for word in names:
        first, *rest = STRATEGIES[word]
        found += [Part(word, first), *(Part(f"{word}.{c.__name__}", c) for c in rest)]
    (cls, n), *_ = Counter(part.builder for part in found).most_common(1)
    if n > 1:
        raise ValueError(
            f"strategy={name} has {cls.__name__} more than once: leave one of the names "
            "out instead"
        )
    return found


GROUP = Group("strategy", STRATEGIES, parts=parts)  # type: ignore[arg-type]
"""The keys of every strategy, with their defaults and meanings."""


def trains_jointly(name: str) -> bool:
    """Whether the strategy trains once on the whole stream, not once per experience."""
    return any(getattr(p.builder, "trains_jointly", False) for p in GROUP.parts(name))


def trains_last_layer_only(name: str) -> bool:
    """Whether the strategy leaves all layers but the last as they were initialised."""
    key = "trains_last_layer_only"
    return any(getattr(p.builder, key, False) for p in GROUP.parts(name))
