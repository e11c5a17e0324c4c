"""Evaluation after every epoch, for learning curves."""

from collections.abc import Sequence
from typing import Any

from kancl.plugins.plugin import Plugin, Stage


class EpochEvaluationPlugin(Plugin):
    """Evaluate streams after every training epoch.

    Avalanche's ``eval_every=1`` does it before training too, which takes as long as an
    epoch when the training stream is among them.

    Args:
        streams: the training stream and one that is not trained on, say.
    """

    stage = Stage.OBSERVE
    transient = ("_streams",)

    def __init__(self, streams: Sequence[Any]) -> None:
        super().__init__()
        self._streams = streams

    def after_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        for stream in self._streams:
            strategy.eval(stream)
