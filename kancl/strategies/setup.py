"""Everything a strategy needs besides its own hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from avalanche.logging import BaseLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.supervised import Naive
from avalanche.training.templates import SupervisedTemplate
from torch import nn

from kancl.plugins.loop.lazy_evaluation import LazyEvaluationPlugin
from kancl.plugins.loop.optimizer_state import OptimizerStatePlugin
from kancl.plugins.loop.quiet_evaluation import QuietEvaluationPlugin
from kancl.plugins.loop.tensor_loading import TensorLoadingPlugin
from kancl.strategies.direct_hooks import DirectHooks


@dataclass(frozen=True)
class TrainingSetup:
    """Model, optimizer and loop settings, shared by every strategy builder.

    Plugins are stateful: make a new setup, with new plugins, for each run.

    Args:
        model: the network with its head, as ``kancl.models.heads.with_head`` returns
            it.
        optimizer: over the parameters of ``model``; heads that grow join it by
            themselves.
        criterion: loss of outputs and targets, averaged over the batch.
        batch_size: images per iteration (replayed ones come on top).
        epochs: passes over each experience; ignored when ``iterations`` is set.
        iterations: exactly this many batches per experience, incomplete ones
            dropped, reshuffled endlessly; None trains by epochs.
        eval_batch_size: images per batch while evaluating.
        device: where the model and the batches live.
        plugins: the user's plugins; they are called before the strategy's own.
        evaluator: Avalanche's metrics and loggers; None for none (and no warning).
        reset_optimizer: forget moments and momentum at the start of each experience.
        seed: for draws that a plugin makes apart from training's random stream.
    Raises: ValueError if a size or count is below 1.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    criterion: nn.Module = field(default_factory=nn.CrossEntropyLoss)
    batch_size: int = 128
    epochs: int = 1
    iterations: int | None = None
    eval_batch_size: int = 1024
    device: str | torch.device = "cpu"
    plugins: Sequence[SupervisedPlugin] = ()
    evaluator: EvaluationPlugin | None = None
    reset_optimizer: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "iterations", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def build(
        self,
        cls: type[SupervisedTemplate] = Naive,
        plugins: Sequence[SupervisedPlugin] = (),
        **options: Any,
    ) -> SupervisedTemplate:
        """Make the Avalanche strategy ``cls`` with ``plugins`` in their place.

        Order of plugins: quiet evaluation, the user's, the strategy's own (those of the
        user's that put parameters back stand behind the strategy's that change steps),
        optimizer state, tensor loading (it swaps ``strategy.dataloader``, so it follows whoever
        sets it), then Avalanche's evaluator, periodic evaluation and clock. Those with
        nothing to do at a hook are not called there (``DirectHooks``).

        Args:
            cls: an Avalanche strategy.
            plugins: the strategy's own plugins.
            options: further keyword arguments of ``cls``.
        """
        strategy = cls(
            model=self.model,
            optimizer=self.optimizer,
            criterion=self.criterion,
            train_mb_size=self.batch_size,
            train_epochs=1 if self.iterations is not None else self.epochs,
            eval_mb_size=self.eval_batch_size,
            device=self.device,
            plugins=[
                QuietEvaluationPlugin(),
                *_in_order(self.plugins, plugins),
                OptimizerStatePlugin(reset=self.reset_optimizer),
                TensorLoadingPlugin(iterations=self.iterations),
            ],
            evaluator=self.evaluator or LazyEvaluationPlugin(loggers=[BaseLogger()]),
            **options,
        )
        DirectHooks(strategy)
        return strategy


def _in_order(
    users: Sequence[SupervisedPlugin], own: Sequence[SupervisedPlugin]
) -> list[SupervisedPlugin]:
    """Those that put parameters back (``puts_back``) do so once all that change a step
    themselves (``changes_steps``) have, and before anything else of the strategy's looks
    at the step (SI's path).
    """
    putting = [p for p in users if getattr(p, "puts_back", False)]
    changing = [p for p in own if getattr(p, "changes_steps", False)]
    return [
        *(p for p in users if p not in putting),
        *changing,
        *putting,
        *(p for p in own if p not in changing),
    ]
