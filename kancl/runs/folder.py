"""The run folder: where it lies, whole files or none, and what was there before."""

from __future__ import annotations

import csv
import io
import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

import kancl
from kancl.config import RunConfig, fingerprint, plain
from kancl.runner.checkpoint import write_whole
from kancl.runner.lock import RunLock

FILES = (
    "summary.json",  # first to go, last to come: it says whether the rest is complete
    "config.yaml",
    "env.json",
    "accuracy_matrix.csv",
    "rmse_matrix.csv",
    "validation_matrix.csv",
    "learned_function.csv",
    "learned_function.png",
    "locality.npz",
    "snapshots.pt",
    "metrics.csv",
    "model.pt",
    "error.txt",
)
SCORES = ("accuracy", "rmse")
IDENTITY = frozenset(
    "scenario n_experiences model strategy optimizer seed head match n_parameters "
    "n_active_parameters flops n_iterations".split()
)
"""What the summary of a completed run says at least."""


def is_whole(folder: Path, summary: Mapping[str, Any]) -> bool:
    """Whether a summary is of a completed run, and the run's files are there."""
    return (
        summary.get("status") == "completed"
        and summary.keys() >= IDENTITY
        and all((folder / name).is_file() for name in ("config.yaml", "metrics.csv"))
        and any((folder / f"{score}_matrix.csv").is_file() for score in SCORES)
    )


class RunFolder:
    """``log_dir/<scenario>-<incremental>/<model>-<strategy>/seed<k>-<hash>``."""

    def __init__(self, config: RunConfig) -> None:
        incremental = config.scenario.options.get("incremental")
        scenario = config.scenario.name + (f"-{incremental}" if incremental else "")
        self.path = (
            Path(config.log_dir)
            / scenario
            / f"{config.model.name}-{config.strategy.name}"
            / f"seed{config.seed}-{fingerprint(config)}"
        )
        self._config = config

    def completed(self) -> dict[str, Any] | None:
        """The summary of a run that completed here; None if none did, or if what it
        wrote is no longer there.
        """
        summary = self.summary()
        return summary if summary and is_whole(self.path, summary) else None

    def summary(self) -> dict[str, Any] | None:
        try:
            summary = json.loads((self.path / "summary.json").read_text())
        except (OSError, ValueError, RecursionError):
            return None
        return summary if isinstance(summary, dict) else None

    def start(self, device: torch.device) -> None:
        """Clear what an earlier run left and write how this one is made."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (self.path / name).unlink(missing_ok=True)
        self._clear_parts()
        for left in self.path.rglob("events.out.*"):
            left.unlink(missing_ok=True)
        self._write("config.yaml", OmegaConf.to_yaml(plain(self._config)))
        self._write("env.json", _json(environment(device)))

    def go_on(self, iteration: int) -> None:
        """Note that a run that was killed goes on here; what it wrote stays."""
        for name in ("summary.json", "error.txt"):
            (self.path / name).unlink(missing_ok=True)
        self._clear_parts()
        written = json.loads((self.path / "env.json").read_text())
        went_on = [*written.get("went_on_at_iterations", []), iteration]
        self._write("env.json", _json({**written, "went_on_at_iterations": went_on}))

    def locked(self) -> RunLock:
        """To be held while the run is made: nobody else makes it then."""
        return RunLock(self.path)

    def _clear_parts(self) -> None:
        for left in self.path.glob(".*.part"):
            left.unlink(missing_ok=True)

    def write_matrix(self, matrix: Tensor, name: str = "accuracy_matrix.csv") -> None:
        """Row r: after r experiences; column j: accuracy on experience j."""
        n = matrix.shape[1]
        header = ["after", *(f"experience_{j}" for j in range(n))]
        rows = ([r, *map(_number, row)] for r, row in enumerate(matrix.tolist()))
        self._write(name, _csv(header, rows))

    def write_metrics(
        self, measurements: Iterable[tuple[int, int | None, str, float]]
    ) -> None:
        header = ["iteration", "experience", "name", "value"]
        rows = ([*m[:3], _number(m[3])] for m in measurements)
        self._write("metrics.csv", _csv(header, rows))

    def write_table(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[float]]
    ) -> None:
        self._write(name, _csv(header, (map(_number, row) for row in rows)))

    def write_file(self, name: str, content: bytes) -> None:
        self._write(name, content)

    def write_model(self, model: torch.nn.Module) -> None:
        buffer = io.BytesIO()
        state = {key: value.cpu() for key, value in model.state_dict().items()}
        torch.save(state, buffer)
        self._write("model.pt", buffer.getvalue())

    def write_error(self, traceback: str) -> None:
        self._write("error.txt", traceback)

    def write_summary(self, summary: dict[str, Any]) -> None:
        self._write("summary.json", _json(summary))

    def _write(self, name: str, content: str | bytes) -> None:
        """A kill at any moment leaves the whole file or none."""
        data = content.encode() if isinstance(content, str) else content
        write_whole(self.path / name, data)


def environment(device: torch.device) -> dict[str, Any]:
    """What a run was made with; no names of people or machines."""
    return {
        "kancl": kancl.__version__,
        **_commit(Path(kancl.__file__).resolve().parent.parent),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "avalanche": version("avalanche-lib"),
        "numpy": version("numpy"),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "device_name": (
            torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        ),
        "threads": torch.get_num_threads(),
    }


def _commit(checkout: Path) -> dict[str, Any]:
    """Commit of a git checkout of kancl, and whether files differ from it."""
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():
        return {"commit": None}

    def ask(*arguments: str) -> str | None:
        command = [git, "-C", str(checkout), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True)
        return answer.stdout.strip() if answer.returncode == 0 else None

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return {"commit": ask("rev-parse", "HEAD"), "changed": bool(changed)}


def _csv(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float) -> str:
    """Shortest text that reads back as the same number; nothing for NaN."""
    return "" if value != value else repr(float(value))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
