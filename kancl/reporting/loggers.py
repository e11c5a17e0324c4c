"""Runs in Weights & Biases and in MLflow, by their own libraries."""

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from kancl.config import ConfigError
from kancl.runs.folder import experience_name
from kancl.runs.measurements import Measurement
from kancl.runs.names import MLFLOW, REPLACEMENT
from kancl.runs.reader import finite

PROJECT = "kancl"
AT_ONCE = 500
"""MLflow's server takes at most 1000 values in one request."""


class Logger(Protocol):
    """Is told every measurement of a run while it is trained, and its end.

    Args:
        folder: the run's own; its last three parts name the run.
        settings: everything that decides what the run is, by dotted key.
        resumed: the run goes on, so what was logged of it stays.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, resumed: bool
    ) -> None: ...

    def listen(self, measurement: Measurement) -> None: ...

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        """Write the summary's numbers and its ``status``."""


class WandbLogger:
    """A run of the project ``kancl``, in the folder ``wandb`` of the run's own until it is
    sent. The environment's ``WANDB_MODE``, ``WANDB_PROJECT``... count, as always.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, resumed: bool
    ) -> None:
        import wandb

        *_, scenario, label, run = _home(folder).parts
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=f"{scenario} {label}",
            name=f"{label} {run}",
            id=f"{scenario}-{label}-{run}"[-128:].replace("+", "-"),
            resume="allow" if resumed else None,  # None: what was there goes
            config=dict(settings),
            dir=folder,
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off"),
        )

    def listen(self, measurement: Measurement) -> None:
        self._run.log(_named(measurement), step=measurement.iteration)

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        completed = summary.get("status") == "completed"
        self._run.summary.update({**numbers(summary), "status": summary["status"]})
        self._run.finish(exit_code=int(not completed))


class MLflowLogger:
    """A run of the experiment that is named as the scenario, where ``MLFLOW_TRACKING_URI``
    says, or else in the folder ``mlruns`` beside the run folders.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], *, resumed: bool
    ) -> None:
        from mlflow import MlflowClient

        *_, scenario, label, run = _home(folder).parts
        place = os.environ.get("MLFLOW_TRACKING_URI")
        if not place:
            # MLflow asks for this word before it opens a folder of files.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            place = (_home(folder).absolute().parents[2] / MLFLOW).as_uri()
        self._client = MlflowClient(tracking_uri=place)
        self._waiting: list[Measurement] = []
        found = self._client.get_experiment_by_name(scenario)
        experiment = found and found.experiment_id
        experiment = experiment or self._client.create_experiment(scenario)
        name = f"{label} {run}"
        there = self._client.search_runs(
            [experiment], f"attributes.run_name = '{name}'"
        )
        self._old = [old.info.run_id for old in there]  # the latest first
        if there and resumed:
            self._id = self._old.pop(0)
            return
        self._id = self._client.create_run(experiment, run_name=name).info.run_id
        for key, value in settings.items():
            self._client.log_param(self._id, key, value)

    def listen(self, measurement: Measurement) -> None:
        self._waiting.append(measurement)
        if len(self._waiting) == AT_ONCE:
            self._send()

    def close(self, hparams: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
        self._send()
        for key, value in numbers(summary).items():
            self._client.log_metric(self._id, f"final/{key}", value)
        status = "FINISHED" if summary.get("status") == "completed" else "FAILED"
        self._client.set_terminated(self._id, status)
        if status == "FINISHED":
            for old in self._old:
                self._client.delete_run(old)

    def _send(self) -> None:
        from mlflow.entities import Metric

        now = 0  # time is told by iterations alone
        values = [
            Metric(name, value, now, measurement.iteration)
            for measurement in self._waiting
            for name, value in _named(measurement).items()
        ]
        self._client.log_batch(self._id, metrics=values)
        self._waiting = []


LOGGERS: dict[str, type[Logger]] = {"wandb": WandbLogger, "mlflow": MLflowLogger}
"""Beside TensorBoard; the name is that of the library, and of the extra that brings it."""


def check_loggers(names: Sequence[str]) -> None:
    """Raises: ConfigError if a library is missing, or does not know where to send runs."""
    for name in names:
        if name in LOGGERS and find_spec(name) is None:
            raise ConfigError(f"loggers=[{name}] needs: pip install 'kancl[{name}]'")
    if "wandb" in names:
        import wandb

        sends = os.environ.get("WANDB_MODE", "online") in ("online", "shared")
        if sends and not wandb.login(prompt=False):
            raise ConfigError(
                "loggers=[wandb] has no account to send runs to: give wandb login, or set "
                "WANDB_MODE=offline in the environment"
            )


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a summary."""
    each = {key: finite(value) for key, value in summary.items()}
    return {key: value for key, value in each.items() if value is not None}


def _home(folder: Path) -> Path:
    """The run folder, also of one that is to replace it."""
    return folder.parent if folder.name == REPLACEMENT else folder


def _named(m: Measurement) -> dict[str, float]:
    where = "" if m.experience is None else f"/{experience_name(m.experience)}"
    return {f"{m.name}{where}": m.value}
