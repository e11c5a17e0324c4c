"""Foretell, before an experience is trained, what its training will take from old ones."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from typing import Any, Protocol

from avalanche.models.utils import avalanche_model_adaptation
from torch import Tensor, nn

from kancl.data.rows import as_tensors
from kancl.metrics import diagnosis, image_statistics
from kancl.metrics.forecast import standing, standing_of
from kancl.metrics.kernel_forecast import (
    Samples,
    foretold_outputs,
    weight_changes,
)
from kancl.models.inspect import eval_mode
from kancl.models.layer_features import weight_rows
from kancl.observe.recorder import RecorderPlugin
from kancl.plugins.plugin import Plugin, Stage
from kancl.plugins.state import n_bytes, random_streams_kept
from kancl.plugins.steps.step_preconditioner import (
    StepPreconditionerPlugin,
    key_of,
    layers_with_features,
)
from kancl.runs.names import forecast_row

SAMPLES = 1_500
PROBED = 0.3
N_NEW = 120  # images of the new experience that the kernel is taken on

Values = Iterator[tuple[int, dict[str, float]]]
"""Number and values of each old experience; values by name."""


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

    - ``overlap``: the control, how far the two use the same features: the mean over
      layers of ``kernel_ratio`` (see ``kancl.metrics.locality``).
    - ``kernel``: no training; gradient descent on 120 of the new images, linear in the
      weights (see ``kancl.metrics.kernel_forecast``). It ranks, it does not calibrate.
    - ``probe``: a copy of the run is trained on a part of the experience's iterations,
      in another order of batches.
    - ``stored``: the probe on images drawn from moments of each earlier experience, of
      which no image is kept (see ``kancl.metrics.image_statistics``).
    - ``ceiling``: a copy is trained to the end; as good as a forecast can be.

    Args:
        train_stream: its experiences in the order of training.
        trial: trains the copies.
        kinds: of forecasts.
        samples: images of each earlier experience, spread evenly over its rows.
        rank: of the covariances that are stored; None: full.
    """

    stage = Stage.OBSERVE
    state = ("seconds", "stored")
    transient = ("_looked_at",)

    def __init__(
        self,
        recorder: RecorderPlugin,
        train_stream: Iterable[Any],
        trial: Trial,
        kinds: Sequence[str] = ("overlap", "probe"),
        samples: int = SAMPLES,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.recorder, self.train_stream = recorder, list(train_stream)
        self.trial, self.kinds, self.samples = trial, tuple(kinds), samples
        self.rank = rank
        self.seconds: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        """That each kind took before each training but the first."""
        self.stored: list[dict[str, Any]] = []
        """Moments of each experience trained so far, but of the last one."""
        self._looked_at = diagnosis.Samples(self.train_stream, diagnosis.SAMPLES, 2)

    @property
    def stored_bytes(self) -> int:
        return n_bytes(self.stored, set())

    def before_training(self, strategy: Any, **kwargs: Any) -> None:
        t = self.recorder.n_experiences_done
        if t == 0:
            self._check(strategy)
            return
        images, pseudo = self._images, self._pseudo_images
        with self.recorder.evaluating(strategy.device), random_streams_kept():

            @cache
            def copy(share: float | None) -> nn.Module:
                return self.trial(strategy, t, share)

            def tried(samples: Callable[[int], Samples], share: float | None) -> Values:
                models = strategy.model, copy(share)
                for s in range(t):
                    seen = samples(s)
                    then, later = (standing(m, *seen, strategy.device) for m in models)
                    yield s, asdict(then.lost(later))

            methods: dict[str, Callable[[], Values]] = {
                "overlap": lambda: self._overlaps(strategy, t),
                "kernel": lambda: self._by_kernel(strategy, t),
                "probe": lambda: tried(images, PROBED),
                "stored": lambda: tried(pseudo, PROBED),
                "ceiling": lambda: tried(images, None),
            }
            for kind, method in methods.items():
                if kind in self.kinds:
                    with self._timed(kind):
                        for s, values in method():
                            for what, value in values.items():
                                self.recorder.add(forecast_row(kind, what, t), value, s)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        is_last = len(self.stored) + 1 == len(self.train_stream)
        if "stored" in self.kinds and not is_last:
            with self.recorder.evaluating(strategy.device), random_streams_kept():
                samples = as_tensors(strategy.experience.dataset)
                self.stored.append(image_statistics.moments(*samples, self.rank))

    def _check(self, strategy: Any) -> None:
        """Raises: ValueError if some kind cannot be had."""
        if {"probe", "stored", "ceiling"} & {*self.kinds}:
            self.trial.check(strategy)
        if "kernel" in self.kinds:
            for _, layer in layers_with_features(strategy.model):
                weight_rows(layer)

    def _images(self, s: int, n: int | None = None) -> Samples:
        return as_tensors(self.train_stream[s].dataset, n or self.samples)

    def _pseudo_images(self, s: int) -> Samples:
        return image_statistics.drawn(self.stored[s], self.samples, seed=s)

    def _overlaps(self, strategy: Any, t: int) -> Values:
        self._looked_at.to(strategy.device)
        ratios = defaultdict[int, list[float]](list)
        with eval_mode(strategy.model):
            shared = diagnosis.shared_with_new(strategy.model, self._looked_at, t)
            for pair in shared:
                if pair.overlap is not None:
                    ratios[pair.old].append(pair.overlap.kernel_ratio)
        for s, values in ratios.items():
            yield s, {"kernel_ratio": sum(values) / len(values)}

    def _by_kernel(self, strategy: Any, t: int) -> Values:
        model = deepcopy(strategy.model).train()
        avalanche_model_adaptation(model, self.train_stream[t])
        plugins = strategy.plugins
        plugins = [p for p in plugins if isinstance(p, StepPreconditionerPlugin)]

        def shrink(name: str, step: Tensor) -> Tensor:
            for plugin in plugins:
                known = plugin.preconditioners.get(key_of(model, name))
                step = step if known is None else known.shrink(step)
            return step

        def on_device(samples: Samples) -> Samples:
            x, y, task_labels = (each.to(strategy.device) for each in samples)
            return x, y, task_labels

        group = strategy.optimizer.param_groups[0]
        # in the long run, momentum makes so many steps of one
        lr = group["lr"] * (1 - group["dampening"]) / (1 - group["momentum"])
        changes = weight_changes(model, on_device(self._images(t, N_NEW)), lr, shrink)
        for s in range(t):
            samples = on_device(self._images(s))
            now, later = foretold_outputs(model, samples, changes)
            targets = samples[1]
            lost = standing_of(now, targets).lost(standing_of(later, targets))
            yield s, asdict(lost)

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[kind].append(time.perf_counter() - start)
