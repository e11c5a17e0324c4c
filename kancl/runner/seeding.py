"""One seed, several random streams that do not disturb each other.

Models of the same seed are paired: they see the same experiences and, because the
streams are set anew where they are used, the same batches in the same order however
many random numbers a model draws for itself (initial weights, dropout).
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from avalanche.training.determinism.rng_manager import RNGManager

from kancl.config import RunConfig
from kancl.plugins.plugin import Plugin, Stage


@dataclass(frozen=True)
class StreamSeeds:
    """The seed of each kind of draw (see ``kancl.config.Seeds``)."""

    init: int
    order: int
    batches: int
    buffers: int


def stream_seeds(config: RunConfig) -> StreamSeeds:
    """``seed`` for every kind but those of ``seeds``: crossed designs vary one alone."""
    seeds = asdict(config.seeds).items()
    return StreamSeeds(**{k: config.seed if v is None else v for k, v in seeds})


def stream_seed(seed: int, *names: object) -> int:
    """A 32-bit seed of its own for each stream, say ``("batches", 2, 0)``."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def set_stream(seed: int, *names: object) -> None:
    """Seed Python's, NumPy's and torch's global generators for a stream."""
    RNGManager.set_random_seeds(stream_seed(seed, *names))


class SeedingPlugin(Plugin):
    """Start the streams of heads, batches and buffers at each experience."""

    stage = Stage.SEED
    state = ("_n_trained",)

    def __init__(self, *, seeds: StreamSeeds) -> None:
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
