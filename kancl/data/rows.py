"""Avalanche data sets over one tensor of inputs, from which batches come by index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import repeat
from typing import Any

import numpy as np
import torch
from avalanche.benchmarks.utils import AvalancheDataset, DataAttribute, TaskLabels
from avalanche.benchmarks.utils.classification_dataset import (
    TaskAwareSupervisedClassificationDataset,
)
from avalanche.benchmarks.utils.data import _FlatDataWithTransform
from avalanche.benchmarks.utils.flat_data import ConstantSequence, FlatData
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from kancl.data.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Store:
    """All inputs of a benchmark, held once, on the device."""

    values: Tensor  # (n, in_features), bytes, or float32 as they are fed
    shape: tuple[int, ...]  # of one input, such as (channels, height, width)
    scaling: Scaling | None = None  # of bytes; None: values are fed as they are
    pixel_orders: Tensor | None = None  # (n_orders, in_features), of permuted inputs

    def inputs(self, rows: Tensor, orders: Tensor | int) -> Tensor:
        """The inputs at ``rows``, ``(n, *shape)`` float32, in one pixel order or each."""
        x = self.values.index_select(0, rows)
        if self.scaling is not None:
            x = self.scaling(x)
        if self.pixel_orders is not None:
            if isinstance(orders, int):
                x = x.index_select(1, self.pixel_orders[orders])
            else:
                x = x.gather(1, self.pixel_orders.index_select(0, orders))
        return x.view(-1, *self.shape)


@dataclass(eq=False)
class StoredSamples(Dataset):
    """Rows of a store with their targets: the leaf of Avalanche's data set trees."""

    store: Store
    rows: Tensor  # (n,), moved to the store's device
    targets: Tensor  # (n,), int64 classes or float32 values, moved there too
    order: int = 0  # pixel order of these inputs, if the store has any

    def __post_init__(self) -> None:
        device = self.store.values.device
        self.rows, self.targets = self.rows.to(device), self.targets.to(device)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        row = self.rows[index].reshape(1)
        return self.store.inputs(row, self.order)[0], self.targets[index].item()


@dataclass(frozen=True, eq=False)
class SampleSource:
    """Where each sample of data sets comes from: row ``position`` of ``leaves[leaf]``."""

    leaves: list[StoredSamples]
    index: np.ndarray  # (n,), in all leaves, one after the other
    task_labels: np.ndarray | None  # (n,), None if samples carry none
    others: dict[str, DataAttribute]  # what else samples carry (DER's logits), by name

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.leaves)])

    @property
    def leaf(self) -> np.ndarray:
        return np.searchsorted(self.starts, self.index, side="right") - 1

    @property
    def position(self) -> np.ndarray:
        return self.index - self.starts[self.leaf]


def sample_source(
    datasets: Sequence[Dataset], *, plain: bool = False
) -> SampleSource | None:
    """The leaves behind the concatenation of ``datasets``, and the rows taken of them.

    Any tree of Avalanche's ``subset`` and ``concat`` (replay buffers, cumulative data) is
    seen through; with ``plain`` no transform may be in the way.

    Returns: None for foreign data, or data sets that carry different attributes.
    """
    leaves: list[StoredSamples] = []
    parts, carried = [], []
    for dataset in datasets:
        if not isinstance(dataset, AvalancheDataset):
            return None
        tree = dataset._flat_data
        group = tree._transform_groups.current_group if plain else None
        try:
            parts.append(_places(tree, leaves, group))
        except _Foreign:
            return None
        attributes = dataset._data_attributes.values()
        carried.append({a.name: a for a in attributes if a.use_in_getitem})
    if not leaves or any(each.keys() != carried[0].keys() for each in carried):
        return None
    labels = [each.pop("targets_task_labels", None) for each in carried]
    task_labels = None
    if labels[0] is not None:
        task_labels = np.concatenate([_integers(each.data) for each in labels])
    others = {
        name: reduce(lambda a, b: a.concat(b), [each[name] for each in carried])
        for name in carried[0]
    }
    return SampleSource(leaves, np.concatenate(parts), task_labels, others)


@dataclass(frozen=True, eq=False)
class ResolvedRows:
    """What a data set consists of, sample by sample and in its order."""

    store: Store
    rows: Tensor
    targets: Tensor
    orders: Tensor | int  # pixel order of each sample, (n,), or one for all
    task_labels: Tensor | None  # (n,), or () if all are one; None if there are none
    others: tuple[DataAttribute, ...]  # what else samples carry (DER's logits)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def _columns(self) -> list[Any]:
        """``others`` as tensors on the device, ``(n, ...)`` each, where they can be."""
        each = [default_collate([a[i] for i in range(len(self))]) for a in self.others]
        device = self.rows.device
        return [
            c.to(device, non_blocking=True) if isinstance(c, Tensor) else c
            for c in each
        ]

    def batch(self, indices: Sequence[int] | Tensor) -> list[Any]:
        """``[x, y, task_labels, ...]`` of these samples, as collating them would give."""
        if not isinstance(indices, Tensor):
            indices = torch.from_numpy(np.array(indices, dtype=np.int64))
        return next(self.batches(indices, len(indices)))

    def batches(self, indices: Tensor, size: int) -> Iterator[list[Any]]:
        """``size`` samples at a time, in this order: all but the inputs is taken at once."""
        # Not waited for: of memory that is not pinned the driver takes a copy at once.
        index = indices.to(self.rows.device, non_blocking=True)

        def parts(column: Any) -> Iterable[Any]:
            if isinstance(column, Tensor):
                if column.dim() == 0:
                    return column.expand(len(index)).split(size)
                return column.index_select(0, index).split(size)
            return [[column[i] for i in part.tolist()] for part in indices.split(size)]

        one_order = isinstance(self.orders, int)
        orders = repeat(self.orders) if one_order else parts(self.orders)
        labels = [] if self.task_labels is None else [self.task_labels]
        columns = map(parts, [self.targets, *labels, *self._columns])
        for rows, order, *others in zip(parts(self.rows), orders, *columns):
            yield [self.store.inputs(rows, order), *others]


def resolve_rows(datasets: Sequence[Dataset]) -> ResolvedRows | None:
    """The rows behind the concatenation of ``datasets``, in order.

    Returns: None as for a plain ``sample_source``, or if the data lie in several stores.
    """
    source = sample_source(datasets, plain=True)
    if source is None or len({id(leaf.store) for leaf in source.leaves}) > 1:
        return None
    leaves, labels = source.leaves, source.task_labels
    device = leaves[0].rows.device
    index = torch.from_numpy(source.index).to(device)
    orders = np.array([leaf.order for leaf in leaves])[source.leaf]
    one_order = len(orders) > 0 and bool((orders == orders[0]).all())
    return ResolvedRows(
        store=leaves[0].store,
        rows=torch.cat([leaf.rows for leaf in leaves])[index],
        targets=torch.cat([leaf.targets for leaf in leaves])[index],
        orders=int(orders[0]) if one_order else torch.from_numpy(orders).to(device),
        task_labels=None if labels is None else _labels(labels).to(device),
        others=tuple(source.others.values()),
    )


def _labels(labels: np.ndarray) -> Tensor:
    """Task labels ``(n,)``, or their one value: what need not be gathered, nor asked."""
    one = len(labels) > 0 and bool((labels == labels[0]).all())
    return torch.tensor(labels[0]) if one else torch.from_numpy(labels)


def as_tensors(
    dataset: AvalancheDataset, limit: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole data set as tensors ``(x, y, task_labels)``, in their order.

    Args:
        limit: take only so many samples, at even distances (Avalanche sorts experiences
            by class: the first ones would all show one class).
    """
    n = len(dataset)
    most = n if limit is None else min(limit, n)
    positions = torch.arange(most) * n // max(most, 1)
    resolved = resolve_rows([dataset])
    if resolved is not None:
        x, y, *labels = resolved.batch(positions)
    else:
        x, y, *labels = default_collate([dataset[int(i)] for i in positions])
    return x, y, labels[0] if labels else torch.zeros_like(y)


class RowsDataset(TaskAwareSupervisedClassificationDataset):
    """Avalanche's classification data set that also gives many samples at once.

    Loaders that know nothing of kancl (those inside ER-ACE, MIR, GEM, EWC...) ask a data
    set for ``__getitems__`` and then collate the samples as usual.
    """

    _resolved: ResolvedRows | None = None

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        if self._resolved is None:
            self._resolved = resolve_rows([self])
        if self._resolved is None:  # a transform or foreign data was added
            return [self[index] for index in indices]
        x, *labels = self._resolved.batch(indices)
        n_plain = len(labels) - len(self._resolved.others)
        columns = [column.tolist() for column in labels[:n_plain]]
        return [list(s) for s in zip(x.unbind(0), *columns, *labels[n_plain:])]

    def _shallow_clone_dataset(self) -> RowsDataset:
        clone = super()._shallow_clone_dataset()
        clone._resolved = None  # it is about to get other transforms or attributes
        return clone


class _Targets(DataAttribute):
    """Targets that need not be walked through for the classes among them."""

    def __init__(self, targets: Tensor) -> None:
        super().__init__(targets.tolist(), "targets")
        self._classes = set(targets.unique().tolist())

    @property
    def uniques(self) -> set[int]:
        return self._classes


def rows_dataset(leaves: Sequence[StoredSamples], task_label: int = 0) -> RowsDataset:
    """A data set of rows of stores, one leaf after the other, all of one task."""
    targets = torch.cat([leaf.targets for leaf in leaves]).cpu()
    labels = TaskLabels(ConstantSequence(task_label, len(targets)))
    return RowsDataset(leaves, data_attributes=[_Targets(targets), labels])


class _Foreign(Exception):
    """Samples that lie in no store, or are transformed."""


def _places(data: Any, leaves: list[StoredSamples], group: str | None) -> np.ndarray:
    """Each sample of a tree as its number in all ``leaves``, to which new ones are added.

    Raises: _Foreign, also for a transform in Avalanche's ``group`` ("train", "eval").
    """
    if isinstance(data, StoredSamples):
        if data not in leaves:
            leaves.append(data)
        before = leaves[: leaves.index(data)]
        return sum(map(len, before)) + np.arange(len(data))
    if not isinstance(data, FlatData):
        raise _Foreign
    if group and isinstance(data, _FlatDataWithTransform):
        groups = (data._transform_groups, data._frozen_transform_groups)
        if any(each[group] is not None for each in groups):
            raise _Foreign
    return _joined(data, lambda part: _places(part, leaves, group))


def _integers(values: Any) -> np.ndarray:
    """Indices or labels, in whichever of Avalanche's sequences they stand."""
    if isinstance(values, ConstantSequence):
        return np.full(len(values), values[0] if len(values) else 0, dtype=np.int64)
    if isinstance(values, FlatData):
        return _joined(values, _integers)
    return np.fromiter((int(value) for value in values), np.int64, count=len(values))


def _joined(data: FlatData, read: Callable[[Any], np.ndarray]) -> np.ndarray:
    parts = [np.empty(0, dtype=np.int64), *map(read, data._datasets)]
    joined = np.concatenate(parts)
    return joined if data._indices is None else joined[_integers(data._indices)]
