"""Loaders that fetch a whole batch by index, in the very order of Avalanche's own."""

# Avalanche's samplers, which decide what a batch holds, remain, and what torch's DataLoader
# draws around them: the random stream, hence every batch, stays equal. Only the way from
# indices to tensors is another: no Python per sample, no collating, and where one sampler
# decides alone, its order is taken at once.

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


def whole_batches(loader: Any, iterations: int | None = None) -> Any:
    """The batches of an Avalanche or torch loader, fetched at once where the data allow it.

    Args:
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
    """Iterate a loader's batches, each fetched at once, without workers or pinned memory."""

    def __init__(self, loader: Any, resolved: ResolvedRows) -> None:
        self._loader, self._resolved = loader, resolved
        self.draws_at_start = False  # and no random number after the first batch

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[list[Any]]:
        sampler, generator = self._sampler()
        once = not getattr(sampler, "never_ending", False)
        self.draws_at_start = once and _deciding(sampler, generator) is not None
        yield from _batches(self._resolved, sampler, generator)

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

    A data set smaller than its share of a batch gives all its samples each time. One
    number is drawn from torch's generator when iteration starts, and everything follows
    from it: what a model draws meanwhile (dropout) does not change the order of the data.
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
        resolved = resolve_rows(datasets)
        self._samples: ResolvedRows | _Collated = (
            _Collated(ConcatDataset(datasets), collate_fn)
            if resolved is None
            else resolved
        )

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
        batches = _batches(self._samples, sampler, generator)
        yield from islice(batches, self._iterations)


@dataclass
class _Collated:
    """Samples of data that lie in no store, one by one."""

    samples: ConcatDataset[Any]
    collate: Callable[[list[Any]], list[Any]]

    def batch(self, indices: Sequence[int] | Tensor) -> list[Any]:
        return self.collate([self.samples[int(i)] for i in indices])

    def batches(self, indices: Tensor, size: int) -> Iterator[list[Any]]:
        return map(self.batch, indices.split(size))


def _batches(
    samples: ResolvedRows | _Collated, sampler: Any, generator: torch.Generator | None
) -> Iterator[list[Any]]:
    """What a DataLoader with this batch sampler and generator would give."""
    torch.empty((), dtype=torch.int64).random_(generator=generator)  # its workers' seed
    alone = _deciding(sampler, generator)
    if alone is None:
        yield from map(samples.batch, sampler)
        return
    while True:
        order = np.fromiter(alone.sampler, np.int64)
        if alone.drop_last:
            order = order[: len(alone) * alone.batch_size]
        yield from samples.batches(torch.from_numpy(order), alone.batch_size)
        if not getattr(sampler, "never_ending", False):
            return


def _deciding(sampler: Any, generator: torch.Generator | None) -> Any:
    """The batch sampler whose first draw decides all that are made in a pass, or None.

    Then nothing else can draw in between, and the whole order may be taken at the start.
    """
    alone, *more = getattr(sampler, "samplers", [sampler])
    if more or type(alone) is not BatchSampler:
        return None
    inner = alone.sampler
    at_once = type(inner) is RandomSampler and inner.generator is generator
    return alone if at_once or type(inner) is SequentialSampler else None
