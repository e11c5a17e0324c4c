"""Make any Avalanche strategy take whole batches by index."""

from __future__ import annotations

from typing import Any

from avalanche.training.plugins import AGEMPlugin

from kancl.data.loading import whole_batches
from kancl.plugins.plugin import Plugin, Stage


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
            raise ValueError(f"iterations={iterations} must be 1 or more")
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
        self._swap_training_loader(strategy)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        # again: a plugin after this one (replay) may have made another loader
        self._swap_training_loader(strategy)

    def before_eval_exp(self, strategy: Any, **kwargs: Any) -> None:
        strategy.dataloader = whole_batches(strategy.dataloader)

    def _swap_training_loader(self, strategy: Any) -> None:
        strategy.dataloader = whole_batches(strategy.dataloader, self.iterations)
