"""Data sets that training has put together, told by experience and row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from avalanche.benchmarks.utils import (
    AvalancheDataset,
    concat_datasets,
    make_avalanche_dataset,
)
from avalanche.benchmarks.utils.data_attribute import TensorDataAttribute
from avalanche.benchmarks.utils.flat_data import FlatData
from torch import Tensor

from kancl.data.rows import sample_source


class Samples:
    """The experiences of a benchmark, to say where samples come from.

    Buffers of exemplars and accumulated data hold rows of them, in an order of their
    own, and DER's hold outputs besides. A few bytes per sample say it all.
    """

    def __init__(self, benchmark: Any) -> None:
        self._streams = {name: list(s) for name, s in benchmark.streams.items()}
        self._leaves: dict[int, tuple[str, int]] = {}
        for name, experiences in self._streams.items():
            for k, experience in enumerate(experiences):
                found = sample_source([experience.dataset])
                if found is not None:
                    for leaf in found.leaves:
                        self._leaves[id(leaf)] = name, k

    def place(self, experience: Any) -> tuple[str, int] | None:
        """Stream and number of an experience; None if it is none of the benchmark's.

        Iterating over a stream makes experience objects anew, so the numbers decide.
        """
        name = getattr(getattr(experience, "origin_stream", None), "name", None)
        index = int(getattr(experience, "current_experience", -1))
        if (
            isinstance(name, str)
            and name in self._streams
            and 0 <= index < len(self._streams[name])
        ):
            return name, index
        return None

    def experience(self, stream: str, index: int) -> Any:
        return self._streams[stream][index]

    def sources(self, dataset: AvalancheDataset) -> dict[str, Any] | None:
        """Plain data that ``dataset`` makes a data set of; None for foreign samples."""
        if len(dataset) == 0:
            return {"parts": []}
        found = sample_source([dataset])
        if found is None:
            return None
        parts: list[list[Any]] = []
        for k, leaf in enumerate(found.leaves):
            if id(leaf) not in self._leaves:
                return None
            parts.append([*self._leaves[id(leaf)]])
        columns = {
            name: torch.stack([values[i] for i in range(len(dataset))])
            for name, values in found.others.items()
        }
        return {
            "parts": parts,
            "part": torch.from_numpy(found.leaf).int(),
            "row": torch.from_numpy(found.position).int(),
            "columns": columns,
        }

    def dataset(self, sources: Mapping[str, Any]) -> AvalancheDataset:
        """The data set again."""
        if not sources["parts"]:
            return concat_datasets([])
        wholes = [self.experience(*place).dataset for place in sources["parts"]]
        starts = torch.tensor([0, *map(len, wholes)]).cumsum(0)
        rows: Tensor = starts[sources["part"].long()] + sources["row"].long()
        whole = wholes[0] if len(wholes) == 1 else concat_datasets(wholes)
        dataset = whole.subset(rows.tolist())
        if not sources["columns"]:
            return dataset
        attributes = [
            TensorDataAttribute(
                FlatData(
                    [list(column.unbind(0))], discard_elements_not_in_indices=True
                ),
                name=name,
                use_in_getitem=True,
            )
            for name, column in sources["columns"].items()
        ]
        return make_avalanche_dataset(dataset, data_attributes=attributes)
