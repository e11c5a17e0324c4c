"""One seed, several random streams that do not disturb each other.

Models of the same seed are paired: they see the same experiences and, because the
streams are set anew where they are used, the same batches in the same order however
many random numbers a model draws for itself (initial weights, dropout).
"""

import hashlib
from dataclasses import replace
from typing import Any

import torch
from avalanche.training.determinism.rng_manager import RNGManager

from kancl.config import RunConfig, Seeds
from kancl.plugins.plugin import Plugin, Stage


def stream_seeds(config: RunConfig) -> Seeds:
    """``seed`` for every kind but those of ``seeds``: crossed designs vary one alone."""
    unset = [kind for kind, seed in vars(config.seeds).items() if seed is None]
    return replace(config.seeds, **dict.fromkeys(unset, config.seed))


def stream_seed(*names: object) -> int:
    """A 32-bit seed of its own for each stream, say ``(seed, "batches", 2, 0)``."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def set_stream(*names: object) -> None:
    """Seed Python's, NumPy's and torch's global generators for a stream."""
    seed = stream_seed(*names)
    for name, generator in RNGManager.random_generators.items():
        # For GPUs that may come, torch would note down the whole stack each time.
        if name != "torch.cuda" or torch.cuda.is_available():
            generator["seed"](seed)


class SeedingPlugin(Plugin):
    """Start the streams of heads, batches and buffers at each experience."""

    stage = Stage.SEED
    state = ("_n_trained",)

    def __init__(self, *, seeds: Seeds) -> None:
        super().__init__()
        self.seeds = seeds
        self._n_trained = 0

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        set_stream(self.seeds.init, "heads", self._n_trained)

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        set_stream(self.seeds.batches, "preparation", self._n_trained)

    def before_training_epoch(self, strategy: Any, **kwargs: Any) -> None:
        epoch = strategy.clock.train_exp_epochs
        set_stream(self.seeds.batches, "batches", self._n_trained, epoch)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        set_stream(self.seeds.buffers, "buffers", self._n_trained)
        self._n_trained += 1

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        set_stream(self.seeds.batches, "evaluation", self._n_trained)
