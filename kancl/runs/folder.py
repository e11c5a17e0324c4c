"""Write a run folder: whole files or none, and nothing of an earlier run between them."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from torch import Tensor

from kancl.reading import try_json
from kancl.runs import names
from kancl.runs.files import delete, own_folder, pack, write_whole


def experience_name(index: int) -> str:
    """``experience_1`` of the first: tables, TensorBoard and messages count from 1."""
    return f"{names.EXPERIENCE}{index + 1}"


class RunFolder:
    """The writer of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def start(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """Clear what an earlier run left and write how this one is made."""
        own_folder(self.path, may_be_moved=True)
        delete(self.path, *names.OWNED)
        self.write_file(names.CONFIG, OmegaConf.to_yaml(dict(config)))
        self.write_json(names.ENVIRONMENT, environment)

    def resume(self, iteration: int, environment: Mapping[str, Any]) -> None:
        """Note that a run that was killed goes on here; what it wrote stays.

        Args:
            environment: written if that of the beginning cannot be read.
        """
        delete(self.path, names.SUMMARY, names.ERROR, names.PARTS)
        begun = self._begun() or environment
        resumed = [*begun.get(names.RESUMED, []), iteration]
        self.write_json(names.ENVIRONMENT, {**begun, names.RESUMED: resumed})

    def _begun(self) -> dict[str, Any] | None:
        """What ``start`` noted, if it can be read and be written again."""
        begun = try_json(self.path / names.ENVIRONMENT) or {}
        with suppress(ValueError):  # numbers that JSON does not have
            json.dumps(begun, allow_nan=False)
            if isinstance(begun.get(names.RESUMED, []), list):
                return begun
        return None

    def write_matrix(self, matrix: Tensor, score: str = "accuracy") -> None:
        """Row r: after r experiences; column j: ``score`` on experience j."""
        header = ["after", *map(experience_name, range(matrix.shape[1]))]
        rows = ([r, *row] for r, row in enumerate(matrix.tolist()))
        self.write_table(names.matrix_file(score), header, rows)

    def write_metrics(
        self, measurements: Iterable[tuple[int, int | None, str, float]]
    ) -> None:
        rows = (
            [at, None if k is None else experience_name(k), name, float(value)]
            for at, k, name, value in measurements
        )
        self.write_table(names.METRICS, names.METRICS_COLUMNS, rows)

    def write_table(
        self, name: str, header: Sequence[str], rows: Iterable[Iterable[Any]]
    ) -> None:
        """Numbers as the shortest text that reads back the same; NaN as nothing."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(["" if cell != cell else cell for cell in row] for row in rows)
        self.write_file(name, text.getvalue())

    def write_tensors(self, name: str, content: Mapping[str, Any]) -> None:
        self.write_file(name, pack(content))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        self.write_file(name, buffer.getvalue())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        self.write_file(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_file(self, name: str, content: bytes | str) -> None:
        data = content.encode() if isinstance(content, str) else content
        write_whole(self.path / name, data)
