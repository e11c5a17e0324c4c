"""Write a run folder: whole files or none, and nothing of an earlier run between them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from kancl.runs import names
from kancl.runs.files import delete, try_json, write_whole


class RunFolder:
    """The writer of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Clear what an earlier run left and write how this one is made."""
        self.path.mkdir(parents=True, exist_ok=True)
        delete(self.path, *names.FILES, names.PARTS, f"**/{names.EVENTS}")
        self.write_file(names.CONFIG, OmegaConf.to_yaml(dict(config)).encode())
        self._write_json(names.ENVIRONMENT, environment)

    def resume(self, iteration: int, environment: Mapping[str, Any]) -> None:
        """Note that a run that was killed goes on here; what it wrote stays.

        Args:
            environment: written if that of the beginning cannot be read.
        """
        delete(self.path, names.SUMMARY, names.ERROR, names.PARTS)
        begun = try_json(self.path / names.ENVIRONMENT) or environment
        resumed = [*begun.get(names.RESUMED, []), iteration]
        self._write_json(names.ENVIRONMENT, {**begun, names.RESUMED: resumed})

    def write_matrix(self, matrix: Tensor, score: str = "accuracy") -> None:
        """Row r: after r experiences; column j: ``score`` on experience j."""
        header = ["after", *(f"experience_{j}" for j in range(matrix.shape[1]))]
        rows = ([r, *map(_number, row)] for r, row in enumerate(matrix.tolist()))
        self._write_rows(names.matrix_file(score), header, rows)

    def write_metrics(
        self, measurements: Iterable[tuple[int, int | None, str, float]]
    ) -> None:
        rows = ([*m[:3], _number(m[3])] for m in measurements)
        self._write_rows(names.METRICS, names.METRICS_COLUMNS, rows)

    def write_table(
        self, name: str, header: Sequence[str], rows: Iterable[Sequence[float]]
    ) -> None:
        self._write_rows(name, header, (map(_number, row) for row in rows))

    def write_model(self, model: torch.nn.Module) -> None:
        state = {key: value.cpu() for key, value in model.state_dict().items()}
        self._write_tensors(names.MODEL, state)

    def write_snapshots(self, states: Sequence[Mapping[str, Tensor]]) -> None:
        """Keep states of the network, as tensors alone: reading them runs no code."""
        self._write_tensors(names.SNAPSHOTS, {"states": states})

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self.write_file(name, buffer.getvalue())

    def write_error(self, traceback: str) -> None:
        self.write_file(names.ERROR, traceback.encode())

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        self._write_json(names.SUMMARY, summary)

    def write_file(self, name: str, content: bytes) -> None:
        write_whole(self.path / name, content)

    def _write_tensors(self, name: str, content: object) -> None:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.write_file(name, buffer.getvalue())

    def _write_json(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        self.write_file(name, text.encode())

    def _write_rows(
        self, name: str, header: Sequence[str], rows: Iterable[Iterable[Any]]
    ) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        self.write_file(name, text.getvalue().encode())


def _number(value: float) -> str:
    """Shortest text that reads back as the same number; nothing for NaN."""
    return "" if value != value else repr(float(value))
