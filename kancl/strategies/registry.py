"""The strategies by name: each a list of plugins, on an Avalanche strategy class."""

from collections import Counter

from kancl.config import Group, Part
from kancl.plugins.outputs.lwf import LwFPlugin
from kancl.plugins.outputs.present_classes import LabelsTrickPlugin
from kancl.plugins.outputs.readout import (
    NearestMeanPlugin,
    RidgeReadoutPlugin,
    SplineBayesPlugin,
)
from kancl.plugins.penalties.ewc import BatchedEWCPlugin, EWCPlugin
from kancl.plugins.penalties.importances import (
    DriftPenaltyPlugin,
    L2AnchorPlugin,
    MASPlugin,
    SynapticIntelligencePlugin,
)
from kancl.plugins.plugin import Plugin
from kancl.plugins.rehearsal.replay import (
    AGEMPlugin,
    GEMPlugin,
    MIRPlugin,
    ReplayPlugin,
)
from kancl.plugins.rehearsal.retraining import FromScratchPlugin, MemoryOnlyPlugin
from kancl.plugins.steps.frozen import (
    FrozenBasePlugin,
    HardMaskPlugin,
    LazyStepsPlugin,
)
from kancl.plugins.steps.grid_growth import GridGrowthPlugin
from kancl.plugins.steps.step_preconditioner import GramPlugin, OccupancyPlugin
from kancl.strategies.bases import (
    Base,
    CumulativeBase,
    DERBase,
    ERACEBase,
    ForwardOnlyBase,
    JointBase,
)

STRATEGIES: dict[str, list[type[Plugin] | type[Base]]] = {
    "naive": [Base],
    "joint": [JointBase],
    "cumulative": [CumulativeBase],
    "from_scratch": [FromScratchPlugin],
    "replay": [ReplayPlugin],
    "ewc": [EWCPlugin],
    "ewc_batched": [BatchedEWCPlugin],
    "si": [SynapticIntelligencePlugin],
    "lwf": [LwFPlugin],
    "mas": [MASPlugin],
    "l2_anchor": [L2AnchorPlugin],
    "agem": [AGEMPlugin],
    "gem": [GEMPlugin],
    "er_ace": [ERACEBase],
    "der": [DERBase],
    "gdumb": [MemoryOnlyPlugin, FromScratchPlugin],
    "mir": [MIRPlugin],
    "labels_trick": [LabelsTrickPlugin],
    "occupancy": [OccupancyPlugin],
    "gram": [GramPlugin],
    "lazy": [LazyStepsPlugin],
    "freeze_base": [FrozenBasePlugin],
    "hard_mask": [HardMaskPlugin],
    "drift_penalty": [DriftPenaltyPlugin],
    "grow_grids": [GridGrowthPlugin],
    "ridge_readout": [RidgeReadoutPlugin, ForwardOnlyBase],
    "nearest_mean": [NearestMeanPlugin, ForwardOnlyBase],
    "spline_bayes": [SplineBayesPlugin, ForwardOnlyBase],
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
