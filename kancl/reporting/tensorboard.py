"""A run in TensorBoard, the forgetting curves first."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch
from avalanche.evaluation import metrics as stock
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from matplotlib.figure import Figure
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from kancl.config.values import as_typed
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
from kancl.reporting.loggers import numbers
from kancl.reporting.measures import so_far
from kancl.runs.files import own_folder, writing
from kancl.runs.measurements import Measurement

TEXT = (resources.files("kancl.reporting") / "tags.md").read_text()

TAGS, TAGS_ON_REQUEST, OVER_SEEDS = (
    dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", part, re.MULTILINE))
    for part in TEXT.split("\n## ")[1:]
)
"""Tags with their meanings: of all runs; of some; of runs over seeds."""

CURVES = "{}_on_every_experience"
"""Group of the forgetting curves, by the name of the score."""

PULSE = [0.0] + [1.0] * 12 + [0.0] * 12
"""An experience boundary: a line straight up and down, upright even at TensorBoard's
default smoothing. Its fast loader keeps one value per step, and so drops the line."""

DEFAULT_ADDRESS = "http://localhost:6006"

PICTURES_SECONDS = 0.5

PICTURED_SAMPLES = 128
"""Samples of the latest experience that the picture of the network is drawn from."""


class EventWriter(SummaryWriter):
    """A writer into a folder of kancl's own, whose errors name that folder.

    Raises: WriteError, also for what could not be written earlier: a thread writes.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        with writing(own_folder(folder)):
            super().__init__(str(folder), **options)
        assert self.file_writer is not None
        self.file_writer.event_writer = _EventFile(self.file_writer.event_writer)


class _EventFile:
    """TensorBoard's own writer of a file, whose errors name the folder."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        writes = writing(Path(self._writer.get_logdir()))
        method: Callable[..., Any] = writes(getattr(self._writer, name))
        return method


def write_picture(
    writer: SummaryWriter, tag: str, figure: Figure, at: int | None = None
) -> None:
    writer.add_image(tag, figures.as_pixels(figure), at, dataformats="HWC")


class TensorBoardPlugin(SupervisedPlugin):
    """Write a run's events into ``folder`` while it is trained, each experience's curve as
    a sub-run with a colour of its own. Put it behind the recorder, the curve and the
    off-grid plugin, and ``close`` it in the end, whatever happened.

    Args:
        label: ``"<model>-<strategy>"``; runs of the same label share a chart.
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
        self._tag = f"{CURVES.format(recorder.score.name)}/{label}"
        self._curve_point: dict[int, float] = {}
        self._curve_at = 0
        self._purged_from = None if resumed_at is None else resumed_at + 1
        layout = {"forgetting curves": {self._tag: ["Multiline", [self._tag]]}}
        self._writer().add_custom_scalars(layout)
        self._writer().add_text("about", f"# {label}\n\n{card}\n\n{TEXT}")
        recorder.listeners.append(self._listen)

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """Write the hyperparameters with the summary's numbers as ``final/...`` and its
        ``status`` as the session's success, and close the files.
        """
        self._finish_curve_point()
        final = {f"final/{key}": value for key, value in numbers(summary).items()}
        for tag, value in final.items():
            self._scalar(tag, value)
        simple = (bool, int, float, str)
        plain = {k: v if isinstance(v, simple) else str(v) for k, v in hparams.items()}
        experiment, start, end = hparams_summaries(plain, final)
        if summary.get("status") != "completed":
            outcome = end.value[0].metadata.plugin_data
            data = HParamsPluginData.FromString(outcome.content)
            data.session_end_info.status = Status.STATUS_FAILURE
            outcome.content = data.SerializeToString()
        for event in [experiment, start, end]:
            self._writer()._get_file_writer().add_summary(event)
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
        write_picture(self._writer(), f"picture/{name}", figure, at)

    def _writer(self, run: str = "") -> SummaryWriter:
        if run not in self._writers:
            options: Any = {"flush_secs": 10, "purge_step": self._purged_from}
            self._writers[run] = EventWriter(self.folder / run, **options)
        return self._writers[run]

    def _scalar(self, tag: str, value: float, run: str = "") -> None:
        self._writer(run).add_scalar(tag, value, self._recorder.iteration)

    def _listen(self, m: Measurement) -> None:
        recorder = self._recorder
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
            self._scalar(self._tag, m.value, f"experience_{m.experience + 1}")
        elif stream == "batch":
            self._scalar(f"training/{what}", m.value)
        elif what in ("loss", recorder.score.name):
            if stream != "test" or recorder.in_training:
                several = recorder.n_experiences > 1 and m.experience is not None
                run = f"_experience_{(m.experience or 0) + 1}" if several else ""
                self._scalar(f"training/{what}", m.value, stream + run)

    def _finish_curve_point(self) -> None:
        n_seen = self._recorder.n_seen(self._curve_at)
        seen = [v for k, v in self._curve_point.items() if k < n_seen]
        if n_seen and len(seen) == n_seen:
            tag = f"{self._recorder.score.name}_on_seen/curve"
            self._writer().add_scalar(tag, sum(seen) / n_seen, self._curve_at)
        self._curve_point = {}

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        if self._recorder.iteration:
            for height in PULSE:
                self._scalar(self._tag, height, "boundaries")

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._finish_curve_point()
        network = spline_network(strategy.model)
        if network is not None:
            with self._recorder.evaluating(strategy.device):
                groups: Any = named_layers(strategy.model).values()
                layers = [group for group in groups if isinstance(group[0], KANLinear)]
                for k, parts in enumerate(layers, start=1):
                    values = [p.scaled_coefficients.detach().flatten() for p in parts]
                    tag, at = f"coefficients/layer_{k}", self._recorder.iteration
                    self._writer().add_histogram(tag, torch.cat(values), at)
                self._draw({"network": lambda: network_picture(strategy)})

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder, label = self._recorder, self.label
        n, score = recorder.n_experiences_done, recorder.score
        if recorder.in_training or recorder.matrix[n].isnan().all():
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
        self._draw(pictures)
        self.flush()

    def _draw(self, pictures: Mapping[str, Callable[[], Figure]]) -> None:
        """Draw them all, or none where that would take too large a share of the time."""
        start = time.perf_counter()
        affordable = self._picture_share * (start - self._started)
        is_last = self._recorder.n_experiences_done == self._recorder.n_experiences
        in_time = self._drawing_seconds + PICTURES_SECONDS <= affordable
        if self._draws and (is_last or in_time or self._picture_share == 1):
            for name, draw in pictures.items():
                self.picture(name, draw())
            self._drawing_seconds += time.perf_counter() - start


def network_picture(strategy: Any) -> Figure:
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
        return network_figure(network, x, heads=heads, output_names=names)


def write_comparison(folder: Path, runs: Sequence[Curves]) -> None:
    with EventWriter(folder) as writer:
        figure = figures.forgetting_curves(runs)
        write_picture(writer, "picture/forgetting_curves", figure)


def tensorboard_command(log_dir: Path | str) -> str:
    """What to type to see a folder's runs, with all values that a boundary has."""
    return as_typed("tensorboard", "--logdir", log_dir, "--load_fast=false")


def dashboard_url(
    labels: Sequence[str], address: str = DEFAULT_ADDRESS, score: str = "accuracy"
) -> str:
    """The forgetting curves first: pinned, unsmoothed, experiences alike in all runs."""
    curves = CURVES.format(score)
    pins = [f'{{"plugin":"scalars","tag":"{curves}/{label}"}}' for label in labels]
    query = {
        "pinnedCards": f"[{','.join(pins)}]",
        "runColorGroup": r"regex:(experience_\d+|boundaries)$",
        "smoothing": "0",
    }
    return f"{address}/?{urlencode(query)}#timeseries"


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
