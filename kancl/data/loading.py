"""Loaders that fetch a whole batch by index, in the very order of Avalanche's own.

Avalanche's loaders decide what a batch holds (task-balanced, current beside replayed
data, ...) with samplers that draw from torch's generator. These samplers are kept, and
what torch's ``DataLoader`` draws around them: the random stream, hence every batch, stays
equal. Only the way from indices to tensors is another: no Python per sample, no
collating, and where one sampler decides alone, its order is taken at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils.data_loader import (
    MultiDatasetDataLoader,
    MultiDatasetSampler,
)
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    SequentialSampler,
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


def _batches(
    found: FoundRows, sampler: MultiDatasetSampler, generator: torch.Generator | None
) -> Iterator[list[Any]]:
    """What a DataLoader with this batch sampler and generator would give."""
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # its workers' seed
    if _at_once(sampler, generator):
        indices = _order_at_once(sampler.samplers[0], sampler.never_ending)
    else:
        indices = (torch.from_numpy(np.array(batch)) for batch in sampler)
    for index in indices:
        yield found.batch(index)


def _at_once(sampler: MultiDatasetSampler, generator: torch.Generator | None) -> bool:
    return len(sampler.samplers) == 1 and _decides_ahead(sampler.samplers[0], generator)


def _decides_ahead(sampler: Any, generator: torch.Generator | None) -> bool:
    """Whether all draws that a batch sampler makes in a pass follow from its first.

    Then nothing else can draw in between, and the whole order may be taken at the start.
    """
    if type(sampler) is not BatchSampler:
        return False
    inner = sampler.sampler
    if type(inner) is RandomSampler:
        return inner.generator is generator
    return type(inner) is SequentialSampler


def _order_at_once(sampler: BatchSampler, never_ending: bool) -> Iterator[Tensor]:
    """The indices of each batch; pass after pass if it never ends."""
    while True:
        order = np.fromiter(sampler.sampler, np.int64)
        if sampler.drop_last:
            order = order[: len(sampler) * sampler.batch_size]
        yield from torch.from_numpy(order).split(sampler.batch_size)
        if not never_ending:
            return


class WholeBatchLoader:
    """Iterate an Avalanche loader's batches, each fetched at once.

    Samples lie on the device already: worker processes and pinned memory of the loader
    are ignored.
    """

    def __init__(self, loader: MultiDatasetDataLoader, found: FoundRows) -> None:
        self._loader = loader
        self._found = found
        self.draws_at_start = False
        """Whether the pass under way draws no random number after its first batch."""

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
        self.draws_at_start = not loader.never_ending and _at_once(sampler, generator)
        yield from _batches(self._found, sampler, generator)


class EndlessLoader:
    """Exactly ``iterations`` full batches, the data reshuffled whenever they run out.

    An incomplete batch at the end of the data is dropped; a data set smaller than its
    share of a batch gives all its samples each time. One number is drawn from torch's
    generator when iteration starts, and everything follows from it: what a model draws
    meanwhile (dropout) does not change the order of the data.
    """

    draws_at_start = True

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
            batches = _batches(self._found, sampler, generator)
        else:
            batches = iter(
                DataLoader(
                    ConcatDataset(self._datasets),
                    batch_sampler=sampler,
                    collate_fn=self._collate_fn,
                    generator=generator,
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
