"""Loaders that fetch a whole batch by index, in the very order of Avalanche's own.

Avalanche's loaders decide what a batch holds (task-balanced, current beside replayed
data, ...) with samplers that draw from torch's generator. These samplers are kept, and so
is torch's ``DataLoader`` around them: the random stream, hence every batch, stays equal.
Only the way from indices to tensors is another: no Python per sample, no collating.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from avalanche.benchmarks.utils.data_loader import (
    MultiDatasetDataLoader,
    MultiDatasetSampler,
)
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
)

from kancl.data.rows import FoundRows, find_rows


class _Batches(Dataset):
    """Found rows as a data set that hands out ready batches."""

    def __init__(self, found: FoundRows) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        return self._found.batch(indices)


def _ready(batch: list[Any]) -> list[Any]:
    return batch


class WholeBatchLoader:
    """Iterate an Avalanche loader's batches, each fetched at once.

    Samples lie on the device already: worker processes and pinned memory of the loader
    are ignored.
    """

    def __init__(self, loader: MultiDatasetDataLoader, found: FoundRows) -> None:
        self._loader = loader
        self._batches = _Batches(found)

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Any]]:
        loader = self._loader
        samplers = loader._create_samplers(
            loader.datasets,
            loader.batch_sizes,
            loader.distributed_sampling,
            {**loader.loader_kwargs, "pin_memory": False},
        )
        sampler = MultiDatasetSampler(
            loader.datasets,
            samplers,
            termination_dataset_idx=loader.termination_dataset,
            oversample_small_datasets=loader.oversample_small_datasets,
            never_ending=loader.never_ending,
        )
        generator = loader.loader_kwargs.get("generator")
        yield from DataLoader(
            self._batches,
            batch_sampler=sampler,
            collate_fn=_ready,
            generator=generator,
        )


class EndlessLoader:
    """Exactly ``iterations`` full batches, the data reshuffled whenever they run out.

    An incomplete batch at the end of the data is dropped; a data set smaller than its
    share of a batch gives all its samples each time. One number is drawn from torch's
    generator when iteration starts, and everything follows from it: what a model draws
    meanwhile (dropout) does not change the order of the data.
    """

    def __init__(
        self,
        datasets: Sequence[Any],
        batch_sizes: Sequence[int],
        iterations: int,
        collate_fn: Any = None,
    ) -> None:
        self._datasets = list(datasets)
        self._batch_sizes = list(batch_sizes)
        self._iterations = iterations
        self._collate_fn = collate_fn
        self._found = find_rows(self._datasets)

    def __len__(self) -> int:
        return self._iterations

    def __iter__(self) -> Iterator[list[Any]]:
        generator = torch.Generator()
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        samplers = [
            BatchSampler(
                RandomSampler(dataset, generator=generator),
                batch_size=min(batch_size, len(dataset)),
                drop_last=True,
            )
            for dataset, batch_size in zip(self._datasets, self._batch_sizes)
        ]
        sampler = MultiDatasetSampler(self._datasets, samplers, never_ending=True)
        if self._found is not None:
            data: Dataset = _Batches(self._found)
            collate_fn = _ready
        else:
            data = ConcatDataset(self._datasets)
            collate_fn = self._collate_fn
        batches = iter(
            DataLoader(
                data, batch_sampler=sampler, collate_fn=collate_fn, generator=generator
            )
        )
        for _ in range(self._iterations):
            yield next(batches)


def whole_batches(loader: Any, iterations: int | None = None) -> Any:
    """The same batches as ``loader`` gives, fetched at once where the data allow it.

    Args:
        loader: an Avalanche loader or torch's DataLoader.
        iterations: give exactly so many full batches instead of one pass.
    Returns: a loader; ``loader`` itself where there is nothing to replace.
    Raises: ValueError if ``iterations`` is set and the loader has no batch size.
    """
    if isinstance(loader, (WholeBatchLoader, EndlessLoader)):
        return loader
    if iterations is not None:
        if isinstance(loader, MultiDatasetDataLoader):
            collate_fn = loader.loader_kwargs["collate_fn"]
            return EndlessLoader(
                loader.datasets, loader.batch_sizes, iterations, collate_fn
            )
        if isinstance(loader, DataLoader) and loader.batch_size is not None:
            return EndlessLoader(
                [loader.dataset], [loader.batch_size], iterations, loader.collate_fn
            )
        raise ValueError(
            f"iterations={iterations} needs a loader with a batch size, got "
            f"{type(loader).__name__}: train by epochs instead"
        )
    if isinstance(loader, MultiDatasetDataLoader):
        found = find_rows(loader.datasets)
        return loader if found is None else WholeBatchLoader(loader, found)
    if isinstance(loader, DataLoader):
        found = find_rows([loader.dataset])
        if found is not None:
            return DataLoader(
                _Batches(found),
                batch_sampler=loader.batch_sampler,
                collate_fn=_ready,
                generator=loader.generator,
            )
    return loader
