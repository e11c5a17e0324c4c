"""Loaders that fetch a whole batch by index, in the very order of Avalanche's own."""

# Avalanche's loaders decide what a batch holds (task-balanced, current beside replayed
# data, ...) with samplers that draw from torch's generator. These samplers remain, and
# what torch's DataLoader draws around them: the random stream, hence every batch, stays
# equal. Only the way from indices to tensors is another: no Python per sample, no
# collating, and where one sampler decides alone, its order is taken at once.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
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
    RandomSampler,
    SequentialSampler,
)

from kancl.data.rows import ResolvedRows, resolve_rows

Fetch = Callable[[Tensor], list[Any]]
"""Gives the batch of the samples at these indices."""


def whole_batches(loader: Any, iterations: int | None = None) -> Any:
    """The batches of ``loader``, fetched at once where the data allow it.

    Args:
        loader: an Avalanche loader or torch's DataLoader.
        iterations: give exactly so many full batches instead of one pass.
    Returns: a loader; ``loader`` itself where there is nothing to replace.
    Raises: ValueError if ``iterations`` is set and the loader has no batch size.
    """
    if isinstance(loader, (WholeBatchLoader, EndlessLoader)):
        return loader
    datasets: Any = []
    batch_sizes: Any = [None]
    collate_fn: Any = None
    if isinstance(loader, MultiDatasetDataLoader):
        datasets, batch_sizes = loader.datasets, loader.batch_sizes
        collate_fn = loader.loader_kwargs["collate_fn"]
    elif isinstance(loader, DataLoader) and loader.batch_sampler is not None:
        datasets, batch_sizes = [loader.dataset], [loader.batch_size]
        collate_fn = loader.collate_fn
    if iterations is None:
        resolved = resolve_rows(datasets)
        return loader if resolved is None else WholeBatchLoader(loader, resolved)
    if None in batch_sizes:
        raise ValueError(
            f"iterations={iterations} needs a loader with a batch size, got "
            f"{type(loader).__name__}: train by epochs instead"
        )
    return EndlessLoader(datasets, batch_sizes, iterations, collate_fn)


class WholeBatchLoader:
    """Iterate a loader's batches, each fetched at once.

    Samples lie on the device already: worker processes and pinned memory of the loader
    are ignored.
    """

    def __init__(self, loader: Any, resolved: ResolvedRows) -> None:
        self._loader, self._fetch = loader, resolved.batch
        self.draws_at_start = False
        """Whether the pass under way draws no random number after its first batch."""

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Any]]:
        sampler, generator = self._sampler()
        ahead = _decides_ahead(sampler, generator)
        self.draws_at_start = ahead and not getattr(sampler, "never_ending", False)
        yield from _batches(self._fetch, sampler, generator)

    def _sampler(self) -> tuple[Any, torch.Generator | None]:
        loader = self._loader
        if isinstance(loader, DataLoader):
            return loader.batch_sampler, loader.generator
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
        return sampler, loader.loader_kwargs.get("generator")


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
        collate_fn: Callable[[list[Any]], list[Any]],
    ) -> None:
        self._parts = list(zip(datasets, batch_sizes))
        self._iterations = iterations
        resolved, samples = resolve_rows(datasets), ConcatDataset[Any](datasets)
        self._fetch: Fetch = lambda index: collate_fn([samples[int(i)] for i in index])
        if resolved is not None:
            self._fetch = resolved.batch

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
            for dataset, batch_size in self._parts
        ]
        datasets = [dataset for dataset, _ in self._parts]
        sampler = MultiDatasetSampler(datasets, samplers, never_ending=True)
        yield from islice(_batches(self._fetch, sampler, generator), self._iterations)


def _batches(
    fetch: Fetch, sampler: Any, generator: torch.Generator | None
) -> Iterator[list[Any]]:
    """What a DataLoader with this batch sampler and generator would give."""
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # its workers' seed
    if _decides_ahead(sampler, generator):
        indices = _order_at_once(sampler)
    else:
        indices = (torch.from_numpy(np.array(batch)) for batch in sampler)
    yield from map(fetch, indices)


def _decides_ahead(sampler: Any, generator: torch.Generator | None) -> bool:
    """Whether all draws that a batch sampler makes in a pass follow from its first.

    Then nothing else can draw in between, and the whole order may be taken at the start.
    """
    single = _single(sampler)
    if type(single) is not BatchSampler:
        return False
    if type(single.sampler) is RandomSampler:
        return single.sampler.generator is generator
    return type(single.sampler) is SequentialSampler


def _order_at_once(sampler: Any) -> Iterator[Tensor]:
    """The indices of each batch; pass after pass if it never ends."""
    single, once = _single(sampler), not getattr(sampler, "never_ending", False)
    while True:
        order = np.fromiter(single.sampler, np.int64)
        if single.drop_last:
            order = order[: len(single) * single.batch_size]
        yield from torch.from_numpy(order).split(single.batch_size)
        if once:
            return


def _single(sampler: Any) -> Any:
    """The one sampler that decides alone, or None."""
    samplers = getattr(sampler, "samplers", [sampler])
    return samplers[0] if len(samplers) == 1 else None
