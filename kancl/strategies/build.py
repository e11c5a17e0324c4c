"""From a strategy's name and a set-up to an Avalanche strategy, or a refusal."""

from collections.abc import Sequence
from typing import Any

from avalanche.logging import BaseLogger
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.templates import SupervisedTemplate

from kancl.models.heads import GrowingHead, MultiHead
from kancl.models.inspect import kan_layers
from kancl.plugins.hooks import DirectHooks, LazyEvaluationPlugin
from kancl.plugins.loop import (
    OptimizerStatePlugin,
    QuietEvaluationPlugin,
    TensorLoadingPlugin,
)
from kancl.plugins.plugin import METHOD_STAGES, Plugin, Stage, check_declared
from kancl.plugins.setup import TrainingSetup
from kancl.plugins.state import n_bytes
from kancl.strategies.bases import Base
from kancl.strategies.registry import GROUP


def build(name: str, setup: TrainingSetup, **options: Any) -> SupervisedTemplate:
    """Make the Avalanche strategy of a name, or of a sum of names.

    Args:
        name: from ``STRATEGIES``, a preset, or a sum such as ``"ewc+replay"``.
        setup: model, optimizer, loop settings and the user's plugins.
        options: the strategy's keys; one that two names share is ``"lwf.alpha"``.
    Raises: ValueError for what can't work, saying what to use instead.
    """
    members = [
        part.builder(**{**part.defaults, **values})
        for part, values in sorted(
            GROUP.split(name, options), key=lambda split: split[0].name
        )
    ]
    bases = [member for member in members if isinstance(member, Base)] or [Base()]
    own = [member for member in members if not isinstance(member, Base)]
    if len(bases) > 1:
        names = " and ".join(type(base).template.__name__ for base in bases)
        raise ValueError(
            f"strategy={name} asks for the training loops of {names} at once: use one of "
            "them alone instead"
        )
    kinds = {type(plugin) for plugin in setup.plugins}
    # Plugins without keys may be there already (lazy steps of the model).
    plugins = [*setup.plugins, *(p for p in own if type(p) not in kinds)]
    setup.plugins = plugins = sorted(plugins, key=stage)
    _check_needs(name, setup, bases[0], own)
    for plugin in plugins:
        if isinstance(plugin, Plugin):
            try:
                check_declared(plugin)
                plugin.prepare(setup)
            except ValueError as error:
                raise ValueError(f"strategy={name}: {error}") from error
    strategy = bases[0].make(
        setup.batch_size,
        model=setup.model,
        optimizer=setup.optimizer,
        criterion=setup.criterion,
        train_epochs=1 if setup.iterations is not None else setup.epochs,
        eval_mb_size=setup.eval_batch_size,
        device=setup.device,
        plugins=sorted(
            [
                QuietEvaluationPlugin(),
                *(p for p in plugins if stage(p) <= Stage.LOADER),
                OptimizerStatePlugin(reset=setup.reset_optimizer),
                TensorLoadingPlugin(iterations=setup.iterations),
            ],
            key=stage,
        ),
        evaluator=setup.evaluator or LazyEvaluationPlugin(loggers=[BaseLogger()]),
    )
    strategy.plugins += [p for p in plugins if stage(p) > Stage.LOADER]
    strategy.state = bases[0].state
    DirectHooks(strategy)
    return strategy


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
    name: str, setup: TrainingSetup, base: Base, own: Sequence[SupervisedPlugin]
) -> None:
    """Raises: ValueError for the first need that the set-up does not meet."""
    plugins = [p for p in setup.plugins if isinstance(p, Plugin)]
    absent = {
        "class_labels": setup.learns_values,
        "spline_bases": not kan_layers(setup.model),
        "fixed_head": isinstance(setup.model, GrowingHead),
        "one_head": isinstance(setup.model, MultiHead),
        "fixed_grids": any(p.changes_grids for p in plugins),
        "own_loss": any(stage(p) in (Stage.REHEARSAL, Stage.OUTPUTS) for p in own),
        "alone": "+" in GROUP.expanded(name),
    }
    for needs in (base.needs, *(plugin.needs for plugin in plugins)):
        for need, reason in vars(needs).items():
            if reason and absent[need]:
                head = type(setup.model).__name__
                raise ValueError(f"strategy={name} can't train this {head}: {reason}")
