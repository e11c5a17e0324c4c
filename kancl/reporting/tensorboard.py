"""A run in TensorBoard, the forgetting curves first."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from avalanche.evaluation import metrics as stock
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from matplotlib.figure import Figure
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from kancl.data.rows import as_tensors
from kancl.metrics import SeenExperiencesAccuracy
from kancl.models import KANLinear
from kancl.models.heads import GrowingHead, MultiHead
from kancl.models.inspect import eval_mode, kan_layers, named_layers, spline_network
from kancl.models.network_figure import network_figure
from kancl.observe.curves import OFF_GRID
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import LOCALITY
from kancl.reporting import figures
from kancl.reporting.curves import Curves
from kancl.reporting.events import (
    BOUNDARIES,
    TEXT,
    EventWriter,
    run_layout,
    write_boundary,
    write_hparams,
    write_picture,
)
from kancl.reporting.measures import so_far
from kancl.runs.measurements import Measurement

PICTURES_SECONDS = 0.5

PICTURED_SAMPLES = 128
"""Samples of the latest experience that the picture of the network is drawn from."""


class TensorBoardPlugin(SupervisedPlugin):
    """Write a run's events into ``folder`` while it is trained, as one TensorBoard run and
    a second one, ``boundaries``, that draws where an experience begins. Put it behind the
    recorder, the curve and the off-grid plugin, and ``close`` it in the end, whatever
    happened.

    Args:
        label: ``"<model>-<strategy>"``, in the pictures' titles.
        card: Markdown that says what the run is: parameters, protocol.
        picture_share: largest share of the time so far that drawing may take; other
            pictures are left to a later experience. The last one always has them.
        resumed_at: iteration at which a run that was killed is resumed: TensorBoard
            drops what the killed one wrote of later ones.
    """

    def __init__(
        self,
        folder: Path | str,
        recorder: RecorderPlugin,
        *,
        label: str,
        card: str = "",
        figures: bool = True,
        picture_share: float = 1.0,
        resumed_at: int | None = None,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.label, self._recorder = label, recorder
        self._draws, self._picture_share = figures, picture_share
        self._started, self._drawing_seconds = time.perf_counter(), 0.0
        self._writers: dict[str, SummaryWriter] = {}
        self._confusion: Tensor | None = None
        self._curve_point: dict[int, float] = {}
        self._curve_at = 0
        self._purged_from = None if resumed_at is None else resumed_at + 1
        self._writer().add_custom_scalars(run_layout(recorder.score))
        self._writer().add_text("about", f"# {label}\n\n{card}\n\n{TEXT}")
        recorder.listeners.append(self._listen)

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """Write the hyperparameters with the summary's numbers as ``final/...`` and its
        ``status`` as the session's success, and close the files.
        """
        self._finish_curve_point()
        at = self._recorder.iteration
        write_hparams(self._writer(), hparams, summary, at)
        for writer in self._writers.values():
            writer.close()
        self._recorder.listeners.remove(self._listen)

    def flush(self) -> None:
        """Put on the disk all that belongs to the iterations so far."""
        self._finish_curve_point()
        for writer in self._writers.values():
            writer.flush()

    def picture(self, name: str, figure: Figure) -> None:
        at = self._recorder.iteration
        write_picture(self._writer(), self.label, name, figure, at)

    def _writer(self, run: str = "") -> SummaryWriter:
        if run not in self._writers:
            options: Any = {"flush_secs": 10, "purge_step": self._purged_from}
            self._writers[run] = EventWriter(self.folder / run, **options)
        return self._writers[run]

    @property
    def _is_last(self) -> bool:
        return self._recorder.n_experiences_done == self._recorder.n_experiences

    def _scalar(self, tag: str, value: float) -> None:
        self._writer().add_scalar(tag, value, self._recorder.iteration)

    def _listen(self, m: Measurement) -> None:
        recorder, score = self._recorder, self._recorder.score.name
        stream, _, what = m.name.rpartition("_")
        if m.name.startswith(OFF_GRID):
            self._scalar(f"off_grid_share/layer_{m.name[len(OFF_GRID):]}", m.value)
        elif m.name.startswith(LOCALITY):
            if m.experience is None and not m.name.startswith(f"{LOCALITY}forecast"):
                self._scalar(f"locality/{m.name[len(LOCALITY):]}", m.value)
        elif stream == "curve" and m.experience is not None:
            if m.iteration != self._curve_at:
                self._finish_curve_point()
            self._curve_at = m.iteration
            self._curve_point[m.experience] = m.value
            self._scalar(f"{score}/experience_{m.experience + 1}", m.value)
        elif stream == "batch":
            self._scalar(f"training/{what}", m.value)
        elif what in ("loss", score) and (stream != "test" or recorder.in_training):
            several = recorder.n_experiences > 1 and m.experience is not None
            where = f"/experience_{(m.experience or 0) + 1}" if several else ""
            self._scalar(f"evaluated/{m.name}{where}", m.value)

    def _finish_curve_point(self) -> None:
        n_seen = self._recorder.n_seen(self._curve_at)
        seen = [v for k, v in self._curve_point.items() if k < n_seen]
        if n_seen and len(seen) == n_seen:
            tag = f"{self._recorder.score.name}/seen"
            self._writer().add_scalar(tag, sum(seen) / n_seen, self._curve_at)
        self._curve_point = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        recorder = self._recorder
        if recorder.iteration:
            write_boundary(
                self._writer(BOUNDARIES),
                recorder.score,
                recorder.n_experiences,
                recorder.iteration,
            )

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._finish_curve_point()
        network = spline_network(strategy.model)
        if network is not None:
            with self._recorder.evaluating(strategy.device):
                groups: Any = named_layers(strategy.model).values()
                layers = [group for group in groups if isinstance(group[0], KANLinear)]
                for k, parts in enumerate(layers, start=1):
                    values = [p.scaled_coefficients.detach().flatten() for p in parts]
                    tag = f"{self.label}/coefficients_layer_{k}"
                    at = self._recorder.iteration
                    self._writer().add_histogram(tag, torch.cat(values), at)
                title = f"{self.label}, {figures.in_seeds(1)}"
                self._draw({"network": lambda: network_picture(strategy, title)})

    def before_eval(self, strategy: Any, **kwargs: Any) -> None:
        self._confusion = None

    def after_eval_iteration(self, strategy: Any, **kwargs: Any) -> None:
        """Count which classes are taken for which, in the last evaluation."""
        if self._draws and self._is_last and not self._recorder.in_training:
            output, y = strategy.mb_output, strategy.mb_y
            if y.is_floating_point():
                return
            n = output.shape[1]
            if self._confusion is None:
                self._confusion = torch.zeros(n * n, dtype=torch.int64, device=y.device)
            pairs = y * n + output.argmax(1)
            self._confusion += torch.bincount(pairs, minlength=n * n)

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder, label = self._recorder, self.label
        n, score = recorder.n_experiences_done, recorder.score
        is_test = strategy.experience.origin_stream.name == "test"
        if recorder.in_training or not is_test or recorder.matrix[n].isnan().all():
            return
        for tag, _, value in so_far(recorder.matrix, n, score) if n else ():
            self._scalar(tag, value)

        def curves() -> Figure:
            measured = Curves.from_measurements(recorder.measurements, label)
            return figures.forgetting_curves([measured])

        matrix = partial(figures.score_matrix, recorder.matrix, label, score=score)
        pictures: dict[str, Callable[[], Figure]] = {f"{score.name}_matrix": matrix}
        if any(m.name == f"curve_{score.name}" for m in recorder.measurements):
            pictures["forgetting_curves"] = curves
        if (counts := self._confusion) is not None:
            square = counts.view(int(len(counts) ** 0.5), -1).cpu()
            confusion = partial(figures.confusion_matrix, square, label)
            pictures["confusion_matrix"] = confusion
        self._draw(pictures)
        self.flush()

    def _draw(self, pictures: Mapping[str, Callable[[], Figure]]) -> None:
        """Draw them all, or none where that would take too large a share of the time."""
        start = time.perf_counter()
        affordable = self._picture_share * (start - self._started)
        in_time = self._drawing_seconds + PICTURES_SECONDS <= affordable
        if self._draws and (self._is_last or in_time or self._picture_share == 1):
            for name, draw in pictures.items():
                self.picture(name, draw())
            self._drawing_seconds += time.perf_counter() - start


def network_picture(strategy: Any, title: str = "") -> Figure:
    """A strategy's KAN with all its heads, on the experience that it has trained on last."""
    model = strategy.model
    x = as_tensors(strategy.experience.dataset, PICTURED_SAMPLES)[0]
    network: Any = spline_network(model)
    body = set(network.modules())
    heads = [layer for layer in kan_layers(model).values() if layer not in body]
    names: list[str] | None = None
    if isinstance(model, GrowingHead):
        names = [str(label) for classes in model.classes for label in classes]
    elif isinstance(model, MultiHead):
        names = [f"{task}: {k}" for task in model.heads for k in range(model.n_outputs)]
    with eval_mode(model):
        x = x.flatten(1).to(strategy.device)
        samples = x if len(x) > 1 else None  # one alone has no spread
        shown: Any = {"heads": heads, "output_names": names, "title": title}
        return network_figure(network, samples, **shown)


def stock_evaluator(folder: Path | str) -> EvaluationPlugin:
    """Avalanche's own accuracy, loss and forgetting under their own tags, in the same
    TensorBoard run; the GPU waits for it at every iteration.
    """
    when: Any = dict.fromkeys(["minibatch", "epoch", "experience", "stream"], True)
    return EvaluationPlugin(
        stock.accuracy_metrics(**when),
        stock.loss_metrics(**when),
        stock.forgetting_metrics(experience=True, stream=True),
        SeenExperiencesAccuracy(),
        loggers=[TensorboardLogger(str(folder))],
        strict_checks=False,
    )
