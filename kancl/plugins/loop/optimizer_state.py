"""Whether an optimizer remembers the experience before."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kancl.plugins.plugin import Plugin, Stage


class OptimizerStatePlugin(Plugin):
    """Forget the optimizer's moments at the start of each experience, or keep them.

    Avalanche keeps them unless ``reset_optimizer_state=True`` reaches every call of
    ``strategy.train``; here it is a property of the strategy. Kept state survives a
    growing head: parameters that join have none yet, the others keep theirs.

    Args:
        reset: True empties ``optimizer.state`` before each experience.
    """

    stage = Stage.OPTIMIZER

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if self.reset:
            strategy.optimizer.state = defaultdict(dict)
