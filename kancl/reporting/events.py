"""TensorBoard's files: tags with their meanings, hyperparameters, charts, addresses."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from matplotlib.figure import Figure
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from kancl.config.values import as_typed
from kancl.metrics.score_matrix import ACCURACY, Score
from kancl.reporting.figures import as_pixels
from kancl.reporting.loggers import numbers
from kancl.reporting.measures import COMPARED, METRICS
from kancl.runs.files import own_folder, writing

TEXT = (resources.files("kancl.reporting") / "tags.md").read_text()

TAGS, TAGS_ON_REQUEST, TAGS_OF_GROUPS = (
    dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", part, re.MULTILINE))
    for part in TEXT.split("\n## ")[1:]
)
"""Tags with their meanings: of all runs; of some; of a comparison's groups."""

BOUNDARIES = "boundaries"
PULSE = [0.0] + [1.0] * 6 + [0.0] * 6
"""An experience boundary: a line straight up and down, upright even at TensorBoard's
default smoothing. Its fast loader keeps one value per step, and so drops the line."""

FIRST = {
    "model.name": "model",
    "strategy.name": "strategy",
    "optimizer.lr": "learning rate",
    "seed": "seed",
    "scenario.name": "scenario",
}
"""TensorBoard opens with five hyperparameters, by their names, and five metrics."""
FIRST_METRICS = tuple(
    key
    for lost, learned, average in COMPARED.values()
    for key in (average, lost, learned)
)

DEFAULT_ADDRESS = "http://localhost:6006"


class EventWriter(SummaryWriter):
    """A writer into a folder of kancl's own, whose errors name that folder.

    Raises: WriteError, also for what could not be written earlier: a thread writes.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        _raise_only()
        with writing(own_folder(folder)):
            super().__init__(str(folder), **options)
        assert self.file_writer is not None
        self.file_writer.event_writer = _EventFile(self.file_writer.event_writer)


@cache
def _raise_only() -> None:
    """Have errors of TensorBoard's thread raised where the next event is written, and not
    printed with a traceback, too.
    """
    others = threading.excepthook

    def say(failed: Any) -> None:
        if not isinstance(failed.thread, _AsyncWriterThread):
            others(failed)

    threading.excepthook = say


class _EventFile:
    """TensorBoard's own writer of a file, whose errors name the folder."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Callable[..., Any]:
        writes = writing(Path(self._writer.get_logdir()))
        method: Callable[..., Any] = writes(getattr(self._writer, name))
        return method


def write_picture(
    writer: SummaryWriter, label: str, name: str, figure: Figure, at: int | None = None
) -> None:
    """A card that shows one run alone begins with its ``<model>-<strategy>``."""
    pixels = as_pixels(figure)
    writer.add_image(f"{label}/{name}", pixels, at, dataformats="HWC")


def write_boundary(writer: SummaryWriter, score: Score, n: int, at: int) -> None:
    """A line straight up in every chart of ``n`` experiences' forgetting curves."""
    for curve in curve_names(n):
        for height in PULSE:
            writer.add_scalar(f"{score.name}/{curve}", height, at)


def curve_names(n_experiences: int) -> list[str]:
    """``seen``, ``experience_1`` ...: the last parts of the forgetting curves' tags."""
    return ["seen", *(f"experience_{k + 1}" for k in range(n_experiences))]


def write_hparams(
    writer: SummaryWriter,
    settings: Mapping[str, Any],
    summary: Mapping[str, Any],
    at: int,
) -> None:
    """Write settings beside the summary's numbers as ``final/...``, with its ``status`` as
    the session's success. The first columns are the same in every run.
    """
    found = numbers(summary)
    ordered = {k: found[k] for k in (*FIRST_METRICS, *found) if k in found}
    final = {f"final/{key}": value for key, value in ordered.items()}
    for tag, value in final.items():
        writer.add_scalar(tag, value, at)
    # TensorBoard sorts those that are said to differ before the others, each by name
    first = {f"{k}. {title}": title for k, title in enumerate(FIRST.values(), start=1)}
    known = dict(zip(FIRST, first))
    simple = (bool, int, float, str)
    told = {
        known.get(key, key): value if isinstance(value, simple) else str(value)
        for key, value in settings.items()
    }
    experiment, start, end = hparams_summaries(told, final)
    with _plugin_data(experiment) as data:
        for column in data.experiment.hparam_infos:
            column.differs = column.name in first
            column.display_name = first.get(column.name, "")
        for column in data.experiment.metric_infos:
            key = column.name.tag.removeprefix("final/")
            if key in METRICS:
                column.display_name = METRICS[key].words
    if summary.get("status", "completed") != "completed":
        with _plugin_data(end) as data:
            data.session_end_info.status = Status.STATUS_FAILURE
    for event in (experiment, start, end):
        writer._get_file_writer().add_summary(event)


@contextmanager
def _plugin_data(event: Any) -> Iterator[HParamsPluginData]:
    """What an event tells the table of hyperparameters, to be changed."""
    held = event.value[0].metadata.plugin_data
    yield (data := HParamsPluginData.FromString(held.content))
    held.content = data.SerializeToString()


def run_layout(score: Score) -> dict[str, Any]:
    """Charts of the custom-scalars tab, alike for every run: each draws all runs ticked."""
    curves, training = score.name, f"training/{score.name}$"
    return {
        "training": {
            score.title: ["Multiline", [training, f"evaluated/.*_{score.name}"]],
            "loss": ["Multiline", ["training/loss$", "evaluated/.*_loss"]],
        },
        "forgetting curves": {
            f"{score.title} on the experiences seen": [
                "Multiline",
                [f"{curves}/seen$"],
            ],
            f"{score.title} on every experience": [
                "Multiline",
                [rf"{curves}/experience_\d+$"],
            ],
        },
    }


def tensorboard_command(log_dir: Path | str) -> str:
    """What to type to see a folder's runs, with all values that a boundary has."""
    return as_typed("tensorboard", "--logdir", log_dir, "--load_fast=false")


def dashboard_url(
    runs: str = "", score: Score = ACCURACY, address: str = DEFAULT_ADDRESS
) -> str:
    """The page on which the forgetting curves stand first: pinned and unsmoothed.

    Args:
        runs: regular expression; those that it is found in are shown.
    """
    tags = [f"{score.name}/{curve}" for curve in curve_names(1)]
    pins = [f'{{"plugin":"scalars","tag":"{tag}"}}' for tag in tags]
    query = {
        "pinnedCards": f"[{','.join(pins)}]",
        "runFilter": runs,
        "runColorGroup": r"regex:(.+?)(?:/(?:low|high))?$",  # a mean and its band
        "smoothing": "0",
    }
    return f"{address}/?{urlencode({k: v for k, v in query.items() if v})}#timeseries"
