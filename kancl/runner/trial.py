"""Train a copy of a run on its next experience; the run itself stays as it is."""

import math
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from typing import Any

from avalanche.training.supervised import Cumulative
from torch import nn

from kancl.config import ConfigError, RunConfig
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Diverged
from kancl.runner.build import Parts, build_strategy, iterations_planned
from kancl.runner.checkpoint import CheckpointPlugin, LiveRun, Unresumable
from kancl.runner.seeding import stream_seed, stream_seeds

LEAST = 25  # iterations of a trial that is cut short


class Trial:
    """Makes copies of a run from its state, as a resumed run is made, and trains them.

    The copy trains on the run's next experience, in another order of batches, up to the
    last step: what a strategy keeps of an experience behind it is not computed. Random
    streams are set meanwhile: whoever calls puts them back.

    Args:
        parts: as built, before a strategy is made of them.
        observers: plugins that decide nothing of the training; they may be added to.
    """

    def __init__(
        self, config: RunConfig, parts: Parts, observers: Sequence[Any] = ()
    ) -> None:
        self._config, self._observers = config, observers
        self._parts = replace(parts, model=deepcopy(parts.model))

    def check(self, strategy: Any) -> None:
        """Raises: ConfigError, saying why, if the run cannot be copied."""
        try:
            self._live(strategy).state()
        except Unresumable as error:
            way = "evaluation.forecast=none evaluation.forecast_ceiling=false"
            why = (
                f"evaluation.forecast trains a copy of the run: {error}; nearest: {way}"
            )
            raise ConfigError(why) from error

    def __call__(
        self, strategy: Any, experience: int, share: float | None = None
    ) -> nn.Module:
        """Train a copy of the strategy on an experience; returns the copy's network.

        Args:
            share: of the experience's iterations, at least ``LEAST`` of them, with the
                schedule compressed to end there. None: the whole training.
        """
        seeds = stream_seeds(self._config)
        batches = stream_seed(seeds.batches, "trial")
        config = replace(self._config, seeds=replace(seeds, batches=batches))
        if share is not None:
            n = iterations_planned(config, self._parts.benchmark)[experience]
            if isinstance(strategy, Cumulative) and config.training.iterations is None:
                n *= experience + 1
            n = min(n, max(LEAST, math.ceil(share * n)))
            training = replace(config.training, iterations=n, epochs=1)
            config = replace(config, training=training)
        state = deepcopy(self._live(strategy).state())
        parts = replace(self._parts, model=deepcopy(self._parts.model))
        recorder = RecorderPlugin(parts.benchmark.info.n_experiences)
        copy = build_strategy(config, parts, [recorder])
        LiveRun(copy, parts.benchmark, [recorder]).restore(state)
        copy._after_training_exp = lambda **_: None  # no future to keep anything for
        with suppress(Diverged):  # what became of it is measured as it is
            copy.train(list(parts.benchmark.train_stream)[experience])
        return parts.model

    def _live(self, strategy: Any) -> LiveRun:
        writing = [p for p in strategy.plugins if isinstance(p, CheckpointPlugin)]
        ignored = [*self._observers, *writing]
        return LiveRun(strategy, self._parts.benchmark, ignored)
