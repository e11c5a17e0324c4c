"""A run in TensorBoard, the forgetting curves first.

What is seen on opening it: one chart per model and strategy with the accuracy on every
experience, a coloured line each, and the borders. TensorBoard gives colours to runs, so
each experience's curve is a sub-run of its own (a folder ``experience_k``) and all of
them share one tag. :func:`dashboard_url` makes TensorBoard colour an experience alike
in all charts and switch its smoothing off, which would smear the borders.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import torch
from avalanche.evaluation.metrics import (
    accuracy_metrics,
    forgetting_metrics,
    loss_metrics,
)
from avalanche.logging import TensorboardLogger
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from matplotlib.figure import Figure
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.metadata import (
    PLUGIN_DATA_VERSION,
    PLUGIN_NAME,
    SESSION_END_INFO_TAG,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
)
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from kancl.metrics import SeenExperiencesAccuracy
from kancl.metrics.score_matrix import (
    UndefinedMetric,
    average_seen_accuracy,
    forgetting,
    largest_rmse_increase,
    learning_accuracy,
)
from kancl.models import KANLinear
from kancl.models.inspect import named_layers, spline_network
from kancl.observe.off_grid import OFF_GRID
from kancl.observe.recorder import RecorderPlugin
from kancl.observe.snapshots import LOCALITY
from kancl.reporting import figures
from kancl.reporting.curves import Curves
from kancl.runs.measurements import Measurement
from kancl.runs.names import CURVE, RMSE_CURVE

EVERY_EXPERIENCE = "accuracy_on_every_experience"
RMSE_EVERYWHERE = "rmse_on_every_experience"
TAGS = {
    f"{EVERY_EXPERIENCE}/<model>-<strategy>": "The forgetting curves: accuracy on each "
    "experience (sub-runs experience_1, ...) on a sample of its test images, against "
    "training iterations. Experiences not yet trained are measured too, at every fifth "
    "point. The sub-run "
    "`borders` jumps up where the next experience begins.",
    "accuracy_on_seen/curve": "Mean of those curves over the experiences seen so far.",
    "accuracy_on_seen/test": "Mean accuracy on the experiences seen so far, whole test "
    "sets, after each experience.",
    "forgetting/forgetting": "Mean fall from the best accuracy, over the experiences "
    "before the latest, after each experience.",
    "forgetting/learning_accuracy": "Mean accuracy on each experience just after it was "
    "trained. A model that learns nothing forgets nothing: read the two together.",
    "training/loss": "Mean training loss over the latest batches, penalties of the "
    "strategy included. Sub-runs named after other evaluated streams: their loss.",
    "training/accuracy": "The same for the accuracy.",
    "off_grid_share/layer_<k>": "Share of the values that enter spline layer k outside "
    "its grid, where the spline is 0 and learns nothing.",
    "coefficients/layer_<k>": "Histogram of the spline coefficients of layer k after "
    "each experience.",
    "picture/forgetting_curves": "The forgetting curves with borders, as a figure.",
    "picture/accuracy_matrix": "Accuracy on experience (column) after training on so "
    "many experiences (row).",
    "picture/edge_functions": "The learned functions on the strongest edges of the first "
    "spline layer.",
    "final/<metric>": "The metrics of the summary, as shown beside the hyperparameters.",
    "about": "What this run is.",
}
"""Every tag that all runs write, with its meaning."""

TAGS_ON_REQUEST = {
    f"{RMSE_EVERYWHERE}/<model>-<strategy>": "The same of a regression: root mean square "
    "errors. Its `training/rmse` and `picture/rmse_matrix` stand for those of accuracies.",
    "forgetting/largest_rmse_increase": "Of a regression: the most that the error on an "
    "earlier experience has grown since it was trained.",
    "locality/experience_inference": "With `evaluation.locality=true`, "
    "class-incremental: how often the winning class belongs to the sample's experience.",
    "locality/within_experience_accuracy": "How often it is then the sample's class; the "
    "product of the two is the accuracy.",
    "locality/oracle_accuracy": "Accuracy if the experience were known.",
    "locality/recency_bias": "On old data, mean output for the newest classes less that "
    "for old ones.",
    "locality/grid_size_<layer>": "With `locality.grow_off_grid` or `refine_below`: cells "
    "of a layer's grid once it has changed.",
    "locality/free_share_<layer>": "With `locality.hard_mask`: share of the coefficients "
    "that may still move.",
    "picture/occupancy": "How much each experience's samples use each basis of each "
    "pixel.",
    "picture/overlap": "What experiences share in each layer; row old, column new.",
    "picture/drift_per_knot": "How far coefficients moved since each experience.",
    "picture/rollback": "Accuracy on each old experience with one group of parameters "
    "put back as it was then.",
    "picture/learned_function": "Of a regression: the function after each phase.",
}
"""Those of regressions, of ``evaluation.locality=true`` and of ``locality.*``."""


PULSE = [0.0] + [1.0] * 12 + [0.0] * 12
"""A border: a line straight up and down. TensorBoard smooths over points, not over
steps; so many equal ones leave the line upright at its default smoothing. Its fast
loader keeps one value per step, and so drops the line: see ``tensorboard_command``."""

PICTURES_SECONDS = 0.5
"""What drawing the pictures takes, about."""


class TensorBoardPlugin(SupervisedPlugin):
    """Write a run's events into ``folder`` while it is trained.

    Put it behind the recorder, the curve and the off-grid plugin, and ``close`` it in
    the end, whatever happened.

    Args:
        folder: of the run; sub-runs become folders in it.
        label: ``"<model>-<strategy>"``; runs of the same label share a chart.
        card: Markdown that says what the run is: parameters, protocol.
        figures: draw pictures.
        picture_share: largest share of the time so far that drawing may take; pictures
            that would take more are left to a later experience. The last one always has
            them; 1: all have.
        resumed_at: iteration at which a run that was killed goes on: TensorBoard drops
            what the killed one wrote of later ones.
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
        self.label = label
        self._recorder = recorder
        self._draws = figures
        self._started = time.perf_counter()
        self._picture_share = picture_share
        self._drawing_seconds = 0.0
        self._writers: dict[str, SummaryWriter] = {}
        self._regression = not recorder.score.higher_is_better
        curve = RMSE_EVERYWHERE if self._regression else EVERY_EXPERIENCE
        self._tag = f"{curve}/{label}"
        self._curve_point: dict[int, float] = {}
        self._curve_at = -1
        self._purged_from = None if resumed_at is None else resumed_at + 1
        self._writer("").add_custom_scalars(_layout(self._tag))
        self._writer("").add_text("about", _about(label, card))
        recorder.listeners.append(self._listen)

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """Write the hyperparameters with the final metrics and close the files.

        Args:
            hparams: name -> value; what is no number, string or bool becomes a string.
            summary: of the run; its numbers become ``final/...``, its ``status``
                whether the session counts as a success.
        """
        self._finish_curve_point()
        final = {
            f"final/{key}": float(value)
            for key, value in summary.items()
            if isinstance(value, (int, float)) and not isinstance(value, bool)
            if math.isfinite(value)
        }
        main = self._writer("")
        for tag, value in final.items():
            main.add_scalar(tag, value, self._recorder.iteration)
        plain = {k: _plain(v) for k, v in hparams.items()}
        experiment, start, _ = hparams_summaries(plain, final)
        success = summary.get("status") == "completed"
        status = Status.STATUS_SUCCESS if success else Status.STATUS_FAILURE
        for event in [experiment, start, _session_end(status)]:
            main._get_file_writer().add_summary(event)
        for writer in self._writers.values():
            writer.close()
        self._recorder.listeners.remove(self._listen)

    def flush(self) -> None:
        """Put on the disk all that belongs to the iterations so far."""
        self._finish_curve_point()
        for writer in self._writers.values():
            writer.flush()

    def _writer(self, run: str) -> SummaryWriter:
        if run not in self._writers:
            folder = str(self.folder / run)
            purged = self._purged_from
            writer = SummaryWriter(folder, flush_secs=10, purge_step=purged)
            self._writers[run] = writer
        return self._writers[run]

    # numbers, as the recorder hears of them

    def _listen(self, m: Measurement) -> None:
        if m.name in (CURVE, RMSE_CURVE) and m.experience is not None:
            if m.iteration != self._curve_at:
                self._finish_curve_point()
            self._curve_at = m.iteration
            self._curve_point[m.experience] = m.value
            run = f"experience_{m.experience + 1}"
            self._writer(run).add_scalar(self._tag, m.value, m.iteration)
        elif m.name.startswith(OFF_GRID):
            layer = m.name.removeprefix(OFF_GRID)
            self._scalar(f"off_grid_share/layer_{layer}", m.value)
        elif m.name.startswith(LOCALITY):
            if m.experience is None and not m.name.startswith(f"{LOCALITY}forecast"):
                self._scalar(f"locality/{m.name.removeprefix(LOCALITY)}", m.value)
        else:
            stream, _, what = m.name.rpartition("_")
            if stream == "batch":
                self._scalar(f"training/{what}", m.value)
            elif what in ("loss", self._recorder.score.name) and (
                stream != "test" or self._recorder.in_training
            ):
                run = stream
                if self._recorder.n_experiences > 1 and m.experience is not None:
                    run = f"{stream}_experience_{m.experience + 1}"
                writer = self._writer(run)
                writer.add_scalar(f"training/{what}", m.value, m.iteration)

    def _finish_curve_point(self) -> None:
        """The mean over the experiences seen, once all of a point are there."""
        n_seen = self._recorder.n_seen(max(self._curve_at, 0))
        seen = [v for k, v in self._curve_point.items() if k < n_seen]
        if n_seen and len(seen) == n_seen and not self._regression:
            main = self._writer("")
            main.add_scalar(
                "accuracy_on_seen/curve", sum(seen) / n_seen, self._curve_at
            )
        self._curve_point = {}

    def _scalar(self, tag: str, value: float) -> None:
        self._writer("").add_scalar(tag, value, self._recorder.iteration)

    # borders and pictures, as training goes on

    def before_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        iteration = self._recorder.iteration
        if iteration:
            for height in PULSE:
                self._writer("borders").add_scalar(self._tag, height, iteration)

    def after_training_exp(self, strategy: Any, **kwargs: Any) -> None:
        self._finish_curve_point()
        network = spline_network(strategy.model)
        if network is not None:
            with self._recorder.evaluating(strategy.device):
                self._write_coefficients(strategy.model)
                if self._may_draw():
                    with self._drawing():
                        edges = figures.edge_functions(network)
                        self.picture("edge_functions", edges)

    def after_eval(self, strategy: Any, **kwargs: Any) -> None:
        recorder = self._recorder
        n = recorder.n_trained
        if recorder.in_training or recorder.matrix[n].isnan().all():
            return
        part = recorder.matrix[: n + 1, : max(n, 1)]
        if n and self._regression:
            self._metric(
                "forgetting/largest_rmse_increase", largest_rmse_increase, part
            )
        elif n:
            self._metric(
                "accuracy_on_seen/test", average_seen_accuracy, recorder.matrix, n
            )
            self._metric("forgetting/learning_accuracy", learning_accuracy, part)
            self._metric("forgetting/forgetting", forgetting, part)
        if self._may_draw():
            with self._drawing():
                self._draw_scores()
        for writer in self._writers.values():
            writer.flush()

    def _may_draw(self) -> bool:
        seconds = time.perf_counter() - self._started
        enough = (
            self._drawing_seconds + PICTURES_SECONDS <= self._picture_share * seconds
        )
        last = self._recorder.n_trained == self._recorder.n_experiences
        return self._draws and (last or enough or self._picture_share == 1)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._drawing_seconds += time.perf_counter() - start

    def _draw_scores(self) -> None:
        recorder = self._recorder
        draw = figures.rmse_matrix if self._regression else figures.accuracy_matrix
        matrix = draw(recorder.matrix, self.label)
        self.picture(f"{recorder.score.name}_matrix", matrix)
        if any(m.name in (CURVE, RMSE_CURVE) for m in recorder.measurements):
            curves = Curves.from_measurements(recorder.measurements, self.label)
            self.picture("forgetting_curves", figures.forgetting_curves([curves]))

    def _metric(self, tag: str, metric: Any, *arguments: Any) -> None:
        try:
            self._scalar(tag, metric(*arguments))
        except UndefinedMetric:
            pass  # no point in the chart; the run's summary says why

    def picture(self, name: str, figure: Figure) -> None:
        """Write a figure as ``picture/<name>``, now."""
        image = figures.as_pixels(figure)
        tag, at = f"picture/{name}", self._recorder.iteration
        self._writer("").add_image(tag, image, at, dataformats="HWC")

    @torch.no_grad()
    def _write_coefficients(self, model: Any) -> None:
        groups: Any = named_layers(model).values()
        layers = [group for group in groups if isinstance(group[0], KANLinear)]
        for k, parts in enumerate(layers, start=1):
            flat = torch.cat([part.scaled_coefficients.flatten() for part in parts])
            at = self._recorder.iteration
            self._writer("").add_histogram(f"coefficients/layer_{k}", flat, at)


def write_comparison(
    folder: Path | str, runs: Sequence[Curves], title: str = ""
) -> None:
    """The forgetting curves of several runs side by side, as a TensorBoard run."""
    with SummaryWriter(str(folder)) as writer:
        image = figures.as_pixels(figures.forgetting_curves(runs, title))
        writer.add_image("picture/forgetting_curves", image, dataformats="HWC")


def tensorboard_command(log_dir: Path | str) -> str:
    """What to type to see a folder's runs, with all values that a border has."""
    return f"tensorboard --logdir {log_dir} --load_fast=false"


def dashboard_url(
    labels: Sequence[str],
    address: str = "http://localhost:6006",
    curves: str = EVERY_EXPERIENCE,
) -> str:
    """The address that shows the forgetting curves first: pinned, unsmoothed, each
    experience in one colour whatever the model.
    """
    pins = [f'{{"plugin":"scalars","tag":"{curves}/{label}"}}' for label in labels]
    query = {
        "pinnedCards": f"[{','.join(pins)}]",
        "runColorGroup": r"regex:(experience_\d+|borders)$",
        "smoothing": "0",
    }
    return f"{address}/?{urlencode(query)}#timeseries"


def stock_evaluator(folder: Path | str) -> EvaluationPlugin:
    """Avalanche's own accuracy, loss and forgetting under their own tags, in the same
    TensorBoard run, beside :class:`~kancl.metrics.SeenExperiencesAccuracy`.

    It draws a chart per experience and makes the GPU wait at every iteration.
    """
    return EvaluationPlugin(
        accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        loss_metrics(minibatch=True, epoch=True, experience=True, stream=True),
        forgetting_metrics(experience=True, stream=True),
        SeenExperiencesAccuracy(),
        loggers=[TensorboardLogger(str(folder))],
        strict_checks=False,
    )


def _layout(tag: str) -> dict[str, dict[str, list[Any]]]:
    return {"forgetting curves": {tag: ["Multiline", [tag]]}}


def _about(label: str, card: str) -> str:
    rows = [
        f"| `{tag}` | {meaning} |"
        for tag, meaning in {**TAGS, **TAGS_ON_REQUEST}.items()
    ]
    table = "\n".join(["| tag | meaning |", "|---|---|", *rows])
    return f"# {label}\n\n{card}\n\n{table}\n"


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _session_end(status: int) -> Summary:
    """What the hparams plugin reads a session's outcome from."""
    data = HParamsPluginData(
        session_end_info=SessionEndInfo(status=status), version=PLUGIN_DATA_VERSION
    )
    plugin = SummaryMetadata.PluginData(
        plugin_name=PLUGIN_NAME, content=data.SerializeToString()
    )
    metadata = SummaryMetadata(plugin_data=plugin)
    return Summary(value=[Summary.Value(tag=SESSION_END_INFO_TAG, metadata=metadata)])
