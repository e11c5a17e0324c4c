"""The training loop: whole batches by index, what an optimizer and evaluation leave."""

from collections import defaultdict
from typing import Any

import torch
from avalanche.training.plugins import AGEMPlugin

from kancl.data.loading import whole_batches
from kancl.plugins.plugin import Plugin, Stage


class QuietEvaluationPlugin(Plugin):
    """Put torch's random state back after each evaluation.

    Every iterator over a torch DataLoader draws a seed, an evaluating one too: without
    this, how often a run is evaluated decides its weights.
    """

    stage = Stage.EVALUATION_GUARD
    transient = ("_state",)

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._state = torch.random.get_rng_state()

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        torch.random.set_rng_state(self._state)


class OptimizerStatePlugin(Plugin):
    """Forget the optimizer's moments at the start of each experience, or keep them.

    Here it is a property of the strategy, in Avalanche of each call of ``train``. Kept
    state survives a growing head: parameters that join have none yet.

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


class TensorLoadingPlugin(Plugin):
    """Swap a strategy's loaders for ones that fetch a batch at once.

    Training, evaluation and A-GEM's memory are served. Over kancl's benchmarks batches
    are the same as Avalanche's, to the bit; a loader over other data is left as it is.

    Args:
        iterations: train for exactly so many full batches per experience, reshuffled as
            often as needed, instead of one pass over the data (``train_epochs=1``).
    Raises: ValueError if ``iterations`` is below 1 or meets ``train_epochs`` above 1.
    """

    stage = Stage.LOADER

    def __init__(self, iterations: int | None = None) -> None:
        super().__init__()
        if iterations is not None and iterations < 1:
            raise ValueError(f"iterations={iterations} must be at least 1")
        self.iterations = iterations

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        if self.iterations is not None and strategy.train_epochs != 1:
            raise ValueError(
                f"iterations={self.iterations} counts the batches of an experience, but "
                f"train_epochs={strategy.train_epochs}: set one of them only"
            )

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        for plugin in strategy.plugins:
            if isinstance(plugin, AGEMPlugin) and plugin.buffer_dataloader is not None:
                plugin.buffer_dataloader = whole_batches(plugin.buffer_dataloader)
                plugin.buffer_dliter = iter(plugin.buffer_dataloader)
        self.before_training_epoch(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        # again: a plugin after this one (replay) may have made another loader
        strategy.dataloader = whole_batches(strategy.dataloader, self.iterations)

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.dataloader = whole_batches(strategy.dataloader)
