"""Strategies by name: lists of plugins on Avalanche classes, built or refused."""

from collections.abc import Sequence
from inspect import signature
from typing import Any

from avalanche.evaluation.metrics.mac import MACPluginMetric
from avalanche.logging import BaseLogger
from avalanche.training.plugins import (
    CoPEPlugin,
    CWRStarPlugin,
    EarlyStoppingPlugin,
    LFLPlugin,
    SupervisedPlugin,
)
from avalanche.training.templates import SupervisedTemplate

from kancl.config import Group
from kancl.metrics import SplineMAC
from kancl.metrics.score_matrix import ACCURACY, RMSE
from kancl.models.heads import GrowingHead, LinearClassifier, MultiHead
from kancl.models.inspect import kan_layers
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins import loop
from kancl.plugins.hooks import (
    DirectHooks,
    LazyEvaluationPlugin,
    clear_gradients_directly,
)
from kancl.plugins.outputs import lwf, present_classes, readout
from kancl.plugins.penalties import ewc, importances, sparsity
from kancl.plugins.plugin import (
    METHOD_STAGES,
    Plugin,
    Stage,
    TrainingSetup,
    check_declared,
)
from kancl.plugins.rehearsal import replay
from kancl.plugins.state import n_bytes
from kancl.plugins.steps import clipping, frozen, grid_growth, owm, step_preconditioner
from kancl.strategies import bases

STRATEGIES: dict[str, list[type[Plugin] | type[bases.Base]]] = {
    "naive": [bases.Base],
    "joint": [bases.JointBase],
    "cumulative": [bases.CumulativeBase],
    "from_scratch": [loop.FromScratchPlugin],
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
    "gdumb": [replay.MemoryOnlyPlugin, loop.FromScratchPlugin],
    "mir": [replay.MIRPlugin],
    "labels_trick": [present_classes.LabelsTrickPlugin],
    "occupancy": [step_preconditioner.OccupancyPlugin],
    "gram": [step_preconditioner.GramPlugin],
    "owm": [owm.OWMPlugin],
    "clip_gradients": [clipping.GradientClippingPlugin],
    "lazy": [frozen.LazyStepsPlugin],
    "freeze_base": [frozen.FrozenBasePlugin],
    "hard_mask": [frozen.HardMaskPlugin],
    "drift_penalty": [importances.DriftPenaltyPlugin],
    "grow_grids": [grid_growth.GridGrowthPlugin],
    "sparsity": [sparsity.SparsityPlugin],
    "ridge_readout": [readout.RidgeReadoutPlugin, bases.ForwardOnlyBase],
    "nearest_mean": [readout.NearestMeanPlugin, bases.ForwardOnlyBase],
    "spline_bayes": [readout.SplineBayesPlugin, bases.ForwardOnlyBase],
}
"""Plugins and, where it is not Avalanche's Naive, the base that they are put on.

Any sum of names is a strategy as well: ``ewc+replay``. Names with tuned values are
presets, in ``configs/strategy``.
"""


GROUP = Group("strategy", STRATEGIES, sums=True)  # type: ignore[arg-type]
"""The keys of every strategy, with their defaults and meanings."""


TIES = Stage.STEP, Stage.PULL, Stage.RESTORE, Stage.PENALTY
"""Stages of the plugins that, by what they keep, tie steps or weights to the past."""


def trains_jointly(name: str) -> bool:
    """Whether the strategy trains once on the whole stream, not once per experience."""
    return any(getattr(p.builder, "trains_jointly", False) for p in GROUP.parts(name))


def trains_last_layer_only(name: str) -> bool:
    """Whether the strategy leaves all layers but the last as they were initialised."""
    key = "trains_last_layer_only"
    return any(getattr(p.builder, key, False) for p in GROUP.parts(name))


def steps_alone(name: str) -> bool:
    """Whether the strategy is nothing but gradient steps and their preconditioners."""
    plain = bases.Base, step_preconditioner.StepPreconditionerPlugin
    kinds: list[Any] = [part.builder for part in GROUP.parts(name)]
    return all(kind is plain[0] or issubclass(kind, plain[1]) for kind in kinds)


def build(name: str, setup: TrainingSetup, **options: Any) -> SupervisedTemplate:
    """Make the Avalanche strategy of a name, or of a sum of names.

    Args:
        name: from ``STRATEGIES``, a preset, or a sum such as ``"ewc+replay"``.
        setup: model, optimizer, loop settings and the user's plugins.
        options: the strategy's keys; one that two names share is ``"lwf.alpha"``.
    Returns: a strategy whose ``eval`` gives the recorder's ``last_evaluation``, beside the
        metrics of an evaluator of one's own.
    Raises: ValueError for what can't work, saying what to use instead.
    """
    members = [
        part.builder(**{**part.defaults, **values})
        for part, values in sorted(
            GROUP.split(name, options), key=lambda split: split[0].name
        )
    ]
    loops = [m for m in members if isinstance(m, bases.Base)] or [bases.Base()]
    own = [member for member in members if not isinstance(member, bases.Base)]
    if len(loops) > 1:
        names = " and ".join(type(base).template.__name__ for base in loops)
        raise ValueError(
            f"strategy={name} asks for the training loops of {names} at once: use one of "
            "them alone instead"
        )
    recorders = [p for p in setup.plugins if isinstance(p, RecorderPlugin)]
    if not recorders and setup.evaluator is None:
        jointly = any(getattr(m, "trains_jointly", False) for m in members)
        score = RMSE if setup.learns_values else ACCURACY
        recorders = [RecorderPlugin(trains_jointly=jointly, score=score)]
        setup.plugins = [*setup.plugins, *recorders]
    evaluator = setup.evaluator or LazyEvaluationPlugin(loggers=[BaseLogger()])
    if recorders and isinstance(evaluator, LazyEvaluationPlugin):
        evaluator.measured = lambda: recorders[0].last_evaluation
    there = {type(plugin) for plugin in setup.plugins}
    # Without keys it is the same plugin twice: the lazy steps that a model asks for.
    twins = [p for p in own if type(p) in there and not signature(type(p)).parameters]
    plugins = [*setup.plugins, *(p for p in own if p not in twins)]
    setup.plugins = plugins = sorted(plugins, key=stage)
    _check_needs(name, setup, loops[0], own)
    _check_stock(name, setup)
    for plugin in plugins:
        if isinstance(plugin, Plugin):
            try:
                check_declared(plugin)
                plugin.prepare(setup)
            except ValueError as error:
                raise ValueError(f"strategy={name}: {error}") from error
    strategy = loops[0].make(
        setup.batch_size,
        model=setup.model,
        optimizer=setup.optimizer,
        criterion=setup.criterion,
        train_epochs=1 if setup.iterations is not None else setup.epochs,
        eval_mb_size=setup.eval_batch_size,
        device=setup.device,
        plugins=sorted(
            [
                loop.QuietEvaluationPlugin(),
                *(p for p in plugins if stage(p) <= Stage.LOADER),
                loop.OptimizerStatePlugin(reset=setup.reset_optimizer),
                loop.TensorLoadingPlugin(iterations=setup.iterations),
            ],
            key=stage,
        ),
        evaluator=evaluator,
    )
    strategy.plugins += [p for p in plugins if stage(p) > Stage.LOADER]
    strategy.state = loops[0].state
    DirectHooks(strategy)
    clear_gradients_directly(strategy.optimizer)
    return strategy


def _check_stock(name: str, setup: TrainingSetup) -> None:
    """Raises: ValueError for parts of Avalanche that would misread the model, or wait in
    vain for evaluations while an experience is trained.
    """
    for plugin in setup.plugins:
        waits = isinstance(plugin, EarlyStoppingPlugin)
        if waits or getattr(plugin, "metric", None) == "val_loss":
            better = "training.early_stopping (kancl.plugins.loop.BestEpochPlugin)"
            if not waits:
                better = "metric='train_loss', or a schedule that needs no metric,"
            raise ValueError(
                f"strategy={name}: {type(plugin).__name__} waits for evaluations while an "
                f"experience is trained, and there are none: use {better} instead"
            )
        needs_linear = isinstance(plugin, (CoPEPlugin, CWRStarPlugin, LFLPlugin))
        if needs_linear and not isinstance(setup.model, LinearClassifier):
            raise ValueError(
                f"strategy={name}: {type(plugin).__name__} looks for a last nn.Linear; put "
                "the network into kancl.models.heads.LinearClassifier instead"
            )
    for metric in getattr(setup.evaluator, "metrics", []):
        counts_linear = isinstance(metric, MACPluginMetric)
        if counts_linear and not isinstance(metric._mac, SplineMAC):
            if kan_layers(setup.model):
                raise ValueError(
                    f"{type(metric).__name__} of Avalanche takes KAN layers for free; use "
                    "kancl.metrics.mac_metrics instead"
                )


def stage(plugin: SupervisedPlugin) -> Stage:
    """Return where a plugin acts; one of another library acts as observers do."""
    return getattr(plugin, "stage", Stage.OBSERVE)


def strategy_state_bytes(strategy: SupervisedTemplate) -> int:
    """Count what the strategy keeps from one experience to the next, beside the model.

    Tensors count once; kept samples as tensors, also if they are the benchmark's rows.
    """
    parts = [*strategy.model.parameters(), *strategy.model.buffers()]
    seen = {part.untyped_storage().data_ptr() for part in parts}
    methods = (p for p in strategy.plugins if isinstance(p, Plugin))
    holders = [strategy, *(p for p in methods if p.stage in METHOD_STAGES)]
    return sum(n_bytes(getattr(h, name), seen) for h in holders for name in h.state)


def _check_needs(
    name: str, setup: TrainingSetup, base: bases.Base, own: Sequence[SupervisedPlugin]
) -> None:
    """Raises: ValueError for the first need that the set-up does not meet."""
    plugins: list[Any] = [p for p in setup.plugins if isinstance(p, Plugin)]
    absent = {
        "alone": "+" in GROUP.expanded(name),
        "class_labels": setup.learns_values,
        "spline_bases": not kan_layers(setup.model),
        "fixed_head": isinstance(setup.model, GrowingHead),
        "one_head": isinstance(setup.model, MultiHead),
        "fixed_grids": any(p.changes_grids for p in plugins),
        "own_loss": any(stage(p) in (Stage.REHEARSAL, Stage.OUTPUTS) for p in own),
        "free_weights": any(stage(p) in TIES and p.state for p in plugins),
    }
    for need, is_absent in absent.items():
        for member in (base, *plugins) if is_absent else ():
            if reason := getattr(member.needs, need):
                words = (
                    w for w, classes in STRATEGIES.items() if type(member) in classes
                )
                who = next(words, type(member).__name__)
                raise ValueError(f"strategy={name}: {who} can't work here: {reason}")
