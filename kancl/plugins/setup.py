"""What a strategy is made from, besides its own keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from torch import nn

Record = Callable[[str, float], None]
"""Takes a measurement's name and value."""


@dataclass
class TrainingSetup:
    """Model, optimizer and loop settings, shared by every strategy.

    Plugins keep state: make a new set-up, with new plugins, for each run.

    Args:
        model: the network with its head, as ``kancl.models.heads.with_head`` returns it.
        optimizer: over its parameters; heads that grow join it by themselves.
        batch_size: samples per iteration (replayed ones come on top).
        epochs: passes over each experience, if ``iterations`` is None.
        iterations: exactly this many full batches per experience; None trains by epochs.
        plugins: the user's plugins, beside those of the strategy.
        evaluator: Avalanche's metrics and loggers; None for none (and no warning).
        reset_optimizer: forget moments and momentum at the start of each experience.
        seed: for draws that a plugin makes apart from training's random stream.
        learns_values: the targets are values, not classes.
        record: takes what plugins measure (``free_share_layer_1``, ...).
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
    learns_values: bool = False
    record: Record = lambda name, value: None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "iterations", "eval_batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
