"""Avalanche data sets over one tensor of images, from which batches come by index.

An :class:`ImageStore` holds every image of a benchmark once, as bytes, on the device. An
experience is a list of row numbers of it, with a pixel order for permuted images, so
that no experience copies images. :func:`find_rows` looks through any tree that
Avalanche's ``subset`` and ``concat`` have built (replay buffers, cumulative data) and
finds those row numbers again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

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

from kancl.data.pixels import Scaling


class Store(Protocol):
    """Where a benchmark keeps what its networks are fed."""

    @property
    def pixels(self) -> Tensor:
        """``(n, ...)``, one row per sample, on the device."""

    def images(self, rows: Tensor, orders: Tensor | int) -> Tensor:
        """The inputs at ``rows``, float32."""


@dataclass(frozen=True, eq=False)
class ImageStore:
    """All images of a benchmark.

    Args:
        pixels: ``(n_images, height * width)`` uint8.
        shape: ``(1, height, width)``.
        pixel_orders: ``(n_orders, height * width)``: in order o, row r is shown as
            ``pixels[r][pixel_orders[o]]``; None: no image is permuted.
    """

    pixels: Tensor
    shape: tuple[int, int, int]
    scaling: Scaling
    pixel_orders: Tensor | None = None

    def images(self, rows: Tensor, orders: Tensor | int) -> Tensor:
        """The images at ``rows``, ``(n, 1, height, width)`` float32.

        Args:
            orders: pixel order of each row, or one for all of them.
        """
        x = self.scaling(self.pixels.index_select(0, rows))
        if self.pixel_orders is not None:
            if isinstance(orders, int):
                x = x.index_select(1, self.pixel_orders[orders])
            else:
                x = x.gather(1, self.pixel_orders.index_select(0, orders))
        return x.view(-1, *self.shape)


class ImageRows(Dataset):
    """Rows of a store with their targets: the leaf of Avalanche's data set trees.

    Args:
        rows: ``(n,)`` row numbers in ``store.pixels``, on its device.
        targets: ``(n,)`` int64 classes or float32 values, on the same device.
        order: pixel order of these images, if the store has any.
    """

    def __init__(
        self, store: Store, rows: Tensor, targets: Tensor, order: int = 0
    ) -> None:
        self.store = store
        self.rows = rows
        self.targets = targets
        self.order = order

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, float]:
        row = self.rows[index].reshape(1)
        return self.store.images(row, self.order)[0], self.targets[index].item()


@dataclass(frozen=True, eq=False)
class FoundRows:
    """What a data set consists of, sample by sample and in its order.

    Args:
        orders: pixel order of each sample, ``(n,)``, or one for all.
        task_labels: ``(n,)``, None if the data set gives none.
        others: further attributes that a sample carries (DER's logits).
    """

    store: Store
    rows: Tensor
    targets: Tensor
    orders: Tensor | int
    task_labels: Tensor | None
    others: tuple[DataAttribute, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Sequence[int] | Tensor) -> list[Any]:
        """``[x, y, task_labels, ...]`` of these samples, as collating them would give."""
        if not isinstance(indices, Tensor):
            indices = torch.from_numpy(np.array(indices, dtype=np.int64))
        index = indices.to(self.rows.device)
        orders = self.orders
        if isinstance(orders, Tensor):
            orders = orders.index_select(0, index)
        batch: list[Any] = [
            self.store.images(self.rows.index_select(0, index), orders),
            self.targets.index_select(0, index),
        ]
        if self.task_labels is not None:
            batch.append(self.task_labels.index_select(0, index))
        for attribute in self.others:
            batch.append(default_collate([attribute[i] for i in indices.tolist()]))
        return batch


class RowsDataset(TaskAwareSupervisedClassificationDataset):
    """Avalanche's classification data set that also gives many samples at once.

    Loaders that know nothing of kancl (those inside ER-ACE, MIR, GEM, EWC...) ask a data
    set for ``__getitems__`` and then collate the samples as usual.
    """

    _found: FoundRows | None = None

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        if self._found is None:
            self._found = find_rows([self])
        if self._found is None:  # a transform or foreign data was added
            return [self[index] for index in indices]
        x, *labels = self._found.batch(indices)
        n_plain = len(labels) - len(self._found.others)
        columns = [column.tolist() for column in labels[:n_plain]]
        columns += [list(column) for column in labels[n_plain:]]
        return [list(sample) for sample in zip(x.unbind(0), *columns)]

    def _shallow_clone_dataset(self) -> RowsDataset:
        clone = super()._shallow_clone_dataset()
        clone._found = None  # the clone is about to get other transforms or attributes
        return clone


class _Targets(DataAttribute):
    """Targets that need not be walked through for the classes among them."""

    def __init__(self, targets: Tensor) -> None:
        super().__init__(targets.tolist(), "targets")
        self._classes = set(targets.unique().tolist())

    @property
    def uniques(self) -> set[int]:
        return self._classes


def rows_dataset(
    store: Store,
    rows: Tensor,
    targets: Tensor,
    *,
    order: int = 0,
    task_label: int = 0,
) -> RowsDataset:
    """A data set of ``rows`` of ``store``, all of one task."""
    device = store.pixels.device
    leaf = ImageRows(store, rows.to(device), targets.to(device), order)
    return RowsDataset(
        [leaf],
        data_attributes=[
            _Targets(targets),
            TaskLabels(ConstantSequence(task_label, len(rows))),
        ],
    )


def find_rows(datasets: Sequence[Dataset]) -> FoundRows | None:
    """The rows behind the concatenation of ``datasets``, in order.

    Returns: None if part of the data does not lie in one and the same store, or if a
        transform is to be applied to samples.
    """
    parts = [_find_in_dataset(dataset) for dataset in datasets]
    found = _concat(parts)
    if found is not None and isinstance(found.orders, Tensor):
        distinct = found.orders.unique()
        if len(distinct) == 1:
            found = replace(found, orders=int(distinct))
    return found


def as_tensors(
    dataset: AvalancheDataset, limit: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The whole data set as tensors ``(x, y, task_labels)``, order kept.

    Any other data set than ours is read sample by sample.

    Args:
        limit: take only so many samples, at even distances (Avalanche sorts experiences
            by class: the first ones would all show one class).
    """
    positions = torch.arange(len(dataset))
    if limit is not None and limit < len(dataset):
        positions = positions * len(dataset) // limit
        positions = positions[:limit]
    found = find_rows([dataset])
    if found is not None:
        x, y, *labels = found.batch(positions)
    else:
        x, y, *labels = default_collate([dataset[int(i)] for i in positions])
    return x, y, labels[0] if labels else torch.zeros_like(y)


def _find_in_dataset(dataset: Any) -> FoundRows | None:
    if not isinstance(dataset, AvalancheDataset):
        return None
    tree = dataset._flat_data
    found = _find_in_tree(tree, tree._transform_groups.current_group)
    if found is None:
        return None
    carried = {a.name: a for a in dataset._data_attributes.values() if a.use_in_getitem}
    task_labels = carried.pop("targets_task_labels", None)
    if task_labels is not None:
        labels = torch.from_numpy(integers(task_labels.data))
        found = replace(found, task_labels=labels.to(found.rows.device))
    return replace(found, others=tuple(carried.values()))


def _find_in_tree(data: Any, group: str) -> FoundRows | None:
    """Follow the nested concatenations and subsets down to the leaves.

    Args:
        group: the transform group in use (Avalanche's "train" or "eval").
    """
    if isinstance(data, ImageRows):
        orders = torch.full_like(data.rows, data.order)
        return FoundRows(data.store, data.rows, data.targets, orders, None, ())
    if not isinstance(data, FlatData) or _has_transform(data, group):
        return None
    found = _concat([_find_in_tree(part, group) for part in data._datasets])
    if found is None or data._indices is None:
        return found
    index = torch.from_numpy(integers(data._indices)).to(found.rows.device)
    assert isinstance(found.orders, Tensor)
    return replace(
        found,
        rows=found.rows[index],
        targets=found.targets[index],
        orders=found.orders[index],
    )


def _concat(parts: Sequence[FoundRows | None]) -> FoundRows | None:
    """Join what was found; None if something was not, or lies in another store."""
    found = [part for part in parts if part is not None]
    if not found or len(found) < len(parts):
        return None
    first = found[0]
    names = [attribute.name for attribute in first.others]
    for part in found[1:]:
        if (
            part.store is not first.store
            or [attribute.name for attribute in part.others] != names
            or (part.task_labels is None) != (first.task_labels is None)
        ):
            return None
    if len(found) == 1:
        return first
    task_labels = None
    if first.task_labels is not None:
        task_labels = _cat(part.task_labels for part in found)
    others = first.others
    for part in found[1:]:
        others = tuple(a.concat(b) for a, b in zip(others, part.others))
    return FoundRows(
        store=first.store,
        rows=_cat(part.rows for part in found),
        targets=_cat(part.targets for part in found),
        orders=_cat(part.orders for part in found),
        task_labels=task_labels,
        others=others,
    )


def _cat(parts: Iterable[Any]) -> Tensor:
    return torch.cat(list(parts))


def _has_transform(data: Any, group: str) -> bool:
    """Whether a node of Avalanche's tree changes its samples."""
    if not isinstance(data, _FlatDataWithTransform):
        return False
    groups = (data._transform_groups, data._frozen_transform_groups)
    return any(each[group] is not None for each in groups)


def integers(values: Any) -> np.ndarray:
    """Indices or labels, in whichever of Avalanche's sequences they are kept."""
    if isinstance(values, ConstantSequence):
        return np.full(len(values), values[0] if len(values) else 0, dtype=np.int64)
    if isinstance(values, FlatData):
        parts = [integers(part) for part in values._datasets]
        joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return joined if values._indices is None else joined[integers(values._indices)]
    return np.fromiter((int(value) for value in values), np.int64, count=len(values))
