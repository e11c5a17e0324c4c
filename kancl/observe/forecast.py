"""Foretell, before an experience is trained, what its training will take from old ones."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Protocol

from torch import nn

from kancl.data.rows import as_tensors
from kancl.metrics.forecast import Standing, standing
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage
from kancl.plugins.state import random_streams_kept
from kancl.runs.names import forecast_row

SAMPLES = 1_500
PROBED = 0.3


class Trial(Protocol):
    """Trains copies of a strategy."""

    def check(self, strategy: Any) -> None:
        """Raises: ValueError if there can be none."""

    def __call__(
        self, strategy: Any, experience: int, share: float | None
    ) -> nn.Module:
        """The network of a copy trained on an experience, for a share of its iterations
        (None: all).
        """


class ForecastPlugin(Plugin):
    """Record what each training will take from every earlier experience, before it.

    Measured on training images of the earlier experiences, never on test images. Rows
    are named ``forecast_<kind>_accuracy_before_<t>`` and ``..._loss_before_<t>`` (t from
    1, the row's experience being the earlier one): accuracy and mean cross-entropy that
    will be lost. The training itself is the same to the bit without the plugin.

    ``probe``: a copy of the run is trained on a part of the experience's iterations, in
    another order of batches. ``ceiling``: on all of them; as good as a forecast can be.

    Args:
        train_stream: its experiences in the order of training.
        trial: trains the copies.
        kinds: of forecasts.
        samples: images of each earlier experience, spread evenly over its rows.
    """

    stage = Stage.OBSERVE
    state = ("seconds",)

    def __init__(
        self,
        recorder: RecorderPlugin,
        train_stream: Iterable[Any],
        trial: Trial,
        kinds: Sequence[str] = ("probe",),
        samples: int = SAMPLES,
    ) -> None:
        super().__init__()
        self.recorder, self.train_stream = recorder, list(train_stream)
        self.trial, self.kinds, self.samples = trial, tuple(kinds), samples
        self.seconds: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        """That each kind took before each training but the first."""

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        t = self.recorder.n_experiences_done
        if t == 0:
            self.trial.check(strategy)
            return
        with self.recorder.evaluating(strategy.device), random_streams_kept():
            before = [self._standing(strategy, strategy.model, s) for s in range(t)]
            for kind, share in (("probe", PROBED), ("ceiling", None)):
                if kind in self.kinds:
                    with self._timed(kind):
                        trained = self.trial(strategy, t, share)
                        for s, then in enumerate(before):
                            later = self._standing(strategy, trained, s)
                            self._add(kind, s, t, then.lost(later))

    def _standing(self, strategy: Any, model: nn.Module, s: int) -> Standing:
        samples = as_tensors(self.train_stream[s].dataset, self.samples)
        return standing(model, *samples, device=strategy.device)

    def _add(self, kind: str, s: int, t: int, lost: Standing) -> None:
        for what, value in asdict(lost).items():
            self.recorder.add(forecast_row(kind, what, t), value, s)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[kind].append(time.perf_counter() - start)
