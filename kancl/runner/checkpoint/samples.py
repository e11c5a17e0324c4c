"""Data sets that training has put together, told by experience and row."""

from collections.abc import Callable, Mapping
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
from kancl.plugins.state import Unresumable

SOURCES = "$samples"
"""Key of what stands for a data set in a state."""


class SampleSources:
    """The experiences of a benchmark, whose rows buffers of exemplars hold.

    A few bytes per sample say which; DER's outputs are held besides.
    """

    def __init__(self, benchmark: Any) -> None:
        self._streams = {name: list(s) for name, s in benchmark.streams.items()}
        self._leaves: dict[int, tuple[str, int]] = {}
        for name, experiences in self._streams.items():
            for k, experience in enumerate(experiences):
                found = sample_source([experience.dataset])
                leaves = [] if found is None else found.leaves
                self._leaves |= {id(leaf): (name, k) for leaf in leaves}

    def named(self, value: Any) -> Any:
        """Put the sources of its samples in the place of every data set of a state."""
        if isinstance(value, AvalancheDataset):
            return {SOURCES: self.sources(value)}
        return _mapped(value, self.named)

    def found(self, value: Any) -> Any:
        """Put the data sets back into a state."""
        if isinstance(value, dict) and value.keys() == {SOURCES}:
            return self.dataset(value[SOURCES])
        return _mapped(value, self.found)

    def sources(self, dataset: AvalancheDataset) -> dict[str, Any]:
        """Return plain data that ``dataset`` makes a data set of.

        Raises: Unresumable for samples that are none of the benchmark's.
        """
        if len(dataset) == 0:
            return {"parts": []}
        found = sample_source([dataset])
        if found is None or any(id(x) not in self._leaves for x in found.leaves):
            raise Unresumable("samples are kept that are none of the benchmark's own")
        columns = {
            name: torch.stack([values[i] for i in range(len(dataset))])
            for name, values in found.others.items()
        }
        return {
            "parts": [list(self._leaves[id(leaf)]) for leaf in found.leaves],
            "part": torch.from_numpy(found.leaf).int(),
            "row": torch.from_numpy(found.position).int(),
            "columns": columns,
        }

    def dataset(self, sources: Mapping[str, Any]) -> AvalancheDataset:
        if not sources["parts"]:
            return concat_datasets([])
        places = sources["parts"]
        wholes = [self._streams[stream][index].dataset for stream, index in places]
        starts = torch.tensor([0, *map(len, wholes)]).cumsum(0)
        rows: Tensor = starts[sources["part"].long()] + sources["row"].long()
        whole = wholes[0] if len(wholes) == 1 else concat_datasets(wholes)
        dataset = whole.subset(rows.tolist())
        if not sources["columns"]:
            return dataset
        attributes = []
        for name, column in sources["columns"].items():
            rows_of = [list(column.unbind(0))]
            data = FlatData(rows_of, discard_elements_not_in_indices=True)
            attributes.append(TensorDataAttribute(data, name=name, use_in_getitem=True))
        return make_avalanche_dataset(dataset, data_attributes=attributes)


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Change what a container holds; anything else stays."""
    if isinstance(value, Mapping):
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(change(part) for part in value)
    return value
