"""Learning rates that fall: within each experience, or from one to the next."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from kancl.config.values import Bounds, Positive
from kancl.plugins.plugin import Plugin, Stage


@dataclass(kw_only=True, eq=False)
class SchedulePlugin(Plugin):
    """Put each experience's full learning rate back when its training ends."""

    stage = Stage.SCHEDULE
    state = ("_full",)

    _full: list[float] = field(default_factory=list, init=False)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._full = [group["lr"] for group in strategy.optimizer.param_groups]

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for group, full in zip(strategy.optimizer.param_groups, self._full):
            group["lr"] = full


@dataclass(kw_only=True, eq=False)
class LinearDecayPlugin(SchedulePlugin):
    """Let the learning rate fall linearly to 0 in each experience, then start anew.

    Iteration i of n is made with ``lr (1 - i/n)``: the first with all of it, the last
    with ``lr/n``.
    """

    def before_update(self, strategy: Any, **kwargs: Any) -> None:
        n = strategy.train_epochs * len(strategy.dataloader)
        share = 1 - strategy.clock.train_exp_iterations / n
        for group, full in zip(strategy.optimizer.param_groups, self._full):
            group["lr"] = full * share


@dataclass(kw_only=True, eq=False)
class EpochDecayPlugin(SchedulePlugin):
    """Multiply the learning rate by ``gamma`` after every epoch, starting anew each time.

    Args:
        gamma: above 0.
    """

    gamma: Positive = 1.0

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        for group in strategy.optimizer.param_groups:
            group["lr"] *= self.gamma


@dataclass(kw_only=True, eq=False)
class ExperienceDecayPlugin(Plugin):
    """Multiply the learning rate by ``gamma`` after every experience.

    Later experiences are then learned less, so earlier ones are forgotten less: what a
    comparison without it on both sides is to be compared with.

    Args:
        gamma: above 0 and at most 1.
    """

    stage = Stage.SCHEDULE

    gamma: Annotated[float, Bounds(0, 1, is_open=True)] = 1.0

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for group in strategy.optimizer.param_groups:
            group["lr"] *= self.gamma
